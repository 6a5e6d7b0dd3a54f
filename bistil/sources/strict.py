"""What the evaluation script of CoNLL-18 refuses in a CoNLL-U file that is good enough to train on.

Notable: the rules are those of the script's loader: a blank line ends every sentence and stands nowhere else,
comments come before the first word, and a multiword token is followed by exactly its words."""

from collections.abc import Iterator
from pathlib import Path

from bistil.settings import files


def remarks(path: Path) -> Iterator[str]:
    """What is not strict in a CoNLL-U file, each with its line; the file's words, ids and trees are taken for
    checked.
    """
    begun, inside, number = False, range(0), 0
    for number, line in files.lines(path):
        if line.startswith("#"):
            if begun:
                yield f"line {number}: a comment after the first word of its sentence"
            continue
        if not line.strip():
            if line:
                yield f"line {number}: a blank line with white space in it"
            if not begun:
                yield f"line {number}: a blank line where no sentence ends"
            if inside:
                yield f"line {number}: a multiword token without all its words"
            begun, inside = False, range(0)
            continue
        begun = True
        name = line.split("\t", 1)[0]
        first, dash, last = name.partition("-")
        if dash:
            if inside:
                yield f"line {number}: the multiword token {name} within another one"
            elif int(first) >= int(last):
                yield f"line {number}: the multiword token {name} of no two words"
            inside = range(int(first), int(last) + 1)
        elif inside and "." in name:
            yield f"line {number}: the empty node {name} within a multiword token"
        elif inside:
            if int(name) != inside[0]:
                yield f"line {number}: the word {name} where the multiword token wants {inside[0]}"
            inside = inside[1:]
    if begun:
        yield f"line {number}: no blank line after the last sentence"
