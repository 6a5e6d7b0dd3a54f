"""From syntactic words to running text: contractions, empty nodes left out, punctuation joined to the word
before.

Notable: a contraction ("in" + "the" as one token) covers two syntactic words, as the multiword tokens of real
treebanks do.
"""

from collections.abc import Sequence
from typing import NamedTuple

from bistil.miniworld.grammar import Grammar
from bistil.miniworld.phrases import Word


class Token(NamedTuple):
    """One token of the text, with the one or two syntactic words in it."""

    form: str
    words: tuple[Word, ...]


def surface(words: Sequence[Word], grammar: Grammar) -> list[Token]:
    """Return the tokens of a sentence in order."""
    spoken = [word for word in words if not word.empty]
    tokens: list[Token] = []
    index = 0
    while index < len(spoken):
        word = spoken[index]
        after = spoken[index + 1] if index + 1 < len(spoken) else None
        joins = after is not None and after.upos == "DET" and after.form == grammar.article
        if after is not None and joins and word.upos == "ADP" and word.lemma in grammar.contracting:
            tokens.append(Token(word.form + after.form, (word, after)))
            index += 2
        else:
            tokens.append(Token(word.form, (word,)))
            index += 1
    return tokens


def text(tokens: Sequence[Token]) -> str:
    """Return the running text of a sentence."""
    line = ""
    for token in tokens:
        line += ("" if token.words[0].upos == "PUNCT" or not line else " ") + token.form
    return line


def find(tokens: Sequence[Token], entity: object) -> tuple[int, str] | None:
    """Return the character offset and the text of an entity (the very object the meaning holds), or None when
    it is not said.
    """
    offset, start, parts = 0, -1, []
    for index, token in enumerate(tokens):
        if index and token.words[0].upos != "PUNCT":
            offset += 1
        if token.words[0].entity is entity:
            start = offset if start < 0 else start
            parts.append(token.form)
        elif parts:
            break
        offset += len(token.form)
    return (start, " ".join(parts)) if parts else None
