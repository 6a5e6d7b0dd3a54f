"""Maximum spanning trees with one root, over numpy.

Notable: the single root costs nothing extra. Taking the same large number off every root edge makes each
further root too expensive, so one run of Chu-Liu-Edmonds is enough, and the best of the trees with one root
comes out. Most sentences skip even that: where the best head of each word already gives a tree, it is the
answer, and that is looked at for the whole batch at once."""

from collections.abc import Sequence

import numpy as np

from bistil.errors import InputError

NOTHING = -100


def is_tree(heads: Sequence[int] | np.ndarray) -> bool:
    """Whether heads (of words 1..n, 0 = root) reach the root from each word, with exactly one word under the
    root.
    """
    pointers = np.concatenate([[0], np.asarray(heads, dtype=np.int64)])
    return bool((pointers[1:] == 0).sum() == 1 and not _ends(pointers).any())


def decode(arcs: np.ndarray, words: np.ndarray) -> np.ndarray:
    """Best single-root tree of each sentence.

    Args:
        arcs: scores of head candidates, candidate 0 is the root. Shape: [B, W, W + 1].
        words: True where there is a word; words come first in each row. Shape: [B, W].

    Returns:
        heads, -100 where there is no word. Shape: [B, W] int64.

    Raises:
        InputError: as `maximum_tree` does.
    """
    possible = (
        np.pad(words, ((0, 0), (1, 0)), constant_values=True)[:, None, :]
        & ~np.eye(words.shape[1] + 1, dtype=bool)[1:]
    )
    greedy = np.where(words, np.where(possible, arcs, -np.inf).argmax(2), 0)
    loops = _ends(np.pad(greedy, ((0, 0), (1, 0)))).any(1)
    lost = (words & ~np.isfinite(np.take_along_axis(arcs, greedy[:, :, None], 2)[:, :, 0])).any(1)
    heads = np.where(words, greedy, NOTHING)
    for row in np.flatnonzero(loops | lost | ((heads == 0).sum(1) > 1)):
        n = words[row].sum()
        heads[row, :n] = maximum_tree(arcs[row, :n, : n + 1])
    return heads


def maximum_tree(scores: np.ndarray) -> np.ndarray:
    """Heads of the tree with one root and the highest sum of scores.

    Args:
        scores: `scores[i, j]` is the score of head j for word i + 1; a word as its own head is never taken,
            nor a head whose score is -inf. Shape: [n, n + 1].

    Returns:
        heads. Shape: [n] int64.

    Raises:
        InputError: where scores are NaN or inf, or -inf leaves no tree with one root.
    """
    n = len(scores)
    full = np.full((n + 1, n + 1), -np.inf)
    full[1:] = scores
    np.fill_diagonal(full, -np.inf)
    finite = full[np.isfinite(full)]
    span = finite.max() - finite.min() if len(finite) else 0.0
    full[:, 0] -= 1.0 + n * span
    with np.errstate(invalid="ignore"):  # -inf less -inf, where no tree is left
        heads = _arborescence(full)[1:]
    if not is_tree(heads) or not np.isfinite(full[range(1, n + 1), heads]).all():
        raise InputError(
            f"Scores that leave a tree with one root were expected for {n} words, but"
            f" {np.isneginf(scores).sum()} of {scores.size} are -inf and {np.isnan(scores).sum()} NaN. Give"
            " scores of finite numbers."
        )
    return heads


def _ends(pointers: np.ndarray) -> np.ndarray:
    """Where each node stands after at least n steps towards its head: node 0, or a node on a cycle. Shape:
    [..., n] -> [..., n].
    """
    for _ in range(pointers.shape[-1].bit_length()):
        pointers = np.take_along_axis(pointers, pointers, -1)
    return pointers


def _arborescence(scores: np.ndarray) -> np.ndarray:
    """Chu-Liu-Edmonds: `scores[d, h]` for dependent d and head h, node 0 is the root. Shape: [n, n] -> heads
    [n] (heads[0] is 0).

    A path grows from a node by best heads. Where it bites itself, the cycle becomes one new node, whose score
    for a head is what the best of its members gains by taking that head; where it meets the root or an
    earlier path, it is done. Heads stay the original nodes.
    """
    n = len(scores)
    rows, heads, done = list(scores), [0] * n, [True] + [False] * (n - 1)
    outermost = np.arange(n)  # the node that each original node has become a part of
    cycles: list[tuple[list[int], np.ndarray]] = []
    for start in range(1, n):
        path = [] if done[outermost[start]] else [int(outermost[start])]
        while path:
            node = path[-1]
            heads[node] = int(rows[node].argmax())
            above = int(outermost[heads[node]])
            if done[above]:
                for finished in path:
                    done[finished] = True
                path = []
            elif above in path:
                cycle = path[path.index(above) :]
                gains = np.stack([rows[member] - rows[member][heads[member]] for member in cycle])
                inside = np.isin(outermost, cycle)
                rows.append(np.where(inside, -np.inf, gains.max(0)))
                path = [*path[: -len(cycle)], len(heads)]
                outermost[inside] = len(heads)
                heads.append(0)
                done.append(False)
                cycles.append((cycle, gains.argmax(0)))
            else:
                path.append(above)
    # The last contracted comes first: the member that gains most by the whole's head takes it.
    while cycles:
        cycle, best = cycles.pop()
        head = heads.pop()
        heads[cycle[best[head]]] = head
    return np.asarray(heads)
