"""Noun phrases: a language turns nouns, names, pronouns and dates into words with their heads.

Notable: every word gets its head when it is made, so the treebank is exact by construction. Order of
adjectives, possessors, adpositions and relative clauses, case, articles and capitals are decided here."""

from abc import ABC, abstractmethod

from bistil.miniworld.lexicon import Lexicon
from bistil.miniworld.meaning import Clause, Noun, Pair, Phrase, Pronoun
from bistil.miniworld.settings import LanguageSettings
from bistil.miniworld.world import Date, Name


class Word:
    """One syntactic word: form, lemma, part of speech, features, relation to `head` (None for the root), IOB2
    tag and what it names.
    """

    __slots__ = ("empty", "entity", "feats", "form", "head", "lemma", "rel", "tag", "upos")

    def __init__(
        self, form: str, lemma: str, upos: str, rel: str, head: "Word | None", feats: str = "_"
    ) -> None:
        self.form, self.lemma, self.upos, self.rel, self.head, self.feats = (
            form,
            lemma,
            upos,
            rel,
            head,
            feats,
        )
        self.tag = "O"
        self.entity: Name | Date | None = None
        self.empty = False


_CASES = ("Acc", "Dat", "Gen", "Loc")
QUESTION_WORDS = ("who", "what", "where", "when.wh")


class Phrases(ABC):
    """The noun-phrase half of a language's grammar."""

    def __init__(self, language: LanguageSettings, lexicon: Lexicon) -> None:
        self.language, self.lexicon = language, lexicon
        self.contracting = (
            frozenset(lexicon.words[concept] for concept in ("in", "on", "at", "to", "from", "of"))
            if language.contraction
            else frozenset()
        )
        self.article = lexicon.words["the"]
        self._late: list[Word] = []

    @abstractmethod
    def _clause(
        self, clause: Clause, rel: str, head: Word | None, *, main: bool = False
    ) -> tuple[list[Word], Word]:
        """Return the words of a clause and its head; `grammar.Grammar` knows how."""

    def _function(self, concept: str, upos: str, rel: str, head: Word | None, feats: str = "_") -> Word:
        form = self.lexicon.words[concept]
        return Word(form, form, upos, rel, head, feats)

    def _join(self, head: list[Word], near: list[list[Word]], before: bool) -> list[Word]:
        """Put the parts around the head's words, the first part nearest."""
        for part in near:
            head = part + head if before else head + part
        return head

    def _phrase(
        self, phrase: Phrase | Date, rel: str, head: Word | None, case: str, adposition: str | None = None
    ) -> list[Word]:
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
            words = self._join(
                words,
                [[self._function(adposition, "ADP", "case", top)]],
                self.language.adposition == "before",
            )
        return words

    def _pronoun(self, phrase: Pronoun, rel: str, head: Word | None, case: str) -> Word:
        marked = self.language.case and case in _CASES
        form = self.lexicon.inflect(phrase.concept, (case,) if marked else ())
        kind = "Int" if phrase.concept in QUESTION_WORDS else "Prs"
        feats = (f"Case={case if marked else 'Nom'}|" if self.language.case else "") + (
            f"PronType={kind}"
            if kind == "Int"
            else f"Number={'Plur' if phrase.plural else 'Sing'}|PronType=Prs"
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
                lemma, form = capital_form(lemma), capital_form(form)
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
            form = capital_form(form) if capital else form
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
            form, lemma = capital_form(form), capital_form(lemma)
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
            return [
                self._function(
                    noun.determiner,
                    "DET",
                    "det",
                    top,
                    "PronType=Dem" if noun.determiner == "this" else "PronType=Tot",
                )
            ]
        if (
            not self.language.article
            or (noun.plural and not noun.definite)
            or (noun.number and not noun.definite)
        ):
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
            word = Word(
                self.lexicon.inflect(concept, affixes), self.lexicon.words[concept], "ADJ", "amod", top, feats
            )
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
        pronoun = Word(
            form, self.lexicon.words["which"], "PRON", "obj" if case == "Acc" else "nsubj", verb, feats
        )
        comma = [Word(",", ",", "PUNCT", "punct", verb)] if language.commas else []
        block = [*comma, pronoun, *inner]
        if language.extraposition and clause.mood == "heavy":
            self._late += block
            return words
        return [*words, *block, *([Word(",", ",", "PUNCT", "punct", verb)] if language.commas else [])]


def capital_form(form: str) -> str:
    """Return the form with its first letter in upper case."""
    return form[:1].upper() + form[1:]
