"""Weak slices: segments whose error stands out, found by a scan with multiplicity control, and thresholds for declared segments."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats as sps

from pytest_mlgates.checks.performance import performance
from pytest_mlgates.checks.verdicts import check, limit, skip, worst
from pytest_mlgates.errors import ConfigError
from pytest_mlgates.results import GateResult, Verdict
from pytest_mlgates.stats import NotEnough, Problem, arrays
from pytest_mlgates.stats.interval import check_confidence

GATE = "weak_slices"
_MOST_LEVELS = 12
_PAIR_ROWS = 200_000


@dataclasses.dataclass(frozen=True, slots=True)
class WeakSlice:
    """A segment in words, its rows, its error over the overall one, and the p-value for exceeding the allowed factor.

    ``se`` is the standard error of its mean loss, in units of the mean loss over all rows.
    """

    name: str
    n: int
    ratio: float
    p_value: float
    se: float = 0.0

    def low(self, alpha: float) -> float:
        """Lower bound of the ratio at level ``alpha``, from the same t test."""
        return math.sqrt(max(0.0, self.ratio**2 - float(sps.t.isf(alpha, self.n - 1)) * self.se))


@check(GATE)
def weak_slices(
    y_true: Any,
    y_pred: Any,
    frame: Any,
    *,
    task: str = "regression",
    max_ratio: float = 2.0,
    min_rows: int = 30,
    columns: Any = None,
    positive: Any = None,
    confidence: float = 0.95,
) -> GateResult:
    """FAIL when a segment's error surely exceeds the allowed factor of the overall error.

    Parameters
    ----------
    y_true, y_pred : array-like, shape (n,) or (n, classes)
        Error is RMSE for a regressor, the root of the Brier score for a classifier.
    frame : DataFrame, n rows
        Its columns make the segments: each value of a column with at most twelve, quartiles of a number; alone and in
        pairs.
    max_ratio
        Allowed error of a segment over the overall error.
    min_rows
        Smaller segments are not looked at.
    columns
        Columns to use; all unless told.
    confidence
        Of the whole scan: the chance of naming any segment of a model without weak ones is 1 - confidence.

    Returns
    -------
    GateResult
        ``estimate`` is the worst ratio among segments named (or the largest seen), ``low`` its lower bound with all
        segments allowed for (Bonferroni); ``details["slices"]`` lists them, worst first.

    Notes
    -----
    One-sided t test per segment of mean(loss in the segment) > max_ratio² mean(loss), Holm (1979) over all segments.
    """
    max_ratio = limit("max_ratio", max_ratio, above=1.0)
    check_confidence(confidence)
    loss, what = _losses(y_true, y_pred, task, positive)
    arrays.same_length(y_true=loss, frame=frame)
    if loss.size < 2 * min_rows:
        raise NotEnough(f"{loss.size:,} rows are too few to look for weak slices, expected at least {2 * min_rows}")
    overall = float(loss.mean())
    if overall == 0:
        return GateResult(GATE, Verdict.PASS, 0.0, threshold=max_ratio, n=loss.size, summary="no error anywhere", method=what)
    names = list(frame.columns) if columns is None else list(columns)
    found = _scan(loss, {str(c): _levels(frame[c]) for c in names}, overall * max_ratio**2, overall, min_rows)
    if not found:
        return skip(GATE, "no column makes a segment", "name columns with several values")
    named = _holm(found, 1 - confidence)
    ranked = sorted(named or found, key=lambda s: s.ratio, reverse=True)
    rows = [dataclasses.asdict(s) for s in ranked[:20]]
    details = {"slices": rows if named else [], "largest": rows[:5], "segments": len(found), "overall": math.sqrt(overall)}
    top = ranked[0]
    words = f"{top.name}: {what} {top.ratio:.1f}× overall, n={top.n:,}"
    summary = f"{words}; {len(named)} of {len(found):,} segments beyond {max_ratio:g}×"
    hint = "; ".join(f"{s.name}: {what} {s.ratio:.1f}× overall, n={s.n:,}" for s in ranked[:3]) if named else ""
    verdict = Verdict.FAIL if named else Verdict.PASS
    low = min(top.ratio, top.low((1 - confidence) / len(found)))
    method = f"{what} by segment, one-sided t, Holm over {len(found):,}"
    return GateResult(
        GATE,
        verdict,
        top.ratio,
        low,
        threshold=max_ratio,
        n=loss.size,
        method=method,
        hint=hint,
        summary=summary,
        details=details,
    )


def _losses(y_true: Any, y_pred: Any, task: str, positive: Any) -> tuple[arrays.Floats, str]:
    problem = Problem.of(task, y_true, positive=positive)
    if task == "regression":
        prediction = arrays.finite("y_pred", y_pred)
        arrays.same_length(y_true=problem.target, y_pred=prediction)
        return (problem.target - prediction) ** 2, "RMSE"
    if task == "binary":
        prediction = arrays.probabilities("y_pred", y_pred)
        arrays.same_length(y_true=problem.target, y_pred=prediction)
        return (problem.target - prediction) ** 2, "root Brier"
    table = arrays.class_probabilities("y_pred", y_pred, problem.classes.size)
    arrays.same_length(y_true=problem.target, y_pred=table)
    return ((table - np.eye(problem.classes.size)[problem.target]) ** 2).sum(axis=1), "root Brier"


def _levels(series: Any) -> tuple[list[str], npt.NDArray[np.intp]] | None:
    """Return a column's segments in words and each row's segment (-1 for none), ``None`` where it makes none."""
    import pandas as pd

    codes, uniques = pd.factorize(series, use_na_sentinel=True)
    if 2 <= len(uniques) <= _MOST_LEVELS:
        return [f"{series.name}={_plain(u)}" for u in uniques], codes
    if len(uniques) < 2 or not pd.api.types.is_numeric_dtype(series.dtype):
        return None
    values = series.to_numpy(dtype=float, na_value=np.nan)
    edges = np.unique(np.nanquantile(values, [0.25, 0.5, 0.75]))
    cut = np.searchsorted(edges, values, side="right")
    cut = np.where(np.isnan(values), -1, cut)
    marks = [f"{e:,.4g}" for e in edges]
    words = [f"{series.name}<{marks[0]}"]
    words += [f"{a}≤{series.name}<{b}" for a, b in itertools.pairwise(marks)]
    return [*words, f"{series.name}≥{marks[-1]}"], cut


def _plain(value: Any) -> str:
    number = getattr(value, "item", lambda: value)()
    return f"{number:g}" if isinstance(number, float) else str(number)


def _scan(loss: arrays.Floats, columns: Mapping[str, Any], allowed: float, overall: float, min_rows: int) -> list[WeakSlice]:
    known = [levels for levels in columns.values() if levels is not None]
    out: list[WeakSlice] = []
    for words, codes in known:
        out += _segments(words, codes, loss, allowed, overall, min_rows)
    step = max(1, loss.size // _PAIR_ROWS)
    thin = loss[::step]
    for (words, codes), (others, more) in itertools.combinations(known, 2):
        a, b = codes[::step], more[::step]
        both = np.where((a < 0) | (b < 0), -1, a * len(others) + b)
        names = [f"{w} & {o}" for w in words for o in others]
        out += _segments(names, both, thin, allowed, overall, min_rows)
    return out


def _segments(
    words: list[str], codes: npt.NDArray[np.intp], loss: arrays.Floats, allowed: float, overall: float, min_rows: int
) -> list[WeakSlice]:
    seen = codes >= 0
    kept, part = (codes, loss) if seen.all() else (codes[seen], loss[seen])
    rows = np.bincount(kept, minlength=len(words))
    total = np.bincount(kept, part, len(words))
    square = np.bincount(kept, part * part, len(words))
    out = []
    for i in np.flatnonzero((rows >= min_rows) & (rows < loss.size)):
        n = int(rows[i])
        mean = total[i] / n
        se = math.sqrt(max(square[i] / n - mean**2, 0.0) / (n - 1))
        p = float(sps.t.sf((mean - allowed) / se, n - 1)) if se > 0 else float(mean <= allowed)
        out.append(WeakSlice(words[i], n, math.sqrt(mean / overall), p, se / overall))
    return out


def _holm(found: list[WeakSlice], alpha: float) -> list[WeakSlice]:
    named = []
    for rank, part in enumerate(sorted(found, key=lambda s: s.p_value)):
        if part.p_value > alpha / (len(found) - rank):
            break
        named.append(part)
    return named


@check("slices")
def declared_slices(
    y_true: Any, y_pred: Any, frame: Any, rules: Mapping[str, Mapping[str, Any]], *, task: str | None = None
) -> GateResult:
    """Judge declared segments, each by its own threshold.

    Parameters
    ----------
    y_true, y_pred, frame
        As for `weak_slices`.
    rules
        Segment in words to the arguments of `performance`: ``{"promo_active=1 & day_of_week=6": {"metric": "r2",
        "floor": 0.5}}``.

    Returns
    -------
    GateResult
        The worst segment decides; ``details["slices"]`` holds the result of each.
    """
    if not rules:
        return skip("slices", "no slice declared", "set checks.slices in mlgates.toml")
    results = {}
    truth, guess = arrays.raw("y_true", y_true), arrays.raw("y_pred", y_pred)
    arrays.same_length(y_true=truth, y_pred=guess, frame=frame)
    for words, rule in rules.items():
        mask = _mask(words, frame)
        if not mask.any():
            results[words] = GateResult(
                "slices", Verdict.INCONCLUSIVE, hint="no row of the holdout is in it", summary="no rows"
            )
            continue
        results[words] = performance(truth[mask], guess[mask], None, task=task, **rule)
    verdict = worst(*(r.verdict for r in results.values()))
    name, decisive = next((w, r) for w, r in results.items() if r.verdict is verdict)
    return dataclasses.replace(
        decisive,
        gate="slices",
        verdict=verdict,
        hint=f"{name}: {decisive.hint}" if decisive.hint else "",
        summary=f"{name}: {decisive.summary}",
        details={"slices": {w: {"verdict": r.verdict.value, "summary": r.summary, "n": r.n} for w, r in results.items()}},
    )


def _mask(words: str, frame: Any) -> npt.NDArray[np.bool_]:
    mask = np.ones(len(frame), dtype=np.bool_)
    for term in words.split("&"):
        name, sign, value = (part.strip() for part in term.partition("="))
        if not sign or name not in frame.columns:
            raise ConfigError(
                f"slice {words!r} has the term {term.strip()!r}, expected COLUMN=VALUE with a column of the holdout"
            )
        column = frame[name]
        if column.dtype.kind in "iufb":
            try:
                mask &= column.to_numpy(dtype=float) == float(value)
            except ValueError as error:
                raise ConfigError(f"slice {words!r}: {value!r} is no value of the numeric column {name!r}") from error
        else:
            mask &= column.astype(str).to_numpy() == value
    return mask
