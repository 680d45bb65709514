"""Exact quantiles, interpolated linearly as `percentile_cont` does, also of values that come with counts."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tasks.cleaning.partials import Ints

Floats = npt.NDArray[np.float64]


def quantile(values: npt.ArrayLike, share: float) -> float:
    """The quantile of some values; NaN without any."""
    ordered = np.sort(np.asarray(values, np.int64))
    if not len(ordered):
        return float("nan")
    return float(quantiles_by_group(ordered, np.ones(len(ordered), np.int64), np.zeros(1, np.int64), share)[0])


def quantiles_by_group(values: Ints, weights: Ints, starts: Ints, share: float) -> Floats:
    """The quantile of each group of values that each occur `weight` times.

    Sorted by group and value; group i begins at row `starts[i]`, and no group is empty. A value is found by its rank
    among all rows, so nothing is repeated.
    """
    reached = np.cumsum(weights)
    before = np.concatenate([[0], reached])[starts]
    size = np.add.reduceat(weights, starts)
    rank = share * (size - 1)
    low = np.floor(rank).astype(np.int64)
    high = np.minimum(low + 1, size - 1)
    lower = values[np.searchsorted(reached, before + low, side="right")].astype(np.float64)
    upper = values[np.searchsorted(reached, before + high, side="right")].astype(np.float64)
    return np.asarray(lower + (upper - lower) * (rank - low), np.float64)
