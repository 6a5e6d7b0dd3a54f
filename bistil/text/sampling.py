"""Which examples make up which batch: decided once from the seed, never by mutable iterator state.

Notable: batch number k of a run is a pure function of (seed, k). That is what makes an interrupted run resume
in the very same place."""

from collections.abc import Mapping, Sequence

import numpy as np


def epochs(
    n_examples: int,
    n_batches: int,
    batch_size: int,
    *,
    seed: int,
    lengths: Sequence[int] | np.ndarray | None = None,
    pool: int = 16,
) -> np.ndarray:
    """Example indices of `n_batches` batches drawn epoch by epoch without replacement.

    With `lengths`, batches are cut from length-sorted pools of `pool` batches, so that little of a batch is
    padding, the less the larger the pool; the order of the batches in a pool stays random.

    Returns:
        Shape: [n_batches, batch_size], int64. Where fewer than `batch_size` examples exist, an epoch repeats
        inside a batch.
    """
    rng = np.random.Generator(np.random.PCG64([seed, 0x5EED]))
    needed = n_batches * batch_size
    order = (
        np.concatenate([rng.permutation(n_examples) for _ in range(-(-needed // max(n_examples, 1)))])[
            :needed
        ]
        if needed
        else np.empty(0)
    )
    batches = order.astype(np.int64).reshape(n_batches, batch_size)
    if lengths is None:
        return batches
    size_of = np.asarray(lengths)
    for start in range(0, n_batches, pool):
        some = batches[start : start + pool].ravel()
        by_length = some[np.argsort(size_of[some], kind="stable")].reshape(-1, batch_size)
        batches[start : start + pool] = by_length[rng.permutation(len(by_length))]
    return batches


def languages(weights: Mapping[str, float], steps: int, *, seed: int, run: int = 1) -> list[str]:
    """The language of each step, drawn with the given weights (BiStil stage 1: one half each), anew every
    `run` steps.

    Returns:
        `steps` language codes.
    """
    codes = list(weights)
    share = np.array([weights[code] for code in codes], dtype=np.float64)
    rng = np.random.Generator(np.random.PCG64([seed, 0x1A9]))
    drawn = rng.choice(len(codes), size=-(-steps // run), p=share / share.sum())
    return [codes[i] for i in np.repeat(drawn, run)[:steps]]


def in_turn(codes: Sequence[str], steps: int) -> list[str]:
    """The language of each step where they take turns (Bui's Algorithm 1).

    Returns:
        `steps` language codes.
    """
    return [codes[step % len(codes)] for step in range(steps)]


def temperature(sizes: Mapping[str, int], alpha: float) -> dict[str, float]:
    """Sampling weights proportional to size ** alpha (alpha 1: by size; alpha 0: uniform)."""
    return {code: float(size) ** alpha for code, size in sizes.items()}
