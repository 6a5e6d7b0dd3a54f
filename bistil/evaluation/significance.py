"""Is a difference between two systems more than luck of the test set: the paired bootstrap over examples.

Notable:
* the method: examples are drawn anew, with replacement, as many as there are, and both systems are scored on
  the same draws (Koehn 2004, section 3). The scores of a draw are recomputed from sums, so they are corpus
  scores, never means of sentence scores: every metric is a ratio of two sums over examples
  (`tasks.task.Counted`). With several targets each test set is drawn for itself, and a draw's difference is
  the mean over targets and seeds. The draws lie around the measured difference d and not around 0, so p is
  the share of draws at least |d| away from d (Berg-Kirkpatrick, Burkett and Klein 2012, section 2, here with
  two sides). It says how the systems as trained would do on other examples; what another seed would do, the
  spread over seeds says;
* draws depend on the test file alone, so scores of two experiments, or of two runs of this program, are
paired too.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save, save_file

from bistil.errors import InputError
from bistil.store.whole import write_whole
from bistil.tasks.task import Counted, Task

RESAMPLES = 1000
KEPT = "outcomes.safetensors"
_AT_ONCE = 2**21


@dataclass(frozen=True)
class Outcomes:
    """What each example of a test file adds to a system's scores.

    test: what the file is, by content. sums: by metric, numerators and denominators. Shape of each: [2, n].
    """

    test: str
    sums: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Difference:
    """A difference of two scores in points: its value, the interval that holds 95 % of the draws, and p."""

    value: float
    low: float
    high: float
    p: float


def keep_outcomes(
    path: Path, task: Task, examples: Sequence[Any], predictions: Sequence[Any], *, test: str
) -> None:
    """Write what `read_outcomes` reads, a few bytes an example; nothing for a task that cannot tell.

    Args:
        test: what the test file is, by content.
    """
    if isinstance(task, Counted):
        sums = {
            metric: _smallest(np.array(pair)) for metric, pair in task.outcomes(examples, predictions).items()
        }
        save_file(sums, path, {"test": test})


def read_outcomes(path: Path) -> Outcomes | None:
    """What was kept of an evaluation's examples; None of a floor, of retrieval, and of one made before
    outcomes were kept.

    Raises:
        InputError: where the file is damaged.
    """
    if not path.is_file():
        return None
    try:
        with safe_open(path, "numpy") as file:
            test = file.metadata()["test"]
            sums = {metric: file.get_tensor(metric) for metric in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"Outcomes of an evaluation were expected in {path}, but it is damaged ({error}). Delete it, and"
            " run the experiment again."
        ) from error
    for metric, pair in sums.items():
        if pair.ndim != 2 or len(pair) != 2 or not pair.size or not np.isfinite(pair).all():
            raise InputError(
                f"Two rows of finite numbers, one a test example, were expected under {metric!r} of {path}."
                " Delete it, and run the experiment again."
            )
    return Outcomes(test, sums)


def write_outcomes(folder: Path, kept: Mapping[str, Outcomes]) -> None:
    """Write outcomes of several evaluations, one file each, for `read_all_outcomes`; then files of an earlier
    call go. None: no folder.
    """
    for name, outcomes in kept.items():
        write_whole(folder / f"{name}.safetensors", save(dict(outcomes.sums), {"test": outcomes.test}))
    for old in folder.glob("*.safetensors"):
        if old.stem not in kept:
            old.unlink()


def read_all_outcomes(folder: Path) -> dict[str, Outcomes]:
    """The outcomes of a folder by evaluation; none where there is no such folder."""
    return {
        path.stem: found for path in sorted(folder.glob("*.safetensors")) if (found := read_outcomes(path))
    }


def _smallest(sums: np.ndarray) -> np.ndarray:
    """The same numbers in as few bytes as hold them: most are small counts."""
    kind = np.min_scalar_type(int(sums.max(initial=0))) if (sums == np.rint(sums)).all() else np.float32
    return np.ascontiguousarray(sums.astype(kind))


def resampled(sums: np.ndarray, test: str, *, resamples: int = RESAMPLES) -> np.ndarray:
    """The scores of systems in percent, first as measured and then on each draw of the examples.

    Args:
        sums: numerators and denominators. Shape: [S, 2, n]. test: what the file is; the same for the same
            file gives the same draws.

    Returns:
        Shape: [S, resamples + 1].
    """
    systems, _, n = sums.shape
    columns = sums.reshape(2 * systems, n).T.astype(np.float64)
    random = np.random.default_rng(list(test.encode()))
    totals = [columns.sum(0, keepdims=True)]
    for start in range(0, resamples, size := max(_AT_ONCE // n, 1)):
        rows = min(size, resamples - start)
        drawn = random.integers(0, n, (rows, n)) + n * np.arange(rows)[:, None]
        totals.append(np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n) @ columns)
    top, bottom = np.concatenate(totals).T.reshape(systems, 2, -1).swapaxes(0, 1)
    return 100 * np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0)


def signed_rank(differences: Collection[float]) -> float:
    """Wilcoxon's signed-rank test, one-sided and exact: how likely ranks of gains as large as these are where
    a gain is as likely as a loss.

    Differences of 0 are left out; equal ones share their mean rank. 1 where nothing is left.
    """
    found = np.array([one for one in np.round(list(differences), 9) if one])
    _, place, times = np.unique(np.abs(found), return_inverse=True, return_counts=True)
    twice = (2 * times.cumsum() - times + 1)[place]  # a mean of ranks may be a half
    shares = np.zeros(twice.sum() + 1)  # of all signs, by the sum of ranks with a plus
    shares[0] = 1.0
    for rank in twice:
        shares[rank:] += shares[: len(shares) - rank].copy()
        shares /= 2
    return float(shares[twice[found > 0].sum() :].sum())


def difference(left: Collection[np.ndarray], right: Collection[np.ndarray]) -> Difference:
    """Left minus right, of two systems' scores on the same test sets in the same order.

    Args:
        left: and `right`, for each target and seed the row of `resampled`. Shape of each: [resamples + 1].
    """
    found = np.mean(np.stack(list(left)) - np.stack(list(right)), axis=0)
    value, draws = found[0], found[1:]
    low, high = np.percentile(draws, (2.5, 97.5))
    away = np.abs(draws - value) >= abs(value) - 1e-12
    return Difference(float(value), float(low), float(high), float((1 + away.sum()) / (1 + len(draws))))
