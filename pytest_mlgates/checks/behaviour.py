"""How a model behaves when asked: the same answer twice, alone as in a batch, for odd input, within bounds, in a declared direction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pytest_mlgates.checks.verdicts import check, limit, skip
from pytest_mlgates.errors import ConfigError, DataUnusable, MlgatesError, ModelUnusable
from pytest_mlgates.results import GateResult, Verdict
from pytest_mlgates.stats import NotEnough, arrays

Predict = Callable[[Any], Any]

# what a model may raise on input that it refuses; anything else is a crash
_CLEAN = (ValueError, TypeError, KeyError, MlgatesError)


def ask(predict: Predict, frame: Any) -> npt.NDArray[Any]:
    """Return the model's answers, one per row.

    Raises
    ------
    ModelUnusable
        It raises, or answers with another number of rows.
    """
    try:
        answer = arrays.raw("the prediction", predict(frame))
    except DataUnusable:
        raise
    except Exception as error:
        raise ModelUnusable(f"the model raised {type(error).__name__}: {_first_line(error)}") from error
    if len(answer) != len(frame):
        raise ModelUnusable(f"the model answered {len(answer):,} values for {len(frame):,} rows")
    return answer


@check("determinism")
def determinism(predict: Predict, frame: Any, *, repeats: int = 2, rtol: float = 1e-9) -> GateResult:
    """PASS when the same rows get the same answers, call after call.

    Parameters
    ----------
    predict
        Takes a frame, returns one answer per row.
    frame : DataFrame
        A few hundred rows do.
    repeats
        Further calls.
    rtol
        Relative tolerance, for sums whose order differs between threads.
    """
    first = ask(predict, frame)
    for _ in range(repeats):
        again = ask(predict, frame.copy())
        differ = _differ(first, again, rtol)
        if count := int(np.count_nonzero(differ)):
            hint = f"{count:,} of {len(first):,} answers change from call to call: seed the model, or take its random state out of predict"
            return _result("determinism", Verdict.FAIL, len(first), hint, {"rows_that_differ": count})
    return _result("determinism", Verdict.PASS, len(first), "", {"repeats": repeats}, f"{repeats + 1} calls, one answer")


@check("batch")
def single_row_equals_batch(predict: Predict, frame: Any, *, rows: int = 50, rtol: float = 1e-5) -> GateResult:
    """PASS when a row gets the same answer alone, in the batch, and in the batch in reverse order.

    Parameters
    ----------
    predict, frame
        See `determinism`.
    rows
        How many are asked one by one, evenly spread.
    rtol
        Relative tolerance; float32 sums pass.
    """
    together = ask(predict, frame)
    picked = np.unique(np.linspace(0, len(frame) - 1, min(rows, len(frame))).astype(int))
    alone = np.array([ask(predict, frame.iloc[[i]])[0] for i in picked])
    backwards = ask(predict, frame.iloc[::-1])[::-1]
    found = {"alone": _differ(together[picked], alone, rtol), "in reverse order": _differ(together, backwards, rtol)}
    for how, differ in found.items():
        if count := int(np.count_nonzero(differ)):
            hint = f"{count:,} of {differ.size:,} rows get another answer {how}: predict must not use statistics of the batch"
            return _result("batch", Verdict.FAIL, len(together), hint, {"rows_that_differ": count, "how": how})
    return _result(
        "batch", Verdict.PASS, len(together), "", {"rows_alone": len(picked)}, f"{len(picked)} rows alone as in the batch"
    )


@check("robustness")
def robustness(
    predict: Predict, frame: Any, *, low: float | None = None, high: float | None = None, rows: int = 20
) -> GateResult:
    """PASS when missing, unseen and extreme values get a finite answer or a clean error, column by column.

    Parameters
    ----------
    predict, frame
        See `determinism`; the frame's first ``rows`` rows are altered.
    low, high
        Bounds that answers to extreme values keep too.

    Notes
    -----
    Clean are ValueError, TypeError, KeyError, MLflow's own exception and this package's. NaN, infinities and other
    exceptions are not.
    """
    base = frame.head(rows)
    usual = ask(predict, base)
    problems: dict[str, str] = {}
    tried = 0
    for name in base.columns:
        for what, value in _odd_values(frame[name]).items():
            tried += 1
            altered = base.copy()
            altered[name] = value
            if problem := _problem(predict, altered, usual, low, high):
                problems[f"{name}: {what}"] = problem
    if not tried:
        return skip("robustness", "no column to alter", "")
    if problems:
        told = "; ".join(f"{k} → {v}" for k, v in list(problems.items())[:3])
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        return _result(
            "robustness", Verdict.FAIL, tried, f"{told}{more}: impute, clip or refuse such input", {"problems": problems}
        )
    return _result("robustness", Verdict.PASS, tried, "", {}, f"{tried} odd inputs, each a finite answer or a clean error")


@check("bounds")
def bounds(y_pred: Any, *, low: float | None = None, high: float | None = None) -> GateResult:
    """PASS when every prediction is finite and within declared bounds; SKIP where none are declared.

    Parameters
    ----------
    y_pred : array-like, shape (n,) or (n, classes)
    low, high
        In the unit of the prediction.
    """
    if low is None and high is None:
        return skip("bounds", "no bounds declared", "set checks.bounds low and high in mlgates.toml")
    if low is not None and high is not None and not low < high:
        raise ConfigError(f"bounds run from {low!r} to {high!r}, expected low < high")
    values = arrays.finite("y_pred", y_pred, columns=True)
    least, most = float(values.min()), float(values.max())
    outside = int(
        np.count_nonzero(values < (-np.inf if low is None else low))
        + np.count_nonzero(values > (np.inf if high is None else high))
    )
    numbers = {"least": least, "most": most, "low": low, "high": high, "outside": outside}
    span = f"predictions from {least:,.4g} to {most:,.4g}, bounds {low if low is not None else '−∞'} to {high if high is not None else '∞'}"
    if outside:
        hint = f"{outside:,} predictions outside: clip them in the model, or widen the bounds"
        return _result("bounds", Verdict.FAIL, len(values), hint, numbers, span)
    return _result("bounds", Verdict.PASS, len(values), "", numbers, span)


@check("monotonicity")
def monotonicity(
    predict: Predict, frame: Any, directions: Mapping[str, int | str], *, max_share: float = 0.02, steps: int = 5
) -> GateResult:
    """PASS when raising a feature moves answers only in its declared direction, in all but a few rows.

    Parameters
    ----------
    predict, frame
        See `determinism`.
    directions
        Feature to ``+1`` / ``"+"`` (answers rise) or ``-1`` / ``"-"``.
    max_share
        Share of rows that may go the other way by more than a thousandth of the answers' spread.
    steps
        Values of the feature tried, from its 5 % to its 95 % quantile.
    """
    if not directions:
        return skip(
            "monotonicity", "no direction declared", "set checks.monotonicity in mlgates.toml, e.g. { lag_7_revenue = '+' }"
        )
    max_share = limit("max_share", max_share, above=-1e-12, most=1.0)
    shares: dict[str, float] = {}
    for name, direction in directions.items():
        sign = {"+": 1, "-": -1, 1: 1, -1: -1}.get(direction)
        if sign is None or name not in frame.columns:
            raise ConfigError(f"monotonicity of {name!r} is {direction!r}, expected '+' or '-' for a column of the holdout")
        column = arrays.finite(name, frame[name])
        answers = []
        for value in np.quantile(column, np.linspace(0.05, 0.95, steps)):
            altered = frame.copy()
            altered[name] = np.full(len(frame), value).astype(frame[name].dtype)
            answers.append(arrays.finite("the prediction", ask(predict, altered), columns=True).reshape(len(frame), -1)[:, -1])
        table = np.array(answers)
        slack = 1e-3 * float(table.std())
        shares[name] = float(np.mean((np.diff(table, axis=0) * sign < -slack).any(axis=0)))
    bad = {k: v for k, v in shares.items() if v > max_share}
    if bad:
        told = ", ".join(f"{k} in {100 * v:.1f} % of rows" for k, v in bad.items())
        hint = f"answers go against the declared direction of {told}: constrain the model or drop the declaration"
        return _result("monotonicity", Verdict.FAIL, len(frame), hint, {"shares": shares})
    return _result("monotonicity", Verdict.PASS, len(frame), "", {"shares": shares}, f"{len(shares)} declared directions hold")


@check("schema")
def schema(columns: Sequence[tuple[str, str]], frame: Any, *, predict: Predict | None = None) -> GateResult:
    """PASS when the model has a signature, the holdout has its columns, and the model refuses a row that lacks one.

    Parameters
    ----------
    columns : sequence of (name, type)
        The signature's inputs, types by MLflow's names (``double``, ``long``, ``string``, …).
    frame : DataFrame
        The holdout's inputs.
    predict
        When given, it is asked once with a column missing and must raise.
    """
    if not columns:
        hint = "log the model with signature=infer_signature(X, predictions): without one nothing checks what it is fed"
        return _result("schema", Verdict.FAIL, 0, hint, {})
    numbers = {"columns": [name for name, _ in columns]}
    if missing := [name for name, _ in columns if name not in frame.columns]:
        return _result("schema", Verdict.FAIL, len(frame), f"the holdout lacks {', '.join(missing)}", numbers)
    words = [n for n, kind in columns if kind in _NUMBERS and not _is_number(frame[n])]
    if words:
        return _result(
            "schema",
            Verdict.FAIL,
            len(frame),
            (f"the signature says numbers, the holdout has text in {', '.join(words)}"),
            numbers,
        )
    if predict is not None:
        name = columns[0][0]
        try:
            predict(frame.head(3).drop(columns=[name]))
        except Exception:  # noqa: BLE001 any refusal will do
            return _result("schema", Verdict.PASS, len(frame), "", numbers, f"{len(columns)} columns, a missing one is refused")
        hint = f"the model answers without its input {name!r}: load it through pyfunc so that the signature is enforced"
        return _result("schema", Verdict.FAIL, len(frame), hint, numbers)
    return _result("schema", Verdict.PASS, len(frame), "", numbers, f"{len(columns)} columns as in the signature")


_NUMBERS = ("double", "float", "long", "integer", "boolean")


def _is_number(series: Any) -> bool:
    import pandas as pd

    return bool(pd.api.types.is_numeric_dtype(series.dtype) or pd.api.types.is_bool_dtype(series.dtype))


def _odd_values(series: Any) -> dict[str, Any]:
    """Values to put in a column, by what they are; only such as its type can hold."""
    kind = series.dtype.kind
    if kind == "f":
        size = float(np.nanmax(np.abs(series.to_numpy(dtype=float)))) or 1.0
        return {"missing": np.nan, "1,000 × its largest": 1e3 * size, "−1,000 × its largest": -1e3 * size, "zero": 0.0}
    if kind in "iu":
        size = max(int(np.abs(series.to_numpy()).max()), 1)
        top = np.iinfo(series.dtype).max
        return {"1,000 × its largest": min(1000 * size, top), "zero": 0} | ({"negative": -size} if kind == "i" else {})
    if kind in "OUT" or str(series.dtype) in ("category", "str", "string"):
        return {"missing": None, "an unseen category": "never seen before", "empty text": ""}
    return {}


def _problem(predict: Predict, frame: Any, usual: npt.NDArray[Any], low: float | None, high: float | None) -> str:
    """Return what is wrong with the answer, empty where nothing is."""
    try:
        answer = arrays.raw("the prediction", predict(frame))
    except Exception as error:  # noqa: BLE001 a model under test may raise anything: which, is the finding
        clean = isinstance(error, _CLEAN) or type(error).__name__ == "MlflowException"
        return "" if clean else f"crash, {type(error).__name__}: {_first_line(error)}"
    if answer.shape != usual.shape:
        return f"{len(answer)} answers for {len(usual)} rows"
    if answer.dtype.kind not in "fiub":
        return ""
    values = answer.astype(float)
    if not np.all(np.isfinite(values)):
        return "NaN or infinite"
    if low is not None and float(values.min()) < low:
        return f"{values.min():.4g}, below {low:g}"
    if high is not None and float(values.max()) > high:
        return f"{values.max():.4g}, above {high:g}"
    return ""


def _differ(one: npt.NDArray[Any], two: npt.NDArray[Any], rtol: float) -> npt.NDArray[np.bool_]:
    if one.shape != two.shape:
        raise NotEnough(f"answers have shapes {one.shape} and {two.shape}")
    if one.dtype.kind in "fiub" and two.dtype.kind in "fiub":
        a, b = one.astype(float), two.astype(float)
        scale = float(np.nanstd(a)) if a.size else 0.0
        differ = ~np.isclose(a, b, rtol=rtol, atol=rtol * scale, equal_nan=True)
    else:
        differ = one != two
    return np.asarray(differ.any(axis=1) if differ.ndim == 2 else differ)


def _result(gate: str, verdict: Verdict, n: int, hint: str, details: dict[str, Any], summary: str = "") -> GateResult:
    return GateResult(gate, verdict, n=n, hint=hint, summary=summary or hint, details=details, method="direct trial")


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0][:160]
