"""Gate 5: whether predicted probabilities (or amounts) mean what they say."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from pytest_mlgates.checks.verdicts import at_most, check, limit, look, percent, rows_hint, worst
from pytest_mlgates.errors import ConfigError
from pytest_mlgates.results import GateResult, Verdict
from pytest_mlgates.stats import (
    CalibrationError,
    NotEnough,
    Problem,
    adjusted_confidence,
    arrays,
    calibration_error,
    group_codes,
    named_columns,
    observed_expected,
    probability_bins,
    quantile_bins,
    rows_to_settle,
)
from pytest_mlgates.stats.interval import check_confidence, t_quantile, z_quantile
from pytest_mlgates.stats.metrics import r2_terms
from pytest_mlgates.stats.smooth import smooth_plug_in

GATE = "calibration"
_FEWEST_EVENTS = 10
Finding = tuple[Verdict, dict[str, Any], str]


@dataclasses.dataclass(frozen=True, slots=True)
class _Rules:
    max_ece: float
    bins: int
    max_oe: float
    max_oe_pass: float
    max_slice_gap: float
    confidence: float
    passing: float


@check(GATE)
def calibration(
    y_true: Any,
    y_prob_or_pred: Any,
    *,
    max_ece: float = 0.10,
    bins: int = 10,
    task: str = "binary",
    positive: Any = None,
    classes: Any = None,
    slices: Any = None,
    max_oe: float = 1.25,
    max_oe_pass: float = 3.0,
    max_slice_gap: float | None = None,
    confidence: float = 0.95,
    looks: int = 1,
) -> GateResult:
    """Judge the calibration of probabilities or of a regressor's predictions.

    Parameters
    ----------
    y_true : array-like, shape (n,)
    y_prob_or_pred : array-like, shape (n,) or (n, classes)
        Probabilities for a classifier, predictions for a regressor.
    max_ece
        Tolerance of the expected calibration error: bins of equal width for probabilities, of equal count for
        regressors (then relative to mean |y_true|). PASS: plug-in + z se within it; FAIL: debiased - z se beyond it.
    bins
        Number of bins.
    task
        ``binary``, ``multiclass`` (top-label error decides, class-wise errors are reported) or ``regression``.
    slices : DataFrame or mapping of name to array
        Declared columns within whose values predictions must be right on average, corrected for their number.
    max_oe
        FAIL when observed over expected is beyond this factor, either way, for certain; rare events that the ECE cannot
        see.
    max_slice_gap
        FAIL when a slice's mean gap is beyond this for certain; ``max_ece`` unless told.
    confidence
        Of each one-sided bound.
    looks
        How many candidates this holdout has judged, as in `performance`.

    Returns
    -------
    GateResult
        ``details``: ``bins`` for a reliability diagram, ``observed_expected``, ``brier_skill`` (R² for regressors),
        ``smooth_ece``, ``slices``. A model that says the same for every row fails: it is calibrated and knows nothing.

    Raises
    ------
    ConfigError
        Settings that make no sense.
    """
    if int(bins) != bins or not 1 <= bins <= 1000:
        raise ConfigError(f"bins is {bins!r}, expected a whole number from 1 to 1000")
    max_ece = limit("max_ece", max_ece)
    gap = max_ece if max_slice_gap is None else limit("max_slice_gap", max_slice_gap)
    rules = _Rules(
        max_ece,
        int(bins),
        limit("max_oe", max_oe, above=1.0),
        limit("max_oe_pass", max_oe_pass, above=1.0),
        gap,
        check_confidence(confidence),
        adjusted_confidence(confidence, looks),
    )
    problem = Problem.of(task, y_true, positive=positive, classes=classes)
    outcome, prediction, extra = _top_label(problem, y_prob_or_pred, rules)
    arrays.same_length(y_true=outcome, y_prob_or_pred=prediction)
    if task == "regression":
        error = calibration_error(quantile_bins(outcome, prediction, rules.bins))
        if float(np.var(outcome)) == 0:
            raise NotEnough("y_true is constant, calibration says nothing")
    else:
        error = calibration_error(probability_bins(outcome, prediction, rules.bins))
        extra["smooth_ece"] = smooth_plug_in(outcome, prediction)
    found: dict[str, Finding] = {"ece": _ece(error, rules)}
    if task != "multiclass":
        found["observed_expected"] = _observed_expected(outcome, prediction, rules, strict=task == "binary")
        found["skill"] = _skill(outcome, prediction, rules, task)
    if slices is not None:
        found["slices"] = _slices(outcome, prediction, slices, rules, task)
    return _result(error, found, extra, rules, looks)


def _top_label(problem: Problem, prediction: Any, rules: _Rules) -> tuple[Any, npt.NDArray[np.float64], dict[str, Any]]:
    """Return outcomes and predictions to compare; for many classes whether the top label is right, and its probability."""
    extra: dict[str, Any] = {"task": problem.task}
    if problem.task == "regression":
        return problem.target, arrays.finite("y_prob_or_pred", prediction), extra
    if problem.task == "binary":
        return problem.target, arrays.probabilities("y_prob_or_pred", prediction), extra
    table = arrays.class_probabilities("y_prob_or_pred", prediction, problem.classes.size)
    arrays.same_length(y_true=problem.target, y_prob_or_pred=table)
    extra["class_wise"] = {
        str(label): calibration_error(probability_bins(problem.target == code, table[:, code], rules.bins)).debiased
        for code, label in enumerate(problem.classes)
    }
    top = np.argmax(table, axis=1)
    return top == problem.target, table[np.arange(top.size), top], extra


def _ece(error: CalibrationError, rules: _Rules) -> Finding:
    low, high = error.fail_bound(rules.confidence), error.pass_bound(rules.passing)
    verdict = at_most(low, high, rules.max_ece)
    numbers = {
        "plug_in": error.plug_in,
        "debiased": error.debiased,
        "se": error.se,
        "debiased_se": error.debiased_se,
        "low": low,
        "high": high,
    }
    hint = ""
    if verdict is Verdict.FAIL:
        hint = "refit the calibrator on validation data"
    elif verdict is Verdict.INCONCLUSIVE:
        # the plug-in's bias shrinks like the standard error, with the square root of n
        needed = rows_to_settle(error.n, high - error.debiased, rules.max_ece - error.debiased)
        if error.debiased > rules.max_ece:
            needed = rows_to_settle(error.n, error.debiased - low, error.debiased - rules.max_ece)
        hint = rows_hint(needed)
    return verdict, numbers, hint


def _observed_expected(outcome: Any, prediction: npt.NDArray[np.float64], rules: _Rules, *, strict: bool) -> Finding:
    if float(prediction.sum()) <= 0 or float(outcome.sum()) <= 0:
        verdict = Verdict.FAIL if strict else Verdict.SKIP
        return verdict, {}, "the predictions sum to nothing, the outcomes do not" if strict else ""
    ratio = observed_expected(outcome, prediction, 2 * rules.confidence - 1)
    numbers = {"estimate": ratio.value, "low": ratio.low, "high": ratio.high, "max": rules.max_oe}
    if ratio.high < 1 / rules.max_oe or ratio.low > rules.max_oe:
        times = (
            f"{ratio.value:.2f} times as many events occur as predicted"
            if strict
            else f"actual totals are {ratio.value:.2f} × predicted"
        )
        return Verdict.FAIL, numbers, f"{times}: refit the intercept, check sampling weights of the training data"
    passing = observed_expected(outcome, prediction, 2 * rules.passing - 1)
    if passing.low < 1 / rules.max_oe_pass or passing.high > rules.max_oe_pass:
        told = f"{int(outcome.sum()):,} events are too few" if strict else "the totals are too uncertain"
        return (
            Verdict.INCONCLUSIVE,
            numbers,
            f"{told} to compare observed with expected; about ten events would do, more if the ratio is off",
        )
    return Verdict.PASS, numbers, ""


def _skill(outcome: Any, prediction: npt.NDArray[np.float64], rules: _Rules, task: str) -> Finding:
    """Brier skill is R² with a 0/1 target; a constant prediction has none."""
    found = r2_terms(outcome.astype(np.float64), prediction).measured("skill")
    low, high = found.bound(rules.confidence, upper=False), found.bound(rules.confidence, upper=True)
    numbers = {"estimate": found.value, "low": low, "high": high}
    name = "R²" if task == "regression" else "Brier skill"
    if float(np.ptp(prediction)) == 0:
        return Verdict.FAIL, numbers, "the model says the same for every row"
    # the bound rests on a normal approximation that a handful of events does not bear
    few = task == "binary" and min(outcome.sum(), outcome.size - outcome.sum()) < _FEWEST_EVENTS
    if high < 0 and not few:
        return Verdict.FAIL, numbers, f"{name} {found.value:.3f}: worse than always saying the mean"
    if found.value <= 0:
        return Verdict.INCONCLUSIVE, numbers, f"{name} {found.value:.3f}: not shown to be better than always saying the mean"
    return Verdict.PASS, numbers, ""


def _slices(outcome: Any, prediction: npt.NDArray[np.float64], slices: Any, rules: _Rules, task: str) -> Finding:
    columns: Mapping[str, Any] = named_columns(slices, "slices")
    gap = outcome - prediction
    unit = float(np.abs(outcome).mean()) if task == "regression" else 1.0
    parts = []
    for name, values in columns.items():
        names, codes = group_codes(values)
        arrays.same_length(y_true=gap, **{name: codes})
        seen = codes >= 0
        rows = np.bincount(codes[seen], minlength=len(names))
        mean = np.bincount(codes[seen], gap[seen], len(names)) / np.maximum(rows, 1) / unit
        square = np.bincount(codes[seen], gap[seen] ** 2, len(names)) / np.maximum(rows, 1) / unit**2
        se = np.sqrt(np.maximum(square - mean**2, 0) / np.maximum(rows - 1, 1))
        parts += [
            (f"{name}={names[i]}", int(rows[i]), float(mean[i]), float(se[i])) for i in range(len(names)) if rows[i] >= 10
        ]
    if not parts:
        hint = f"no slice of {', '.join(columns)} has ten rows: name columns that make segments"
        return Verdict.INCONCLUSIVE, {"max_gap": rules.max_slice_gap, "groups": {}}, hint
    level = 1 - (1 - rules.confidence) / (2 * len(parts))
    table: dict[str, Any] = {}
    bad, open_ = [], []
    for label, rows_, mean_, se_ in parts:
        low = abs(mean_) - t_quantile(level, rows_ - 1) * se_
        high = abs(mean_) + t_quantile(rules.passing, rows_ - 1) * se_
        table[label] = {"n": rows_, "gap": mean_, "low": max(low, 0.0), "high": high}
        if low > rules.max_slice_gap:
            bad.append((low, f"{label}: actual {mean_:+.3f} off predicted, n={rows_:,}"))
        elif high > 1.5 * rules.max_slice_gap:
            needed = rows_to_settle(rows_, high - abs(mean_), 1.5 * rules.max_slice_gap - abs(mean_))
            open_.append((high, f"{label} (n={rows_:,}): {rows_hint(needed)}"))
    numbers = {"max_gap": rules.max_slice_gap, "groups": table}
    told = [text for _, text in sorted(bad or open_, reverse=True)]
    verdict = Verdict.FAIL if bad else Verdict.INCONCLUSIVE if open_ else Verdict.PASS
    return verdict, numbers, "; ".join(told[:3])


def _result(error: CalibrationError, found: dict[str, Finding], extra: dict[str, Any], rules: _Rules, looks: int) -> GateResult:
    verdict = worst(*(v for v, _, _ in found.values()))
    low, high = error.fail_bound(rules.confidence), error.pass_bound(rules.passing)
    estimate = min(max(error.debiased, low), high)
    hint = "; ".join(text for v, _, text in found.values() if v is verdict and text)
    sign = {Verdict.PASS: "≤", Verdict.FAIL: ">"}.get(found["ece"][0], "not settled against")
    summary = f"ECE {estimate:.3f} ({low:.3f}–{high:.3f}) {sign} {rules.max_ece:.3f}; n={error.n:,}" + look(looks)
    if found["ece"][0] is not verdict:
        summary = f"{hint}; {summary}"
    table = error.bins
    details = extra | {name: {"verdict": v.value, **numbers} for name, (v, numbers, _) in found.items()}
    if "skill" in details:
        details["brier_skill"] = details["skill"]["estimate"]
    details |= {"confidence": rules.confidence, "pass_confidence": rules.passing}
    details["bins"] = [
        {"n": int(n), "predicted": float(p), "observed": float(o), "half_width": float(z_quantile(0.975) * s * table.unit)}
        for n, p, o, s in zip(table.rows, table.predicted, table.observed, table.gap_se, strict=True)
    ]
    method = f"debiased ECE, {rules.bins} bins, folded-normal bounds at {percent(rules.confidence)}"
    return GateResult(GATE, verdict, estimate, low, high, rules.max_ece, error.n, method, hint, summary, details)
