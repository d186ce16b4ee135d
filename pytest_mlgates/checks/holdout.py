"""Gate 2: whether the version still says what it said, and the holdout was really held out."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from pytest_mlgates.checks.verdicts import at_most, check, limit, look, number, percent, rows_hint, worst
from pytest_mlgates.errors import DataUnusable
from pytest_mlgates.results import GateResult, Verdict
from pytest_mlgates.stats import (
    Measured,
    NotEnough,
    adjusted_confidence,
    arrays,
    from_influence,
    group_codes,
    named_columns,
    quantile_interval,
    rows_to_settle,
)
from pytest_mlgates.stats.interval import check_confidence, t_quantile

GATE = "holdout"
_HOW = "store the version's holdout predictions as mlgates/expected_predictions.parquet with its run (columns row_id, expected)"


@dataclasses.dataclass(frozen=True, slots=True)
class _Finding:
    """One named finding: verdict, numbers, and what to do about it."""

    verdict: Verdict
    numbers: dict[str, Any]
    hint: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class _Gap:
    """Prediction gaps in units of the target's standard deviation, with the mean judged."""

    size: npt.NDArray[np.float64]
    mean: Measured
    unit: float


@check(GATE)
def holdout(
    y_pred: Any,
    expected_pred: Any = None,
    *,
    max_gap: float = 0.05,
    exact: bool = False,
    y_true: Any = None,
    rtol: float = 1e-5,
    max_tail_gap: float | None = None,
    max_slice_gap: float | None = None,
    slices: Any = None,
    decision_threshold: float | None = None,
    max_flips: float | None = None,
    train_hashes: Any = None,
    holdout_hashes: Any = None,
    max_overlap: float = 0.005,
    train_times: Any = None,
    holdout_times: Any = None,
    train_score: float | None = None,
    holdout_score: float | None = None,
    higher_is_better: bool = True,
    max_train_gap: float | None = None,
    confidence: float = 0.95,
    looks: int = 1,
) -> GateResult:
    """Judge predictions against expected ones, and the holdout against the training data.

    Parameters
    ----------
    y_pred, expected_pred : array-like, shape (n,) or (n, classes)
        Predictions now, and those expected: stored with the version, or the champion's. Without the latter only the
        leakage findings are judged, and the gate is SKIP when they find nothing.
    max_gap
        Largest mean |prediction - expected| in standard deviations of ``y_true`` (of ``expected_pred`` where that is
        absent).
    exact
        The same version against its own stored predictions: every row must agree within ``rtol``.
    rtol
        Tolerance of ``exact``, relative to the row's value and to the spread of the predictions; float32 passes.
    max_tail_gap, max_slice_gap
        Largest p99 of the gap (ten times ``max_gap`` unless told), and largest mean gap in a slice (twice), FAIL only
        when surely beyond.
    slices : DataFrame or mapping of name to array
        Declared columns for ``max_slice_gap``.
    decision_threshold, max_flips
        Share of rows whose decision at this threshold flips (``max_gap`` unless told).
    train_hashes, holdout_hashes : array-like of int64
        From `row_hashes`, over the same columns. The share of holdout rows found in the training data is at most
        ``max_overlap``, plus what chance explains where rows repeat within the holdout itself.
    train_times, holdout_times : array-like of dates or numbers
        The holdout begins after the training data end.
    train_score, holdout_score, higher_is_better, max_train_gap
        One metric on both: the drop from training to holdout, as a share of the better one, is at most
        ``max_train_gap`` (0.25 for scores, 0.75 for errors unless told).
    confidence
        Of each one-sided bound.
    looks
        How many candidates this holdout has judged, as in `performance`.

    Returns
    -------
    GateResult
        ``details["findings"]`` names each: ``same_predictions`` or ``mean_gap``, ``tail_gap``, ``flips``, ``slices``,
        ``shared_rows``, ``time_order``, ``train_gap``.

    Raises
    ------
    ConfigError
        Settings that make no sense.
    """
    max_gap = limit("max_gap", max_gap)
    passing = adjusted_confidence(check_confidence(confidence), looks)
    found: dict[str, _Finding] = {}
    gap: _Gap | None = None
    prediction = arrays.finite("y_pred", y_pred, columns=True)
    if expected_pred is not None:
        gap = _gap(prediction, arrays.finite("expected_pred", expected_pred, columns=True), y_true)
        if exact:
            found["same_predictions"] = _same(gap, rtol, np.asarray(expected_pred, dtype=np.float64))
        else:
            found["mean_gap"] = _mean_gap(gap, max_gap, confidence, passing)
            found["tail_gap"] = _tail_gap(gap, limit("max_tail_gap", max_tail_gap or 10 * max_gap), confidence)
            if decision_threshold is not None:
                most = limit("max_flips", max_flips or max_gap, most=1.0)
                found["flips"] = _flips(
                    prediction, np.asarray(expected_pred, float), decision_threshold, most, confidence, passing
                )
            if slices is not None:
                found["slices"] = _slices(gap, slices, limit("max_slice_gap", max_slice_gap or 2 * max_gap), confidence)
    if train_hashes is not None and holdout_hashes is not None:
        hashes = arrays.integers("train_hashes", train_hashes), arrays.integers("holdout_hashes", holdout_hashes)
        found["shared_rows"] = _shared(*hashes, limit("max_overlap", max_overlap, above=-1e-12, most=1.0))
    if train_times is not None and holdout_times is not None:
        moments = arrays.times("train_times", train_times), arrays.times("holdout_times", holdout_times)
        found["time_order"] = _time_order(*moments)
    if train_score is not None and holdout_score is not None:
        found["train_gap"] = _train_gap(train_score, holdout_score, higher_is_better, max_train_gap)
    return _result(prediction.shape[0], gap, found, max_gap, exact, rtol, confidence, looks)


def _gap(prediction: arrays.Floats, expected: arrays.Floats, y_true: Any) -> _Gap:
    arrays.same_length(y_pred=prediction, expected_pred=expected)
    if prediction.shape != expected.shape:
        raise DataUnusable(f"y_pred has shape {prediction.shape}, expected_pred {expected.shape}; expected the same")
    if len(prediction) < 2:
        raise NotEnough(f"y_pred has {len(prediction)} row, expected at least two")
    size = np.abs(prediction - expected)
    size = size.max(axis=1) if size.ndim == 2 else size
    spread = expected
    if y_true is not None:
        outcome = arrays.labels("y_true", y_true)
        arrays.same_length(y_pred=prediction, y_true=outcome)
        # labels have no spread of their own; their predictions' has a meaning
        spread = arrays.finite("y_true", outcome) if outcome.dtype.kind in "biuf" and prediction.ndim == 1 else expected
    unit = float(spread.std())
    if unit <= 1e-12 * max(1.0, float(np.abs(spread).max())):
        unit = 0.0
    scaled = size / unit if unit else size
    mean = float(scaled.mean())
    return _Gap(scaled, from_influence(mean, scaled - mean, "mean absolute gap in target standard deviations"), unit)


def _same(gap: _Gap, rtol: float, expected: arrays.Floats) -> _Finding:
    size = np.abs(expected).max(axis=1) if expected.ndim == 2 else np.abs(expected)
    unit = gap.unit or 1.0
    differ = gap.size * unit > rtol * np.maximum(size, gap.unit) + 1e-12
    count = int(np.count_nonzero(differ))
    numbers = {"rows_that_differ": count, "largest_gap": float(gap.size.max()), "rtol": rtol}
    if not count:
        return _Finding(Verdict.PASS, numbers)
    return _Finding(
        Verdict.FAIL,
        numbers,
        (
            f"{count:,} of {gap.size.size:,} predictions are not those stored with the version: was the "
            "artifact, the holdout or a library version exchanged?"
        ),
    )


def _mean_gap(gap: _Gap, max_gap: float, confidence: float, passing: float) -> _Finding:
    if not gap.unit:
        raise NotEnough("expected predictions and outcomes are constant: a gap in their standard deviations is undefined")
    low, high = max(0.0, gap.mean.bound(confidence, upper=False)), gap.mean.bound(passing, upper=True)
    verdict = at_most(low, high, max_gap)
    hint = ""
    if verdict is Verdict.FAIL:
        hint = "predictions moved: compare training data and features of the two versions, then the slices with the largest gap"
    elif verdict is Verdict.INCONCLUSIVE:
        hint = rows_hint(rows_to_settle(gap.mean.n, high - gap.mean.value, abs(gap.mean.value - max_gap)))
    return _Finding(verdict, {"estimate": gap.mean.value, "low": low, "high": high, "max": max_gap}, hint)


def _tail_gap(gap: _Gap, most: float, confidence: float) -> _Finding:
    tail = quantile_interval(gap.size, 0.99, 2 * confidence - 1)
    numbers = {"estimate": tail.value, "low": tail.low, "max": most}
    if tail.low > most:
        return _Finding(
            Verdict.FAIL,
            numbers,
            f"one row in a hundred moved by more than {tail.low:.2f} standard deviations: look at those rows",
        )
    return _Finding(Verdict.PASS, numbers)


def _flips(
    prediction: arrays.Floats, expected: arrays.Floats, threshold: float, most: float, confidence: float, passing: float
) -> _Finding:
    from pytest_mlgates.stats import share_bounds

    if prediction.ndim == 2:
        flipped = prediction.argmax(axis=1) != expected.argmax(axis=1)
    else:
        flipped = (prediction >= threshold) != (expected >= threshold)
    count = int(np.count_nonzero(flipped))
    low, high = share_bounds(count, flipped.size, confidence)[0], share_bounds(count, flipped.size, passing)[1]
    verdict = at_most(low, high, most)
    hint = f"{count:,} of {flipped.size:,} decisions flip" if verdict is not Verdict.PASS else ""
    return _Finding(verdict, {"estimate": count / flipped.size, "low": low, "high": high, "max": most}, hint)


def _slices(gap: _Gap, slices: Any, most: float, confidence: float) -> _Finding:
    rows = []
    for name, values in named_columns(slices, "slices").items():
        names, codes = group_codes(values)
        arrays.same_length(y_pred=gap.size, **{name: codes})
        for i, label in enumerate(names):
            part = gap.size[codes == i]
            if part.size >= 10:
                rows.append((f"{name}={label}", part.size, float(part.mean()), float(part.std(ddof=1)) / math.sqrt(part.size)))
    if not rows:
        return _Finding(
            Verdict.INCONCLUSIVE, {"max": most, "groups": {}}, "no declared slice has ten rows: name columns that make segments"
        )
    level = 1 - (1 - confidence) / len(rows)
    table, bad = {}, []
    for label, n, mean, se in rows:
        low = mean - t_quantile(level, n - 1) * se
        table[label] = {"n": n, "gap": mean, "low": max(0.0, low)}
        if low > most:
            bad.append((low, f"{label}: mean gap {mean:.2f} standard deviations, n={n:,}"))
    hint = "; ".join(text for _, text in sorted(bad, reverse=True)[:3])
    return _Finding(Verdict.FAIL if bad else Verdict.PASS, {"max": most, "groups": table}, hint)


def _shared(train_hashes: npt.NDArray[Any], holdout_hashes: npt.NDArray[Any], most: float) -> _Finding:
    """Share of holdout rows that are in the training data, against what repetition within the holdout would explain."""
    train, held = np.sort(train_hashes), np.sort(holdout_hashes)
    if held.size == 0 or train.size == 0:
        raise NotEnough(f"row hashes are empty: {train.size:,} of training, {held.size:,} of the holdout")
    # both sorted: one pass each, and no more memory than the hashes themselves
    place = np.minimum(np.searchsorted(train, held), train.size - 1)
    shared = int(np.count_nonzero(train[place] == held))
    del place
    distinct = 1 + int(np.count_nonzero(train[1:] != train[:-1]))
    same = held[1:] == held[:-1]
    repeated = float(np.count_nonzero(np.append(same, False) | np.append(False, same))) / held.size
    draws = distinct / max(held.size - 1, 1)
    by_chance = 1 - (1 - min(repeated, 1.0)) ** max(draws, 1.0) if repeated else 0.0
    numbers = {"rows": shared, "share": shared / held.size, "explained_by_repetition": by_chance, "max": most}
    if shared / held.size <= most + by_chance:
        return _Finding(Verdict.PASS, numbers)
    return _Finding(
        Verdict.FAIL,
        numbers,
        (
            f"leakage: {shared:,} of {held.size:,} holdout rows ({100 * shared / held.size:.1f} %) are in "
            "the training data; split again and retrain"
        ),
    )


def _time_order(train: npt.NDArray[Any], held: npt.NDArray[Any]) -> _Finding:
    if train.dtype.kind != held.dtype.kind:
        raise DataUnusable(f"train_times are {train.dtype} and holdout_times {held.dtype}: both must be dates, or both numbers")
    last, first = train.max(), held.min()
    early = int(np.count_nonzero(held <= last))
    whole = bool(held.max() <= train.min())
    numbers = {"train_ends": str(last), "holdout_begins": str(first), "rows_not_after_training": early}
    if not early:
        return _Finding(Verdict.PASS, numbers)
    what = "the holdout precedes the training data" if whole else f"{early:,} holdout rows are not after the training data"
    return _Finding(Verdict.FAIL, numbers, f"{what} (training ends {last}, holdout begins {first}); split by time")


def _train_gap(train: float, held: float, higher_is_better: bool, most: float | None) -> _Finding:
    if not (math.isfinite(train) and math.isfinite(held)):
        raise DataUnusable(f"train_score is {train!r} and holdout_score {held!r}, expected finite numbers")
    most = limit("max_train_gap", most if most is not None else (0.25 if higher_is_better else 0.75))
    better, worse = (train, held) if higher_is_better else (held, train)
    drop = (better - worse) / abs(better) if better else 0.0
    numbers = {"train": train, "holdout": held, "drop": drop, "max": most}
    if drop <= most:
        return _Finding(Verdict.PASS, numbers)
    hint = (
        f"overfit or leaked: {number(train)} on training data, {number(held)} on the holdout; "
        "regularise, or look for a feature that knows the target"
    )
    return _Finding(Verdict.FAIL, numbers, hint)


def _result(
    n: int,
    gap: _Gap | None,
    found: dict[str, _Finding],
    max_gap: float,
    exact: bool,
    rtol: float,
    confidence: float,
    looks: int,
) -> GateResult:
    details = {
        "findings": {name: {"verdict": f.verdict.value, **f.numbers} for name, f in found.items()},
        "confidence": confidence,
    }
    verdict = worst(*(f.verdict for f in found.values())) if found else Verdict.SKIP
    hint = "; ".join(f.hint for f in found.values() if f.verdict is verdict and f.hint)
    if gap is None:
        if verdict in (Verdict.PASS, Verdict.SKIP):
            return GateResult(GATE, Verdict.SKIP, n=n, hint=_HOW, summary="no expected predictions stored", details=details)
        return GateResult(GATE, verdict, n=n, method="leakage findings", hint=hint, summary=hint, details=details)
    if exact:
        same = found["same_predictions"].numbers
        told = "predictions are those stored" if not same["rows_that_differ"] else f"{same['rows_that_differ']:,} rows differ"
        summary = f"{told} (largest gap {same['largest_gap']:.2g} sd, rtol {rtol:g}); n={n:,}"
        estimate = low = high = gap.mean.value
        method = "row by row"
    else:
        numbers = found["mean_gap"].numbers
        estimate, low, high = numbers["estimate"], numbers["low"], numbers["high"]
        sign = {Verdict.PASS: "≤", Verdict.FAIL: ">"}.get(found["mean_gap"].verdict, "not settled against")
        summary = f"mean gap {estimate:.3f} sd ({percent(confidence)} bounds {low:.3f}–{high:.3f}) {sign} {max_gap:g}; n={n:,}"
        summary += look(looks)
        method = gap.mean.method
    others = [f.hint for name, f in found.items() if f.verdict is verdict and name not in ("same_predictions", "mean_gap")]
    if verdict is not Verdict.PASS and any(others):
        summary = f"{'; '.join(o for o in others if o)}; {summary}"
    return GateResult(GATE, verdict, estimate, low, high, max_gap, n, method, hint, summary, details)
