"""Features that know the target, and models that know nothing."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from pytest_mlgates.checks.performance import performance
from pytest_mlgates.checks.verdicts import check, limit, skip
from pytest_mlgates.results import GateResult, Verdict
from pytest_mlgates.stats import NotEnough, Problem, arrays
from pytest_mlgates.stats.delong import placements

_ROWS = 100_000


@check("feature_leakage")
def single_feature_leakage(
    y_true: Any, frame: Any, *, task: str = "regression", max_association: float = 0.98, positive: Any = None
) -> GateResult:
    """FAIL when one feature alone all but tells the target.

    Parameters
    ----------
    y_true : array-like, shape (n,)
    frame : DataFrame, n rows
        The model's inputs.
    max_association
        Of 0 to 1: |Spearman's rank correlation| for a number and a numeric target, |2 AUC - 1| for a binary one, the
        correlation ratio η for a column of text with at most fifty values.

    Returns
    -------
    GateResult
        ``estimate`` is the strongest association; ``details["associations"]`` holds all.

    Notes
    -----
    At most 100,000 rows are used, evenly spread.
    """
    most = limit("max_association", max_association, most=1.0)
    problem = Problem.of(task, y_true, positive=positive)
    arrays.same_length(y_true=problem.target, frame=frame)
    if problem.target.size < 30:
        raise NotEnough(f"{problem.target.size} rows are too few to tell a leak from chance, expected at least 30")
    if np.ptp(problem.target.astype(np.float64)) == 0:
        raise NotEnough("y_true is constant, no feature can tell it")
    step = max(1, problem.target.size // _ROWS)
    target = problem.target[::step]
    found = {str(c): _association(frame[c].iloc[::step], target, task) for c in frame.columns}
    known = {name: value for name, value in found.items() if value is not None}
    if not known:
        return skip("feature_leakage", "no feature with several values", "")
    name, value = max(known.items(), key=lambda item: item[1])
    summary = f"strongest single feature {name}: association {value:.3f} with the target, {most:g} allowed; n={target.size:,}"
    leaks = [n for n, v in known.items() if v > most]
    hint = f"{', '.join(leaks)} alone all but tells the target: is it known at prediction time?" if leaks else ""
    verdict = Verdict.FAIL if leaks else Verdict.PASS
    return GateResult(
        "feature_leakage",
        verdict,
        value,
        threshold=most,
        n=target.size,
        method="single-feature association",
        hint=hint,
        summary=summary,
        details={"associations": known},
    )


def _association(series: Any, target: Any, task: str) -> float | None:
    import pandas as pd

    if pd.api.types.is_numeric_dtype(series.dtype) or pd.api.types.is_bool_dtype(series.dtype):
        values = series.to_numpy(dtype=float, na_value=np.nan)
        seen = np.isfinite(values)
        values, kept = values[seen], target[seen]
        if values.size < 30 or np.ptp(values) == 0:
            return None
        if task == "binary":
            return abs(2 * placements(kept, values)[0] - 1) if 0 < np.count_nonzero(kept) < kept.size else None
        if task == "regression":
            a, b = pd.Series(values).rank().to_numpy(), pd.Series(kept).rank().to_numpy()
            return float(abs(np.corrcoef(a, b)[0, 1])) if np.ptp(kept) > 0 else None
    codes, uniques = pd.factorize(series, use_na_sentinel=False)
    if not 2 <= len(uniques) <= 50:
        return None
    return _correlation_ratio(codes, target, task)


def _correlation_ratio(codes: Any, target: Any, task: str) -> float:
    """η: the root of the share of the target's variance between groups (for classes, of their indicators, averaged)."""
    columns = [target.astype(float)] if task != "multiclass" else [(target == c).astype(float) for c in np.unique(target)]
    rows = np.bincount(codes)
    between = within = 0.0
    for y in columns:
        means = np.bincount(codes, y) / np.maximum(rows, 1)
        between += float(rows @ (means - y.mean()) ** 2)
        within += float(((y - y.mean()) ** 2).sum())
    return float(np.sqrt(between / within)) if within else 0.0


@check("dummy")
def better_than_dummy(
    y_true: Any,
    y_pred: Any,
    *,
    task: str = "regression",
    dummy_pred: Any = None,
    positive: Any = None,
    confidence: float = 0.95,
) -> GateResult:
    """PASS when the model is surely better than one that knows nothing.

    Parameters
    ----------
    y_true, y_pred : array-like, shape (n,) or (n, classes)
    dummy_pred : array-like
        What to beat, e.g. last week's value; unless told, the mean of the target (R² > 0), or chance (AUC > 0.5).
    """
    if dummy_pred is not None:
        metric = "rmse" if task == "regression" else "log_loss"
        found = performance(
            y_true, y_pred, dummy_pred, metric=metric, min_ratio=1.0, task=task, positive=positive, confidence=confidence
        )
    else:
        metric, chance = ("r2", 0.0) if task == "regression" else ("auc", 0.5)
        found = performance(
            y_true, y_pred, None, metric=metric, floor=chance, task=task, positive=positive, confidence=confidence
        )
    if found.verdict is Verdict.ERROR:
        return dataclasses.replace(found, gate="dummy")
    values = arrays.raw("y_pred", y_pred)
    constant = bool(np.all(values == values[:1])) if len(values) else False
    verdict = Verdict.FAIL if constant else found.verdict
    hint = "the model says the same for every row" if constant else found.hint
    if verdict is Verdict.FAIL and not constant:
        hint = "a model that knows nothing does as well: check that features and rows are in the order of training"
    return dataclasses.replace(found, gate="dummy", verdict=verdict, hint=hint)
