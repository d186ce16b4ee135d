"""The smooth calibration error: no bins, so no edges that a model could hide behind; with its bias taken out and an interval."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
from scipy import stats as sps

from pytest_mlgates.results import Estimate
from pytest_mlgates.stats.arrays import Bools, Floats
from pytest_mlgates.stats.calibration import folded_mean
from pytest_mlgates.stats.interval import check_confidence, z_quantile


@dataclasses.dataclass(frozen=True)
class _Smoother:
    """Residuals y - p and their squares, summed on a grid over the probability, and their Gaussian smoothing at any width."""

    residual: Floats
    square: Floats

    def smoothed(self, values: Floats, width: float) -> Floats:
        """Values over the grid, smoothed with a Gaussian reflected at 0 and 1. The operator is its own transpose."""
        size = values.size
        frequency = np.arange(size + 1) * (math.pi / size)
        kernel = np.exp(-0.5 * (frequency * width * size) ** 2)
        return np.asarray(np.fft.irfft(np.fft.rfft(np.concatenate((values, values[::-1]))) * kernel, 2 * size)[:size])

    def at(self, width: float) -> tuple[Floats, Floats]:
        """Smoothed residual per cell, and its standard error: a squared Gaussian is a narrower one over 2 √π width."""
        size = self.residual.size
        variance = self.smoothed(self.square, width / math.sqrt(2)) / (2 * math.sqrt(math.pi) * max(width * size, 0.5))
        return self.smoothed(self.residual, width), np.sqrt(np.maximum(variance, 0.0))

    def plug_in(self, width: float) -> float:
        """Sum of the smoothed residual's absolute value."""
        return float(np.abs(self.at(width)[0]).sum())

    def debiased(self, width: float) -> float:
        """The same less its bias: |N(g, s²)| has a mean above |g|."""
        gap, se = self.at(width)
        size = np.abs(gap)
        return float((2 * size - folded_mean(size, se)).sum())


def _smoother(outcome: Bools, probability: Floats, grid: int) -> _Smoother:
    cell = np.minimum((probability * grid).astype(np.intp), grid - 1)
    gap = outcome - probability
    n = probability.size
    return _Smoother(np.bincount(cell, gap, grid) / n, np.bincount(cell, gap * gap, grid) / n**2)


def _fixed_point(function: Callable[[float], float]) -> float:
    """The width at which a falling function equals its argument, by bisection; 0 where it starts below."""
    low, high = 0.0, 1.0
    for _ in range(24):
        middle = (low + high) / 2
        if function(middle) < middle:
            high = middle
        else:
            low = middle
    return high if low > 0 else 0.0


def smooth_plug_in(outcome: Bools, probability: Floats, grid: int = 1000) -> float:
    """Return smECE as its authors define it; like every plug-in its expectation is above the truth.

    Błasiok and Nakkiran, "Smooth ECE: principled reliability diagrams via kernel smoothing" (2023): the residual y - p is
    smoothed over p with a Gaussian reflected at 0 and 1, whose width is the fixed point where the smoothed error equals the
    width. Rows are first collected on a grid of ``grid`` cells.

    Parameters
    ----------
    outcome : ndarray, shape (n,), bool
    probability : ndarray, shape (n,), in [0, 1]
    """
    return _fixed_point(_smoother(outcome, probability, grid).plug_in)


def smooth_error(outcome: Bools, probability: Floats, confidence: float = 0.95, grid: int = 1000) -> Estimate:
    """Return the debiased smooth calibration error with its two-sided interval, cut at zero.

    Parameters
    ----------
    outcome, probability, grid
        As for `smooth_plug_in`.

    Notes
    -----
    The bias of the smoothed error is that of folded normals, cell by cell, as in `calibration_error`. A row moves the error by
    its residual times the smoothed sign of the gap around it (the smoothing is its own transpose), and the fixed point by
    that over 1 - slope of the error in the width.
    """
    check_confidence(confidence)
    told = _smoother(outcome, probability, grid)
    value = _fixed_point(told.debiased)
    width = max(value, 0.5 / grid)
    gap, se = told.at(width)
    slope = 1 + 2 * sps.norm.cdf(-np.abs(gap) / np.where(se > 0, se, 1.0)) * (se > 0)
    pull = told.smoothed(np.sign(gap) * slope, width)
    n = probability.size
    variance = float(told.square @ pull**2) - float(told.residual @ pull) ** 2 / n
    step = 0.1 * width
    steepness = min((told.debiased(width + step) - told.debiased(width - step)) / (2 * step), 0.0)
    half = z_quantile((1 + confidence) / 2) * math.sqrt(max(variance, 0.0)) / (1 - steepness)
    return Estimate(value, max(0.0, value - half), value + half, n, "smooth ECE, debiased", confidence)
