"""Word alignment from translations (IBM Model 1), used to place a new language's embeddings among those a
model has already.

Notable: an encoder of one language becomes the start of a multilingual one when the embedding of each new
piece begins as the weighted mean of the pieces it translates to. Brown et al. 1993, Model 1; the idea of
placing embeddings so is that of WECHSEL (Minixhofer et al. 2022)."""

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_matrix


def ibm1(
    foreign: Sequence[Sequence[int]], known: Sequence[Sequence[int]], *, rounds: int = 6, least: int = 3
) -> csr_matrix:
    """Translation table p(known piece | foreign piece), by expectation maximisation over sentence pairs.

    Args:
        foreign: token ids of each sentence in the new language; `known`: those of its translation.
        least: foreign pieces seen in fewer sentences get an empty row.

    Returns:
        Shape: [max foreign id + 1, max known id + 1]; a row sums to 1 or is empty.
    """
    source = np.concatenate(
        [np.repeat(np.unique(f), len(set(k))) for f, k in zip(foreign, known, strict=True)]
    )
    target = np.concatenate([np.tile(np.unique(k), len(set(f))) for f, k in zip(foreign, known, strict=True)])
    sentence = np.concatenate(
        [np.full(len(set(f)) * len(set(k)), i) for i, (f, k) in enumerate(zip(foreign, known, strict=True))]
    )
    width = int(target.max()) + 1
    cell, where = np.unique(source.astype(np.int64) * width + target, return_inverse=True)
    # t(foreign | known): each known piece spreads its mass over the foreign pieces, and a foreign occurrence
    # is explained by the known
    # pieces of its sentence.
    cell_source, cell_target = cell // width, cell % width
    table = 1.0 / np.maximum(np.bincount(cell_target), 1)[cell_target]
    group, group_of = np.unique(
        sentence.astype(np.int64) * (int(source.max()) + 1) + source, return_inverse=True
    )
    expected: np.ndarray = np.zeros(len(cell))
    for _ in range(rounds):
        weight = table[where]
        share = weight / np.bincount(group_of, weights=weight, minlength=len(group))[group_of]
        expected = np.bincount(where, weights=share, minlength=len(cell))
        table = expected / np.bincount(cell_target, weights=expected)[cell_target]
    seen = np.bincount(group % (int(source.max()) + 1), minlength=int(source.max()) + 1)
    expected = np.where(seen[cell_source] >= least, expected, 0.0)
    matrix = csr_matrix((expected, (cell_source, cell_target)), shape=(int(source.max()) + 1, width))
    rows = np.asarray(matrix.sum(axis=1)).ravel()
    return csr_matrix(matrix.multiply(1.0 / np.where(rows > 0, rows, 1.0)[:, None]))
