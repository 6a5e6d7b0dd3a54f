"""Maximum spanning trees with one root, over numpy.

Notable: the single root costs nothing extra. Taking the same large number off every root edge makes each further root too expensive,
so one run of Chu-Liu-Edmonds is enough, and the best of the trees with one root comes out. Most sentences skip even that: where the
best head of each word already gives a tree, it is the answer.
"""

from collections.abc import Sequence

import numpy as np

NOTHING = -100


def is_tree(heads: Sequence[int] | np.ndarray) -> bool:
    """Whether heads (of words 1..n, 0 = root) reach the root from each word, with exactly one word under the root."""
    pointers = np.concatenate([[0], np.asarray(heads, dtype=np.int64)])
    return bool((pointers[1:] == 0).sum() == 1 and not _ends(pointers).any())


def decode(arcs: np.ndarray, words: np.ndarray) -> np.ndarray:
    """Best single-root tree of each sentence.

    :param arcs: scores of head candidates, candidate 0 is the root. Shape: [B, W, W + 1].
    :param words: True where there is a word; words come first in each row. Shape: [B, W].
    :returns: heads, -100 where there is no word. Shape: [B, W] int64.
    """
    heads = np.full(words.shape, NOTHING, dtype=np.int64)
    for row, n in enumerate(words.sum(1)):
        if n:
            heads[row, :n] = maximum_tree(arcs[row, :n, : n + 1])
    return heads


def maximum_tree(scores: np.ndarray) -> np.ndarray:
    """Heads of the tree with one root and the highest sum of scores.

    :param scores: `scores[i, j]` is the score of head j for word i + 1; a word as its own head is never taken. Shape: [n, n + 1].
    :returns: heads. Shape: [n] int64.
    """
    n = len(scores)
    full = np.full((n + 1, n + 1), -np.inf)
    full[1:] = scores
    np.fill_diagonal(full, -np.inf)
    greedy = full[1:].argmax(1)
    if is_tree(greedy):
        return greedy
    finite = full[np.isfinite(full)]
    full[:, 0] -= 1.0 + n * (finite.max() - finite.min())
    return _arborescence(full)[1:]


def _ends(pointers: np.ndarray) -> np.ndarray:
    """Where each node stands after at least n steps towards its head: node 0, or a node on a cycle."""
    for _ in range(len(pointers).bit_length()):
        pointers = pointers[pointers]
    return pointers


def _cycle(heads: np.ndarray) -> np.ndarray | None:
    ends = _ends(heads)
    if not ends.any():
        return None
    node = int(ends[ends.nonzero()[0][0]])
    cycle = [node]
    while heads[cycle[-1]] != node:
        cycle.append(int(heads[cycle[-1]]))
    return np.asarray(cycle)


def _arborescence(scores: np.ndarray) -> np.ndarray:
    """Chu-Liu-Edmonds: `scores[d, h]` for dependent d and head h, node 0 is the root. Shape: [n, n] -> heads [n] (heads[0] is 0)."""
    heads = scores.argmax(1)
    heads[0] = 0
    cycle = _cycle(heads)
    if cycle is None:
        return heads
    rest = np.setdiff1d(np.arange(len(scores)), cycle)
    gains = scores[np.ix_(cycle, rest)] - scores[cycle, heads[cycle]][:, None]
    leaving = scores[np.ix_(rest, cycle)]
    entry, exit_ = gains.argmax(0), leaving.argmax(1)
    merged = len(rest)
    small = np.full((merged + 1, merged + 1), -np.inf)
    small[:merged, :merged] = scores[np.ix_(rest, rest)]
    small[merged, :merged], small[:merged, merged] = gains.max(0), leaving.max(1)
    inner = _arborescence(small)
    for dependent in range(1, merged):
        head = inner[dependent]
        heads[rest[dependent]] = cycle[exit_[dependent]] if head == merged else rest[head]
    outside = inner[merged]
    heads[cycle[entry[outside]]] = rest[outside]
    return heads
