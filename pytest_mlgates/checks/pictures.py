"""What a report draws of predictions and latencies: a few dozen numbers each, however many rows they rest on."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pytest_mlgates.errors import MlgatesError
from pytest_mlgates.stats import Problem, arrays

ROC_POINTS = 41
RESIDUAL_BANDS = 12
LATENCY_BINS = 30

Floats = npt.NDArray[np.float64]


def of_predictions(problem: Problem, prediction: Any, baseline: Any = None) -> dict[str, Any]:
    """Return the curves of a candidate and, where there is one, of its baseline.

    Parameters
    ----------
    problem
        Outcomes of the holdout, n rows.
    prediction, baseline : array-like, shape (n,) or (n, classes)
        What both say of the same rows.

    Returns
    -------
    dict
        ``roc`` for a binary task, ``residuals`` for a regression, each by ``candidate`` and ``baseline``; empty for many
        classes and for predictions that are no probabilities.
    """
    given = {"candidate": prediction} | ({} if baseline is None else {"baseline": baseline})
    try:
        both = {k: arrays.finite("y_pred", p) for k, p in given.items()}
    except MlgatesError:  # class names, or a table of classes: judged by the metric, and not drawn
        return {}
    if problem.task == "regression":
        return {"residuals": {k: residual_bands(problem.target, p) for k, p in both.items()}}
    if problem.task == "binary":
        return {"roc": {k: roc_points(problem.target, p) for k, p in both.items()}}
    return {}


def roc_points(target: npt.NDArray[np.bool_], score: Floats, points: int = ROC_POINTS) -> dict[str, list[float]]:
    """Return false and true positive rates at ``points`` places of the ROC curve, from (0, 0) to (1, 1).

    The places are evenly spread over the distinct scores' ranks among both classes, so that either end is drawn finely.
    """
    order = np.argsort(-score, kind="stable")
    hit = target[order]
    # ties share one point of the curve
    last = np.append(np.flatnonzero(np.diff(score[order])), score.size - 1)
    tpr = np.cumsum(hit)[last] / max(int(hit.sum()), 1)
    fpr = np.cumsum(~hit)[last] / max(int((~hit).sum()), 1)
    wanted = np.linspace(0, 1, points)
    along = np.searchsorted((tpr + fpr) / 2, wanted[1:-1])
    keep = np.unique(np.minimum(along, last.size - 1))
    return {
        "fpr": [0.0, *_short(fpr[keep]), 1.0],
        "tpr": [0.0, *_short(tpr[keep]), 1.0],
    }


def residual_bands(target: Floats, prediction: Floats, bands: int = RESIDUAL_BANDS) -> list[dict[str, float]]:
    """Return, for equally filled bands of the prediction, the 10th, 50th and 90th percentile of target − prediction."""
    order = np.argsort(prediction, kind="stable")
    out = []
    for part in np.array_split(order, min(bands, target.size)):
        low, middle, high = np.quantile(target[part] - prediction[part], (0.1, 0.5, 0.9))
        numbers = _short(np.array([prediction[part].mean(), low, middle, high]))
        out.append({"n": int(part.size), **dict(zip(("predicted", "p10", "p50", "p90"), numbers, strict=True))})
    return out


def latency_histogram(seconds: Floats, bins: int = LATENCY_BINS) -> dict[str, list[Any]]:
    """Return bin edges in ms, evenly spaced in the logarithm, and the calls in each bin."""
    ms = np.maximum(seconds * 1e3, 1e-6)
    low, high = float(ms.min()), float(ms.max())
    edges = np.geomspace(low, max(high, low * 1.01), bins + 1)
    edges[0], edges[-1] = low, max(high, edges[-1])  # rounding may not lose the extremes
    counts, _ = np.histogram(ms, edges)
    return {"edges_ms": _short(edges), "counts": [int(c) for c in counts]}


def _short(values: Floats) -> list[float]:
    """Five significant digits: a picture shows no more."""
    return [float(f"{v:.5g}") for v in values]
