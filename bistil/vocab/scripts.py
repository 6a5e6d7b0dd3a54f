"""Which scripts corpora are written in, and the single characters of a vocabulary that belong to them.

Notable: a letter's script is the first word of its Unicode name (LATIN, CYRILLIC, CJK), which the standard
library knows; digits, punctuation, signs and marks belong to every script."""

import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEAST = 0.01
"""Share of a corpus's letters from which on it counts as written in a script; a name in another is less."""


NO_SCRIPTS = (
    *("ALEF", "ANGSTROM", "BET", "BLACK-LETTER", "CARON", "DALET", "DOUBLE-STRUCK", "EULER", "FEMININE"),
    *("FULLWIDTH", "GIMEL", "HALFWIDTH", "IDEOGRAPHIC", "INFORMATION", "KATAKANA-HIRAGANA", "KELVIN"),
    *("MASCULINE", "MATHEMATICAL", "MICRO", "MODIFIER", "OHM", "PLANCK", "ROMAN", "SCRIPT", "SUPERSCRIPT"),
    *("TURNED", "VERTICAL"),
)
"""First words of the names of letters that are no scripts: signs such as º, µ, ʼ and ー."""


def of_no_script(character: str) -> bool:
    """Whether a letter is a sign that text of any script, or of several, may have."""
    return script(character) in NO_SCRIPTS


def script(character: str) -> str:
    """The script of a letter, empty for what is none."""
    return unicodedata.name(character, "").partition(" ")[0] if character.isalpha() else ""


def written_in(tokens: Mapping[int, str], weights: Sequence[NDArray[Any]]) -> set[str]:
    """The scripts that the letters of at least one corpus are of, with the empty one.

    Args:
        tokens: the text of each token, by its id. weights: how often each occurs, one array a corpus.
    """
    found = {""}
    for one in weights:
        letters: dict[str, float] = defaultdict(float)
        for i in np.flatnonzero(one).tolist():
            for name in filter(None, map(script, tokens.get(i, ""))):
                letters[name] += float(one[i])
        total = sum(letters.values())
        found |= {name for name, count in letters.items() if count >= LEAST * total}
    return found
