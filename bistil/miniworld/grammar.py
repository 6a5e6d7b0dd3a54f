"""Clauses: a language turns a meaning into words with their gold dependency tree.

Notable: the order of S, O and V, the copula, auxiliaries, negation, subordinate and coordinate clauses are
decided here, noun phrases in `phrases`. A coordinated clause may leave its verb out: an empty node then
stands for it."""

from itertools import pairwise

from bistil.miniworld.meaning import Clause, Noun, Oblique, Pair, Pronoun
from bistil.miniworld.phrases import QUESTION_WORDS, Phrases, Word, capital_form


class Grammar(Phrases):
    """One language: `sentence(meaning)` gives its words in order."""

    def sentence(self, meaning: Clause) -> list[Word]:
        """Return the words of a sentence, full stop or question mark included, the first one capitalised
        where the language does so.
        """
        self._late = []
        words, root = self._clause(meaning, "root", None, main=True)
        words += self._late
        question = meaning.mood == "question"
        words.append(Word("?" if question else ".", "?" if question else ".", "PUNCT", "punct", root))
        words = [
            word for word, after in pairwise(words) if word.form != "," or after.form not in (",", ".", "?")
        ] + words[-1:]
        if self.language.capitals != "none":
            first = next(word for word in words if not word.empty)
            first.form = capital_form(first.form)
        return words

    def _verb(self, clause: Clause, rel: str, head: Word | None) -> tuple[list[Word], Word]:
        """Return negation, auxiliary and verb, in the order of the language."""
        language = self.language
        plural = isinstance(clause.subject, Pair) or (
            isinstance(clause.subject, Noun | Pronoun) and clause.subject.plural
        )
        agrees = language.agreement != "none" and plural and not clause.infinitive
        number = f"Number={'Plur' if plural else 'Sing'}|" if language.agreement != "none" else ""
        future = clause.tense == "Fut"
        affixes: tuple[str, ...]
        if clause.infinitive or future:
            affixes, feats = ("Inf",), "VerbForm=Inf"
        else:
            tense = ("Past",) if clause.tense == "Past" else ("Pres",)
            affixes = tense + (("Verb.Plur",) if agrees else ())
            feats = f"Mood=Ind|{number}Tense={clause.tense}|VerbForm=Fin"
        verb = Word(
            self.lexicon.inflect(clause.verb, affixes),
            self.lexicon.words[clause.verb],
            "VERB",
            rel,
            head,
            feats,
        )
        before: list[Word] = []
        if clause.negative:
            before.append(self._function("not", "PART", "advmod", verb, "Polarity=Neg"))
        if future and not clause.infinitive:
            aux = self.lexicon.inflect("will", ("Verb.Plur",) if agrees else ())
            before.append(
                Word(
                    aux,
                    self.lexicon.words["will"],
                    "AUX",
                    "aux",
                    verb,
                    f"Mood=Ind|{number}Tense=Fut|VerbForm=Fin",
                )
            )
        if clause.infinitive and language.order != "SOV":
            before.append(self._function("to.inf", "PART", "mark", verb))
        return ([verb, *before[::-1]] if language.order == "SOV" else [*before, verb]), verb

    def _copular(self, clause: Clause, rel: str, head: Word | None) -> tuple[list[Word], list[Word], Word]:
        """Return copula words, predicate words and the predicate's head."""
        language = self.language
        plural = isinstance(clause.subject, Pair) or (
            isinstance(clause.subject, Noun | Pronoun) and clause.subject.plural
        )
        if isinstance(clause.predicate, Noun):
            words, top = self._noun(clause.predicate, rel, head, "Nom")
        else:
            concept = clause.predicate or ""
            affixes: tuple[str, ...] = ("Adj.Plur",) if language.agreement == "full" and plural else ()
            top = Word(
                self.lexicon.inflect(concept, affixes),
                self.lexicon.words[concept],
                "ADJ",
                rel,
                head,
                "Degree=Pos",
            )
            words = [*([self._function(clause.degree, "ADV", "advmod", top)] if clause.degree else []), top]
        copula: list[Word] = []
        if language.copula or clause.tense == "Past":
            affixes = (("Past",) if clause.tense == "Past" else ()) + (
                ("Verb.Plur",) if plural and language.agreement != "none" else ()
            )
            tense = "Past" if clause.tense == "Past" else "Pres"
            form = self.lexicon.inflect("be", affixes)
            copula = [
                Word(
                    form, self.lexicon.words["be"], "AUX", "cop", top, f"Mood=Ind|Tense={tense}|VerbForm=Fin"
                )
            ]
        if clause.negative:
            copula.insert(0, self._function("not", "PART", "advmod", top, "Polarity=Neg"))
        return (copula[::-1] if language.order == "SOV" else copula), words, top

    def _oblique(self, oblique: Oblique, top: Word) -> list[Word]:
        phrase = oblique.phrase
        if isinstance(phrase, Pronoun) and phrase.concept in ("where", "when.wh"):
            return [self._function(phrase.concept, "ADV", "advmod", top, "PronType=Int")]
        return self._phrase(phrase, "obl", top, "Loc", oblique.adposition)

    def _clause(
        self, clause: Clause, rel: str, head: Word | None, *, main: bool = False
    ) -> tuple[list[Word], Word]:
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
            objects.append(
                self._phrase(clause.recipient, "iobj" if bare else "obl", top, "Dat", None if bare else "to")
            )
        if clause.object is not None:
            words = self._phrase(clause.object, "obj", top, "Acc")
            if (
                isinstance(clause.object, Pronoun)
                and clause.object.concept in QUESTION_WORDS
                and language.order != "SOV"
            ):
                front += words
            else:
                objects.append(words)
        tail: list[list[Word]] = []
        for oblique in clause.obliques:
            words = self._oblique(oblique, top)
            asks = isinstance(oblique.phrase, Pronoun) and oblique.phrase.concept in QUESTION_WORDS
            if oblique.front or (asks and language.order != "SOV"):
                front += words
            else:
                tail.append(words)
        adverbs = [
            [self._function(concept, "ADV", "advmod", top)]
            for concept in (clause.manner, clause.time)
            if concept
        ]
        wh = isinstance(clause.subject, Pronoun) and clause.subject.concept in QUESTION_WORDS
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
            return [
                *front,
                *subject,
                *flat_adverbs[1:],
                *flat_tail,
                *flat_objects,
                *flat_adverbs[:1],
                *predicate,
                *verb,
            ]
        if order == "VSO" and not wh:
            return (
                [*front, *verb, *predicate, *subject, *flat_objects, *flat_adverbs, *flat_tail]
                if predicate
                else [*front, *verb, *subject, *flat_objects, *flat_tail, *flat_adverbs]
            )
        return [
            *front,
            *subject,
            *verb,
            *predicate,
            *flat_objects,
            *flat_adverbs[:1],
            *flat_tail,
            *flat_adverbs[1:],
        ]

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
        """Return a second clause. If its verb is elided, an empty node stands for the verb and the subject
        takes its place.
        """
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
    return any(isinstance(phrase, Pronoun) and phrase.concept in QUESTION_WORDS for phrase in phrases)
