"""Which entries go and which come: pure functions on scores and sorted keys (thesis Algorithms 2 and 3, drop
and grow).

Notable: every tie goes to the lowest index, so an update is a function of its inputs alone; the best of an
outer product are found in blocks of rows, best rows first, without forming the product."""

import torch
from torch import Tensor

Z95 = 1.96  # a normal distribution's 95 % lies within so many standard errors


def largest(scores: Tensor, count: int) -> Tensor:
    """Return the sorted indices of the `count` largest scores, ties to the lowest index. Shape: [n] ->
    [min(count, n)].
    """
    if count >= len(scores):
        return torch.arange(len(scores), device=scores.device)
    if count <= 0:
        return torch.empty(0, dtype=torch.int64, device=scores.device)
    threshold = scores.topk(count, sorted=False).values.min()
    above = (scores > threshold).nonzero().squeeze(1)
    ties = (scores == threshold).nonzero().squeeze(1)[: count - len(above)]
    return torch.cat([above, ties]).sort().values


def doubtful(means: Tensor, errors: Tensor, count: int) -> int:
    """Return how many scores beyond the `count` largest could belong to them: their 95 % interval holds, or
    lies above, the least of these.

    Args:
        means, errors: scores and their standard errors. Shape: [n], [n].
    """
    if not 0 < count < len(means):
        return 0
    chosen = torch.zeros_like(means, dtype=torch.bool)
    chosen[largest(means, count)] = True
    return int((means + Z95 * errors >= means[chosen].min())[~chosen].sum())


def exchange(
    active: Tensor, worth: Tensor, dropped: Tensor, keys: Tensor, scores: Tensor, *, regrow: bool
) -> tuple[Tensor, Tensor]:
    """Choose what replaces the dropped entries; return the mask of those that really go, and as many sorted
    keys that come.

    Args:
        active: sorted keys of the support. Shape: [K].
        worth: what speaks for keeping each of them. Shape: [K].
        dropped: which of them should go, the least worthy. Shape: [K], bool.
        keys, scores: sorted candidate keys and what speaks for growing each. Shape: [C], [C].
        regrow: whether a dropped entry may come back at once.

    Candidates that stay in the support are passed over. Where too few candidates are left, the worthiest of
    the dropped stay.
    """
    dropped = dropped.clone()
    while True:
        free = ~torch.isin(keys, active[~dropped] if regrow else active)
        grown = keys[free][largest(scores[free], int(dropped.sum()))]
        missing = int(dropped.sum()) - len(grown)
        if missing == 0:
            return dropped, grown
        leaving = dropped.nonzero().squeeze(1)
        dropped[leaving[largest(worth[leaving], missing)]] = False


def top_of_outer(
    row: Tensor, column: Tensor, count: int, excluded: Tensor, *, block: int = 1 << 20
) -> tuple[Tensor, Tensor]:
    """Return the sorted flat positions of the `count` largest row_i * column_j, and those products (thesis
    eq. 7.7, the same order).

    Args:
        row, column: non-negative accumulators. Shape: [r], [c].
        excluded: sorted flat positions that cannot be chosen.
        block: entries of the product that exist at one time (at least one row).

    Shape: -> [n], [n], with n = min(count, r * c - len(excluded)).
    """
    width, order = len(column), row.argsort(descending=True, stable=True)
    rank = torch.empty_like(order).index_copy_(0, order, torch.arange(len(order), device=order.device))
    excluded_rank, excluded_column = rank[excluded // width], excluded % width
    best = torch.empty(0, dtype=torch.int64, device=row.device)
    scores = torch.empty(0, dtype=row.dtype, device=row.device)
    step, highest = max(1, block // width), column.max()
    for start in range(0, len(order), step):
        if len(best) == count and (count == 0 or bool(row[order[start]] * highest < scores.min())):
            break
        rows = order[start : start + step].sort().values
        place = torch.empty_like(rank).index_copy_(0, rows, torch.arange(len(rows), device=rows.device))
        product = torch.outer(row[rows], column)
        here = (excluded_rank >= start) & (excluded_rank < start + step)
        product[place[order[excluded_rank[here]]], excluded_column[here]] = -1.0
        flat = product.view(-1)
        some = largest(flat, count)
        some = some[flat[some] >= 0]
        found = torch.cat([best, rows[some // width] * width + some % width])
        found, by_position = found.sort()
        values = torch.cat([scores, flat[some]])[by_position]
        chosen = largest(values, count)
        best, scores = found[chosen], values[chosen]
    return best, scores
