"""Grammar: a language turns a meaning into words with their gold dependency tree.

Notable: every word gets its head when it is made, so the treebank is exact by construction. All typology is decided in this file:
order of S, O and V, of adpositions, adjectives, possessors and relative clauses, case, agreement, articles, copula, capitals.
"""

from bistil.miniworld.lexicon import Lexicon
from bistil.miniworld.meaning import Clause, Noun, Oblique, Pair, Phrase, Pronoun
from bistil.miniworld.settings import LanguageSettings
from bistil.miniworld.world import Date, Name


class Word:
    """One syntactic word: form, lemma, part of speech, features, relation to `head` (None for the root), IOB2 tag and what it names."""

    __slots__ = ("empty", "entity", "feats", "form", "head", "lemma", "rel", "tag", "upos")

    def __init__(self, form: str, lemma: str, upos: str, rel: str, head: "Word | None", feats: str = "_") -> None:
        self.form, self.lemma, self.upos, self.rel, self.head, self.feats = form, lemma, upos, rel, head, feats
        self.tag = "O"
        self.entity: Name | Date | None = None
        self.empty = False


_CASES = ("Acc", "Dat", "Gen", "Loc")
_WH = ("who", "what", "where", "when.wh")


class Grammar:
    """One language: `sentence(meaning)` gives its words in order."""

    def __init__(self, language: LanguageSettings, lexicon: Lexicon) -> None:
        self.language, self.lexicon = language, lexicon
        self.contracting = (
            frozenset(lexicon.words[concept] for concept in ("in", "on", "at", "to", "from", "of")) if language.contraction else frozenset()
        )
        self.article = lexicon.words["the"]
        self._late: list[Word] = []

    def sentence(self, meaning: Clause) -> list[Word]:
        """Return the words of a sentence, full stop or question mark included, the first one capitalised where the language does so."""
        self._late = []
        words, root = self._clause(meaning, "root", None, main=True)
        words += self._late
        question = meaning.mood == "question"
        words.append(Word("?" if question else ".", "?" if question else ".", "PUNCT", "punct", root))
        if self.language.capitals != "none":
            first = next(word for word in words if not word.empty)
            first.form = _capital(first.form)
        return words

    # Noun phrases

    def _function(self, concept: str, upos: str, rel: str, head: Word | None, feats: str = "_") -> Word:
        form = self.lexicon.words[concept]
        return Word(form, form, upos, rel, head, feats)

    def _join(self, head: list[Word], near: list[list[Word]], before: bool) -> list[Word]:
        """Put the parts around the head's words, the first part nearest."""
        for part in near:
            head = part + head if before else head + part
        return head

    def _phrase(self, phrase: Phrase | Date, rel: str, head: Word | None, case: str, adposition: str | None = None) -> list[Word]:
        if isinstance(phrase, Name):
            words, top = self._name(phrase, rel, head, case)
        elif isinstance(phrase, Noun):
            words, top = self._noun(phrase, rel, head, case)
        elif isinstance(phrase, Pair):
            words = self._phrase(phrase.first, rel, head, case)
            top = next(word for word in words if word.head is head)
            second = self._phrase(phrase.second, "conj", top, case)
            inner = next(word for word in second if word.head is top)
            words = [*words, self._function(phrase.conjunction, "CCONJ", "cc", inner), *second]
        elif isinstance(phrase, Date):
            words, top = self._date(phrase, rel, head)
        else:
            top = self._pronoun(phrase, rel, head, case)
            words = [top]
        if adposition is not None:
            words = self._join(words, [[self._function(adposition, "ADP", "case", top)]], self.language.adposition == "before")
        return words

    def _pronoun(self, phrase: Pronoun, rel: str, head: Word | None, case: str) -> Word:
        marked = self.language.case and case in _CASES
        form = self.lexicon.inflect(phrase.concept, (case,) if marked else ())
        kind = "Int" if phrase.concept in _WH else "Prs"
        feats = (f"Case={case if marked else 'Nom'}|" if self.language.case else "") + (
            f"PronType={kind}" if kind == "Int" else f"Number={'Plur' if phrase.plural else 'Sing'}|PronType=Prs"
        )
        return Word(form, self.lexicon.words[phrase.concept], "PRON", rel, head, feats)

    def _name(self, name: Name, rel: str, head: Word | None, case: str) -> tuple[list[Word], Word]:
        parts = list(name.parts)
        if name.label == "ORG" and self.language.adjective == "after":
            parts.reverse()
        capital = self.language.capitals != "none"
        words: list[Word] = []
        marked = self.language.case and self.language.affix == "suffix" and case in _CASES
        feats = f"Case={case if marked else 'Nom'}|Number=Sing" if self.language.case else "Number=Sing"
        for index, part in enumerate(parts):
            lemma = self.lexicon.names[part] if ":" in part else self.lexicon.words[part]
            form = self.lexicon.attach(lemma, (case,)) if marked and index == len(parts) - 1 else lemma
            if capital:
                lemma, form = _capital(lemma), _capital(form)
            word = Word(form, lemma, "PROPN", "flat" if words else rel, words[0] if words else head, feats)
            word.entity = name
            if name.label != "EVT":
                word.tag = ("I-" if words else "B-") + name.label
            words.append(word)
        return words, words[0]

    def _date(self, date: Date, rel: str, head: Word | None) -> tuple[list[Word], Word]:
        capital = self.language.capitals != "none"
        if date.month or date.weekday:
            form = self.lexicon.words[f"month{date.month}" if date.month else f"weekday{date.weekday}"]
            form = _capital(form) if capital else form
            top = Word(form, form, "PROPN", rel, head, "Number=Sing")
        else:
            top = Word(str(date.year), str(date.year), "NUM", rel, head, "NumType=Card")
        words = [top]
        if date.month:
            if date.day:
                words.insert(0, Word(str(date.day), str(date.day), "NUM", "nummod", top, "NumType=Card"))
            if date.year:
                words.append(Word(str(date.year), str(date.year), "NUM", "nmod", top, "NumType=Card"))
        if self.language.order == "SOV":
            words.reverse()
        for index, word in enumerate(words):
            word.tag = "I-DATE" if index else "B-DATE"
            word.entity = date
        return words, top

    def _noun(self, noun: Noun, rel: str, head: Word | None, case: str) -> tuple[list[Word], Word]:
        language = self.language
        marked = language.case and case in _CASES
        affixes = (("Plur",) if noun.plural else ()) + ((case,) if marked else ())
        number = "Plur" if noun.plural else "Sing"
        feats = f"Case={case if marked else 'Nom'}|Number={number}" if language.case else f"Number={number}"
        form, lemma = self.lexicon.inflect(noun.concept, affixes), self.lexicon.words[noun.concept]
        if language.capitals == "nouns":
            form, lemma = _capital(form), _capital(lemma)
        top = Word(form, lemma, "NOUN", rel, head, feats)
        words = [top]
        if noun.name is not None:
            words += self._name(noun.name, "appos", top, "Nom")[0]
        if noun.adjectives:
            words = self._join(words, self._adjectives(noun, top), language.adjective == "before")
        if noun.possessor is not None:
            words = self._join(words, [self._possessor(noun.possessor, top)], language.possessor == "before")
        if noun.number is not None:
            digits = noun.number.isdigit()
            numeral = noun.number if digits else self.lexicon.words[noun.number]
            words.insert(0, Word(numeral, numeral, "NUM", "nummod", top, "NumType=Card"))
        words = self._determiner(noun, top) + words
        if noun.inside is not None:
            inner = self._phrase(noun.inside[1], "nmod", top, "Loc", noun.inside[0])
            words = inner + words if language.adposition == "after" else words + inner
        if noun.relative is not None:
            words = self._relative(noun.relative, words, top)
        return words, top

    def _determiner(self, noun: Noun, top: Word) -> list[Word]:
        if noun.determiner is not None:
            return [self._function(noun.determiner, "DET", "det", top, "PronType=Dem" if noun.determiner == "this" else "PronType=Tot")]
        if not self.language.article or (noun.plural and not noun.definite) or (noun.number and not noun.definite):
            return []
        if noun.possessor is not None and self.language.possessor == "before":
            return []
        feats = f"Definite={'Def' if noun.definite else 'Ind'}|PronType=Art"
        return [self._function("the" if noun.definite else "a", "DET", "det", top, feats)]

    def _adjectives(self, noun: Noun, top: Word) -> list[list[Word]]:
        parts = []
        agrees = self.language.agreement == "full"
        affixes = ("Adj.Plur",) if agrees and noun.plural else ()
        feats = f"Degree=Pos|Number={'Plur' if noun.plural else 'Sing'}" if agrees else "Degree=Pos"
        for index, concept in enumerate(noun.adjectives):
            word = Word(self.lexicon.inflect(concept, affixes), self.lexicon.words[concept], "ADJ", "amod", top, feats)
            degree = [self._function(noun.degree, "ADV", "advmod", word)] if noun.degree and not index else []
            parts.append([*degree, word])
        return parts

    def _possessor(self, possessor: Noun | Name, top: Word) -> list[Word]:
        return self._phrase(possessor, "nmod:poss", top, "Gen", None if self.language.case else "of")

    def _relative(self, clause: Clause, words: list[Word], top: Word) -> list[Word]:
        language = self.language
        inner, verb = self._clause(clause, "acl:relcl", top)
        if language.relative == "before":
            return [*inner, self._function("that", "PART", "mark", verb), *words]
        case = "Acc" if clause.gap == "object" else "Nom"
        marked = language.case and case == "Acc"
        form = self.lexicon.inflect("which", (case,) if marked else ())
        feats = f"Case={case}|PronType=Rel" if language.case else "PronType=Rel"
        pronoun = Word(form, self.lexicon.words["which"], "PRON", "obj" if case == "Acc" else "nsubj", verb, feats)
        comma = [Word(",", ",", "PUNCT", "punct", verb)] if language.commas else []
        block = [*comma, pronoun, *inner]
        if language.extraposition and clause.mood == "heavy":
            self._late += block
            return words
        return [*words, *block, *([Word(",", ",", "PUNCT", "punct", verb)] if language.commas else [])]

    # Clauses

    def _verb(self, clause: Clause, rel: str, head: Word | None) -> tuple[list[Word], Word]:
        """Return negation, auxiliary and verb, in the order of the language."""
        language = self.language
        plural = isinstance(clause.subject, Pair) or (isinstance(clause.subject, Noun | Pronoun) and clause.subject.plural)
        agrees = language.agreement != "none" and plural and not clause.infinitive
        number = f"Number={'Plur' if plural else 'Sing'}|" if language.agreement != "none" else ""
        future = clause.tense == "Fut"
        if clause.infinitive or future:
            affixes, feats = ("Inf",), "VerbForm=Inf"
        else:
            tense = ("Past",) if clause.tense == "Past" else ("Pres",)
            affixes = tense + (("Verb.Plur",) if agrees else ())
            feats = f"Mood=Ind|{number}Tense={clause.tense}|VerbForm=Fin"
        verb = Word(self.lexicon.inflect(clause.verb, affixes), self.lexicon.words[clause.verb], "VERB", rel, head, feats)
        before: list[Word] = []
        if clause.negative:
            before.append(self._function("not", "PART", "advmod", verb, "Polarity=Neg"))
        if future and not clause.infinitive:
            aux = self.lexicon.inflect("will", ("Verb.Plur",) if agrees else ())
            before.append(Word(aux, self.lexicon.words["will"], "AUX", "aux", verb, f"Mood=Ind|{number}Tense=Fut|VerbForm=Fin"))
        if clause.infinitive and language.order != "SOV":
            before.append(self._function("to.inf", "PART", "mark", verb))
        return ([verb, *before[::-1]] if language.order == "SOV" else [*before, verb]), verb

    def _copular(self, clause: Clause, rel: str, head: Word | None) -> tuple[list[Word], list[Word], Word]:
        """Return copula words, predicate words and the predicate's head."""
        language = self.language
        plural = isinstance(clause.subject, Pair) or (isinstance(clause.subject, Noun | Pronoun) and clause.subject.plural)
        if isinstance(clause.predicate, Noun):
            words, top = self._noun(clause.predicate, rel, head, "Nom")
        else:
            concept = clause.predicate or ""
            affixes = ("Adj.Plur",) if language.agreement == "full" and plural else ()
            top = Word(self.lexicon.inflect(concept, affixes), self.lexicon.words[concept], "ADJ", rel, head, "Degree=Pos")
            words = [*([self._function(clause.degree, "ADV", "advmod", top)] if clause.degree else []), top]
        copula: list[Word] = []
        if language.copula or clause.tense == "Past":
            affixes = (("Past",) if clause.tense == "Past" else ()) + (("Verb.Plur",) if plural and language.agreement != "none" else ())
            tense = "Past" if clause.tense == "Past" else "Pres"
            form = self.lexicon.inflect("be", affixes)
            copula = [Word(form, self.lexicon.words["be"], "AUX", "cop", top, f"Mood=Ind|Tense={tense}|VerbForm=Fin")]
        if clause.negative:
            copula.insert(0, self._function("not", "PART", "advmod", top, "Polarity=Neg"))
        return (copula[::-1] if language.order == "SOV" else copula), words, top

    def _oblique(self, oblique: Oblique, top: Word) -> list[Word]:
        phrase = oblique.phrase
        if isinstance(phrase, Pronoun) and phrase.concept in ("where", "when.wh"):
            return [self._function(phrase.concept, "ADV", "advmod", top, "PronType=Int")]
        return self._phrase(phrase, "obl", top, "Loc", oblique.adposition)

    def _clause(self, clause: Clause, rel: str, head: Word | None, *, main: bool = False) -> tuple[list[Word], Word]:
        language = self.language
        if clause.predicate is not None:
            verb_words, predicate, top = self._copular(clause, rel, head)
        else:
            verb_words, top = self._verb(clause, rel, head)
            predicate = []
        front: list[Word] = []
        subject = self._phrase(clause.subject, "nsubj", top, "Nom") if clause.subject is not None else []
        objects: list[list[Word]] = []
        if clause.recipient is not None:
            bare = language.case or language.order == "SVO"
            objects.append(self._phrase(clause.recipient, "iobj" if bare else "obl", top, "Dat", None if bare else "to"))
        if clause.object is not None:
            words = self._phrase(clause.object, "obj", top, "Acc")
            if isinstance(clause.object, Pronoun) and clause.object.concept in _WH and language.order != "SOV":
                front += words
            else:
                objects.append(words)
        tail: list[list[Word]] = []
        for oblique in clause.obliques:
            words = self._oblique(oblique, top)
            asks = isinstance(oblique.phrase, Pronoun) and oblique.phrase.concept in _WH
            if oblique.front or (asks and language.order != "SOV"):
                front += words
            else:
                tail.append(words)
        adverbs = [[self._function(concept, "ADV", "advmod", top)] for concept in (clause.manner, clause.time) if concept]
        wh = isinstance(clause.subject, Pronoun) and clause.subject.concept in _WH
        words = self._arrange(front, subject, verb_words, predicate, objects, tail, adverbs, wh=wh)
        if main and clause.mood == "question" and not wh and not _asks(clause):
            words.insert(0, self._function("whether", "PART", "discourse", top))
        return self._attach_clauses(clause, words, top), top

    def _arrange(
        self,
        front: list[Word],
        subject: list[Word],
        verb: list[Word],
        predicate: list[Word],
        objects: list[list[Word]],
        tail: list[list[Word]],
        adverbs: list[list[Word]],
        *,
        wh: bool,
    ) -> list[Word]:
        order = self.language.order
        flat_objects = [word for part in objects for word in part]
        flat_tail = [word for part in tail for word in part]
        flat_adverbs = [word for part in adverbs for word in part]
        if order == "SOV":
            return [*front, *subject, *flat_adverbs[1:], *flat_tail, *flat_objects, *flat_adverbs[:1], *predicate, *verb]
        if order == "VSO" and not wh:
            return [*front, *verb, *predicate, *subject, *flat_objects, *flat_adverbs, *flat_tail] if predicate else [
                *front, *verb, *subject, *flat_objects, *flat_tail, *flat_adverbs
            ]  # fmt: skip
        return [*front, *subject, *verb, *predicate, *flat_objects, *flat_adverbs[:1], *flat_tail, *flat_adverbs[1:]]

    def _attach_clauses(self, clause: Clause, words: list[Word], top: Word) -> list[Word]:
        language = self.language
        final = language.order == "SOV"
        if clause.complement is not None:
            rel = "xcomp" if clause.complement.infinitive else "ccomp"
            inner, verb = self._clause(clause.complement, rel, top)
            if not clause.complement.infinitive:
                mark = [self._function("that", "SCONJ", "mark", verb)]
                inner = [*inner, *mark] if final else [*mark, *inner]
                if language.commas and not final:
                    inner.insert(0, Word(",", ",", "PUNCT", "punct", verb))
            if final:
                position = next(i for i, word in enumerate(words) if word is top)
                words = [*words[:position], *inner, *words[position:]]
            else:
                words = words + inner
        if clause.adverbial is not None:
            concept, meaning = clause.adverbial
            inner, verb = self._clause(meaning, "advcl", top)
            mark = [self._function(concept, "SCONJ", "mark", verb)]
            comma = [Word(",", ",", "PUNCT", "punct", verb)] if language.commas else []
            words = [*inner, *mark, *comma, *words] if final else [*words, *comma, *mark, *inner]
        if clause.coordinate is not None:
            words = [*words, *self._coordinate(clause.coordinate, top)]
        return words

    def _coordinate(self, coordinate: tuple[str, Clause], top: Word) -> list[Word]:
        """Return a second clause. If its verb is elided, an empty node stands for the verb and the subject takes its place."""
        concept, meaning = coordinate
        inner, verb = self._clause(meaning, "conj", top)
        head = verb
        if meaning.elided:
            head = next(word for word in inner if word.head is verb and word.rel == "nsubj")
            for word in inner:
                if word.head is verb and word is not head:
                    word.head, word.rel = head, "orphan"
            head.head, head.rel, verb.empty = top, "conj", True
        comma = [Word(",", ",", "PUNCT", "punct", head)] if self.language.commas else []
        return [*comma, self._function(concept, "CCONJ", "cc", head), *inner]


def _asks(clause: Clause) -> bool:
    phrases = (clause.object, *(oblique.phrase for oblique in clause.obliques))
    return any(isinstance(phrase, Pronoun) and phrase.concept in _WH for phrase in phrases)


def _capital(form: str) -> str:
    return form[:1].upper() + form[1:]
