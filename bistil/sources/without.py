"""Rows of a data set whose text another one is tested on, so that they can be left out of training.

Notable: texts are compared by their letters and digits alone, whatever their case, white space and
punctuation. Nearest to a text are the rows that share most runs of letters with it, as a share of all runs of
both.
"""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
Places = set[tuple[str, int]]
"""Rows by split and number."""
RUN = 5
COLUMNS = ("premise", "hypothesis", "question", "context", "text")


def shared(splits: Mapping[str, Iterable[Row]], texts: Iterable[Row], *, nearest: bool = False) -> Places:
    """Return which rows of the splits have the text of one of some other rows.

    Args:
        nearest: whether those that are nearest to each of these texts are among them too, however near.
    """
    keys = {(name, i): letters(row) for name, rows in splits.items() for i, row in enumerate(rows)}
    wanted = set(map(letters, texts))
    found = {place for place, key in keys.items() if key in wanted}
    return found | _nearest(keys, sorted(wanted)) if nearest else found


def letters(row: Row) -> str:
    """The letters, marks and digits of what a row has to read, in small letters; all of it where there are
    none.
    """
    parts = row["tokens"] if "tokens" in row else [row[name] for name in COLUMNS if name in row]
    text = unicodedata.normalize("NFC", " ".join(map(str, parts)))
    kept = (c for c in text.casefold() if unicodedata.category(c)[0] in "LMN")
    return "".join(kept) or text


def _nearest(keys: Mapping[tuple[str, int], str], wanted: Sequence[str]) -> Places:
    """The rows nearest to each text that shares a run with any of them: several where they are alike."""
    runs = {place: _runs(key) for place, key in keys.items()}
    having: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for place, own in runs.items():
        for run in own:
            having[run].append(place)
    found: Places = set()
    for text in wanted:
        own = _runs(text)
        common = Counter(place for run in own for place in having.get(run, ()))
        likeness = {place: n / (len(own) + len(runs[place]) - n) for place, n in common.items()}
        most = max(likeness.values(), default=0.0)
        found |= {place for place, one in likeness.items() if one == most}
    return found


def _runs(key: str) -> frozenset[str]:
    return frozenset(key[start : start + RUN] for start in range(max(1, len(key) - RUN + 1)))
