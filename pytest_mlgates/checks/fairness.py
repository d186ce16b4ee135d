"""Gate 3: whether groups are selected, and served, alike."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from pytest_mlgates.checks.verdicts import at_least, at_most, check, limit, look, percent, rows_hint, skip, worst
from pytest_mlgates.errors import DataUnusable
from pytest_mlgates.results import GateResult, Verdict
from pytest_mlgates.stats import (
    NotEnough,
    Problem,
    adjusted_confidence,
    arrays,
    error_ratio,
    group_codes,
    group_table,
    named_columns,
    parity_ratio,
    rate_gap,
    rows_to_settle,
    wilson,
)
from pytest_mlgates.stats.groups import GroupTable, Worst
from pytest_mlgates.stats.interval import check_confidence
from pytest_mlgates.stats.metrics import hard_labels

GATE = "fairness"


@dataclasses.dataclass(frozen=True, slots=True)
class _Rules:
    min_parity_ratio: float
    max_tpr_gap: float | None
    max_odds_gap: float | None
    min_group_rows: int
    max_missing: float
    confidence: float
    passing: float


@dataclasses.dataclass(frozen=True, slots=True)
class _Attribute:
    """What was found of one protected attribute."""

    name: str
    verdict: Verdict
    ratio: Worst | None
    n: int
    hint: str
    details: dict[str, Any]


@check(GATE)
def fairness(
    y_true: Any,
    y_pred: Any,
    sensitive: Any,
    *,
    min_parity_ratio: float = 0.8,
    max_tpr_gap: float | None = None,
    max_odds_gap: float | None = None,
    task: str = "binary",
    positive: Any = None,
    decision_threshold: float = 0.5,
    min_group_rows: int = 10,
    max_missing: float = 0.02,
    confidence: float = 0.95,
    looks: int = 1,
) -> GateResult:
    """Judge the demographic-parity ratio of every protected attribute.

    Parameters
    ----------
    y_true, y_pred : array-like, shape (n,)
        Outcomes and predictions: labels, or probabilities cut at ``decision_threshold`` (two columns are taken too).
    sensitive : DataFrame, mapping of name to array, Series, or array of shape (n,)
        Protected attributes, judged one by one; the worst decides.
    min_parity_ratio
        Smallest selection rate over largest (for regressors: smallest group RMSE over largest) is at least this.
    max_tpr_gap, max_odds_gap
        Largest difference of true-positive rates (equal opportunity); the larger of that and of the false-positive
        rates (equalized odds). Reported always, judged when set.
    task
        ``binary``, ``regression``, or ``multiclass`` together with ``positive``.
    positive
        The label that counts as selected.
    min_group_rows
        A smaller group makes the attribute INCONCLUSIVE: it is named, not judged, and not ignored.
    max_missing
        Rows without a value of the attribute are left out up to this share; beyond it the attribute is INCONCLUSIVE.
    confidence
        Of each one-sided bound; corrected for the number of groups.
    looks
        How many candidates this holdout has judged, as in `performance`.

    Returns
    -------
    GateResult
        ``details["attributes"][name]`` holds ``parity_ratio`` (fairlearn's ``demographic_parity_ratio``), bounds, both
        gaps, and every group's counts.

    Raises
    ------
    ConfigError
        Settings that make no sense.
    """
    rules = _Rules(
        limit("min_parity_ratio", min_parity_ratio, most=1.0),
        None if max_tpr_gap is None else limit("max_tpr_gap", max_tpr_gap, most=1.0),
        None if max_odds_gap is None else limit("max_odds_gap", max_odds_gap, most=1.0),
        int(limit("min_group_rows", min_group_rows)),
        limit("max_missing", max_missing, above=-1e-9, most=1.0),
        check_confidence(confidence),
        adjusted_confidence(confidence, looks),
    )
    columns = named_columns(sensitive, "sensitive")
    if not columns:
        return skip(GATE, "no protected attribute given", "name holdout columns under sensitive in mlgates.toml")
    if task == "regression":
        y, guess = arrays.finite("y_true", y_true), arrays.finite("y_pred", y_pred)
        arrays.same_length(y_true=y, y_pred=guess)
        square = (y - guess) ** 2
        found = [_judge_error(name, values, square, rules) for name, values in columns.items()]
    else:
        actual, selected = _selection(y_true, y_pred, task, positive, decision_threshold)
        found = [_judge_selection(name, values, actual, selected, rules) for name, values in columns.items()]
    return _result(found, rules, "group RMSE ratio" if task == "regression" else "parity ratio", looks)


def _selection(
    y_true: Any, y_pred: Any, task: str, positive: Any, threshold: float
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    if task == "multiclass" and positive is None:
        raise DataUnusable("fairness of a multiclass model needs the label that counts as selected; set positive")
    if task == "multiclass":
        labels = arrays.labels("y_pred", y_pred)
        actual, selected = arrays.labels("y_true", y_true) == positive, labels == positive
    else:
        problem = Problem.of("binary", y_true, positive=positive)
        actual, selected = problem.target, hard_labels("y_pred", problem, y_pred, threshold)
    arrays.same_length(y_true=actual, y_pred=selected)
    return np.asarray(actual), np.asarray(selected, dtype=np.bool_)


def _groups(name: str, values: Any, n: int, rules: _Rules) -> tuple[tuple[str, ...], npt.NDArray[np.intp], str]:
    """Return groups, codes, and why the attribute cannot be judged (empty where it can)."""
    array = arrays.raw(name, values)
    if array.ndim != 1:
        raise DataUnusable(f"attribute {name!r} has shape {array.shape}, expected one value per row")
    arrays.same_length(y_true=np.empty(n), **{name: array})
    names, codes = group_codes(values)
    missing = int(np.count_nonzero(codes < 0))
    if len(names) < 2:
        return names, codes, f"{name!r} has {len(names)} group, expected at least two"
    if missing > rules.max_missing * n:
        return names, codes, f"{missing:,} of {n:,} rows have no value of {name!r}; fill them, or raise max_missing"
    rows = np.bincount(codes[codes >= 0], minlength=len(names))
    small = [f"{names[i]!r} ({rows[i]} rows)" for i in np.flatnonzero(rows < rules.min_group_rows)]
    if small:
        return (
            names,
            codes,
            (
                f"too few rows of {name!r} in {', '.join(small[:5])}: at least {rules.min_group_rows} each "
                "are needed; collect more, or merge the group with another"
            ),
        )
    return names, codes, ""


def _judge_selection(name: str, values: Any, actual: Any, selected: Any, rules: _Rules) -> _Attribute:
    names, codes, problem = _groups(name, values, actual.size, rules)
    table = group_table(names, codes, actual, selected)
    n = int(table.rows.sum())
    ratio: Worst | None = None
    details: dict[str, Any] = {"n": n, "missing": actual.size - n, "groups": _group_rows(table)}
    try:
        ratio = _held(*(parity_ratio(table, level) for level in (rules.confidence, rules.passing)), side="low")
    except NotEnough as why:
        problem = problem or str(why)
    tpr = _rate_gap(names, table.true_positives, table.positives, rules)
    fpr = _rate_gap(names, table.false_positives, table.negatives, rules)
    odds = max((g for g in (tpr, fpr) if g is not None), key=lambda g: g.value, default=None)
    details |= {
        "parity_ratio": ratio and ratio.value,
        "low": ratio and ratio.low,
        "high": ratio and ratio.high,
        "worst_pair": ratio and list(ratio.groups),
        "equal_opportunity_difference": _gap(tpr),
        "equalized_odds_difference": _gap(odds),
        "undefined_tpr": [names[i] for i in np.flatnonzero(table.positives == 0)],
    }
    if ratio is None or problem:
        return _Attribute(name, Verdict.INCONCLUSIVE, ratio, n, problem, details)
    verdicts = {"parity": at_least(ratio.low, ratio.high, rules.min_parity_ratio)}
    for label, gap, most in (("equal opportunity", tpr, rules.max_tpr_gap), ("equalized odds", odds, rules.max_odds_gap)):
        if most is not None:
            verdicts[label] = Verdict.INCONCLUSIVE if gap is None else at_most(gap.low, gap.high, most)
    details["verdicts"] = {k: v.value for k, v in verdicts.items()}
    verdict = worst(*verdicts.values())
    return _Attribute(name, verdict, ratio, n, _hint(name, verdict, verdicts, ratio, n, rules), details)


def _judge_error(name: str, values: Any, square: Any, rules: _Rules) -> _Attribute:
    names, codes, problem = _groups(name, values, square.size, rules)
    n = int(np.count_nonzero(codes >= 0))
    try:
        ratio = _held(*(error_ratio(names, codes, square, level) for level in (rules.confidence, rules.passing)), side="low")
    except NotEnough as why:
        return _Attribute(name, Verdict.INCONCLUSIVE, None, n, problem or str(why), {"n": n})
    details = {"n": n, "error_ratio": ratio.value, "low": ratio.low, "high": ratio.high, "worst_pair": list(ratio.groups)}
    if problem:
        return _Attribute(name, Verdict.INCONCLUSIVE, ratio, n, problem, details)
    verdict = at_least(ratio.low, ratio.high, rules.min_parity_ratio)
    return _Attribute(name, verdict, ratio, n, _hint(name, verdict, {"error ratio": verdict}, ratio, n, rules), details)


def _held(found: Worst, passing: Worst, *, side: str) -> Worst:
    """The bound that lets a candidate pass is the one corrected for the looks taken; the other stays."""
    return dataclasses.replace(found, **{side: getattr(passing, side)})


def _rate_gap(names: tuple[str, ...], hits: Any, trials: Any, rules: _Rules) -> Worst | None:
    found, passing = (rate_gap(names, hits, trials, level) for level in (rules.confidence, rules.passing))
    return None if found is None or passing is None else _held(found, passing, side="high")


def _hint(name: str, verdict: Verdict, verdicts: Mapping[str, Verdict], ratio: Worst, n: int, rules: _Rules) -> str:
    if verdict is Verdict.PASS:
        return ""
    worse, better = ratio.groups
    which = " and ".join(k for k, v in verdicts.items() if v is verdict)
    if verdict is Verdict.FAIL:
        return (
            f"{which} of {name!r}: {worse!r} against {better!r}; look at proxies of {name!r} among "
            "the features, and at the decision threshold"
        )
    # on the log scale, where the interval is symmetric
    inner = ratio.low if ratio.value >= rules.min_parity_ratio else ratio.high
    logs = [float(np.log(max(v, 1e-12))) for v in (ratio.value, inner, rules.min_parity_ratio)]
    return f"{which} of {name!r}: {rows_hint(rows_to_settle(n, abs(logs[0] - logs[1]), abs(logs[0] - logs[2])))}"


def _group_rows(table: GroupTable) -> dict[str, Any]:
    out = {}
    for i, name in enumerate(table.names):
        rows, positives, negatives = int(table.rows[i]), int(table.positives[i]), int(table.negatives[i])
        rate = wilson(int(table.selected[i]), rows) if rows else None
        out[name] = {
            "n": rows,
            "selected": int(table.selected[i]),
            "selection_rate": table.selected[i] / rows if rows else None,
            "rate_low": rate and rate.low,
            "rate_high": rate and rate.high,
            "tpr": table.true_positives[i] / positives if positives else None,
            "fpr": table.false_positives[i] / negatives if negatives else None,
        }
    return out


def _gap(gap: Worst | None) -> dict[str, Any] | None:
    if gap is None:
        return None
    return {"estimate": gap.value, "low": gap.low, "high": gap.high, "worst_pair": list(gap.groups)}


def _result(found: list[_Attribute], rules: _Rules, label: str, looks: int) -> GateResult:
    verdict = worst(*(a.verdict for a in found))
    decisive = min((a for a in found if a.verdict is verdict), key=lambda a: a.ratio.low if a.ratio is not None else -1.0)
    details = {
        "attributes": {a.name: {"verdict": a.verdict.value, **a.details} for a in found},
        "confidence": rules.confidence,
        "pass_confidence": rules.passing,
    }
    method = f"{label}, log-ratio over all pairs of groups"
    hint = "; ".join(a.hint for a in found if a.verdict is verdict and a.hint)
    ratio, threshold = decisive.ratio, rules.min_parity_ratio
    if ratio is None:
        summary = f"{decisive.name}: {decisive.hint}"
        return GateResult(
            GATE, verdict, threshold=threshold, n=decisive.n, method=method, hint=hint, summary=summary, details=details
        )
    sign = {Verdict.PASS: "≥", Verdict.FAIL: "<"}.get(verdict, "not settled against")
    if verdict is Verdict.FAIL and ratio.value >= threshold:
        sign = "beside"  # the parity ratio holds, one of the gaps does not: the hint names it
    summary = (
        f"{label} {ratio.value:.3f} ({percent(rules.confidence)} bounds {ratio.low:.3f}–{ratio.high:.3f}) {sign} {threshold:g}"
        f" for {decisive.name} ({ratio.groups[0]} / {ratio.groups[1]}); n={decisive.n:,}" + look(looks)
    )
    return GateResult(GATE, verdict, ratio.value, ratio.low, ratio.high, threshold, decisive.n, method, hint, summary, details)
