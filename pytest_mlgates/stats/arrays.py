"""Turning what callers hand in into finite float arrays, or into one clear error."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt

from pytest_mlgates.errors import DataUnusable

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_LARGEST = 1e100


class NotEnough(DataUnusable):
    """Data that are well formed but cannot settle the question: too few rows, one class, no spread."""


def raw(name: str, values: Any) -> npt.NDArray[Any]:
    """Return ``values`` as an array of at most two dimensions, columns of length one flattened.

    Raises
    ------
    DataUnusable
        Ragged, missing, or of more than two dimensions.
    """
    if values is None:
        raise DataUnusable(f"{name} is None, expected one value per row")
    try:
        array = _as_array(values)
    except (ValueError, TypeError) as error:
        raise DataUnusable(f"{name} is not an array: {error}") from error
    if array.ndim == 0:
        raise DataUnusable(f"{name} is a {type(values).__name__}, expected an array, a list or a column with one value per row")
    if array.dtype.kind == "V":
        raise DataUnusable(f"{name} holds records ({array.dtype}), expected one value per row; pick the field")
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim not in (1, 2):
        raise DataUnusable(f"{name} has shape {array.shape}, expected one value per row")
    return array


def _as_array(values: Any) -> npt.NDArray[Any]:
    """Arrays, frames, series, Arrow arrays, lists; what a mask hides is missing, as it is in the source."""
    if type(values).__module__.partition(".")[0] == "pyarrow":
        return np.asarray(values.to_pandas())
    if isinstance(values, np.ma.MaskedArray):
        shown = np.asarray(values.data)
        if np.ma.is_masked(values):
            shown = shown.astype(object)
            shown[np.ma.getmaskarray(values)] = None
        return shown
    return np.asarray(values.to_numpy() if hasattr(values, "to_numpy") else values)


def _kind(array: npt.NDArray[Any]) -> str:
    """What an object array holds, by pandas' words, missing values left out."""
    import pandas as pd

    return str(pd.api.types.infer_dtype(array.ravel(), skipna=True))


_NUMBERS = ("integer", "floating", "mixed-integer-float", "decimal", "boolean", "empty")


def numeric(name: str, values: Any) -> Floats:
    """Return ``values`` as float64, missing values as NaN, without a check for finiteness.

    Raises
    ------
    DataUnusable
        Text (also text that could be read as a number), dates, complex numbers, ragged input.
    """
    array = raw(name, values)
    if array.dtype == np.float64:
        return array
    if array.dtype.kind in "cMm":
        raise DataUnusable(f"{name} holds {array.dtype} values, expected numbers")
    holds = _kind(array) if array.dtype.kind == "O" else "string" if array.dtype.kind in "USTa" else "floating"
    # numpy would read "0.5" as a number: a column of text is a reading error that someone should hear of
    if holds not in _NUMBERS and not (holds == "mixed" and _all_numbers(array)):
        raise DataUnusable(
            f"{name} holds values that are not numbers ({holds}); expected floats or integers, convert the column"
        )
    try:
        if array.dtype.kind == "O":
            array = np.where(_missing(array), np.nan, array)
        return array.astype(np.float64)
    except (ValueError, TypeError, OverflowError) as error:
        raise DataUnusable(f"{name} holds values that are not numbers ({error}); expected floats or integers") from error


def finite(name: str, values: Any, *, columns: bool = False) -> Floats:
    """Return ``values`` as finite float64 of shape (n,), or (n, k) where ``columns`` allows it.

    Raises
    ------
    NotEnough
        No rows at all.
    DataUnusable
        NaN or infinite values (their number is named), or a wrong shape.
    """
    array = numeric(name, values)
    if array.ndim == 2 and not columns:
        raise DataUnusable(f"{name} has shape {array.shape}, expected one value per row")
    if array.size == 0:
        raise NotEnough(f"{name} is empty, expected at least two rows")
    bad = int(array.size - np.count_nonzero(np.isfinite(array)))
    if bad:
        raise DataUnusable(f"{name} has {bad:,} NaN or infinite values among {array.size:,}, expected finite numbers")
    size = max(float(array.max()), -float(array.min()))
    if size > _LARGEST:
        raise DataUnusable(f"{name} has values as large as {size:.3g}, expected numbers that can be squared (at most 1e100)")
    return array


def labels(name: str, values: Any) -> npt.NDArray[Any]:
    """Return class labels of shape (n,), of any type, none missing.

    Raises
    ------
    NotEnough
        No rows at all.
    DataUnusable
        Missing labels or a wrong shape.
    """
    array = raw(name, values)
    if array.ndim != 1:
        raise DataUnusable(f"{name} has shape {array.shape}, expected one label per row")
    if array.size == 0:
        raise NotEnough(f"{name} is empty, expected at least two rows")
    gone = int(np.count_nonzero(_missing(array)))
    if gone:
        raise DataUnusable(f"{name} has {gone:,} missing or infinite labels among {array.size:,}")
    return array if array.dtype.kind != "O" else _plain_labels(name, array)


def _plain_labels(name: str, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return labels kept as Python objects as an array of one type."""
    holds = _kind(array)
    if holds == "boolean":
        return array.astype(np.bool_)
    if holds in _NUMBERS or _all_numbers(array):
        try:
            whole = holds in ("integer", "boolean")
            return array.astype(np.int64 if whole else np.float64)
        except (ValueError, TypeError, OverflowError) as error:
            raise DataUnusable(f"{name} has labels that are too large: {error}") from error
    if any(isinstance(value, (list, dict, set, tuple, np.ndarray)) for value in array):
        raise DataUnusable(f"{name} holds lists or mappings, expected one label per row")
    if holds.startswith("mixed"):
        kinds = sorted({type(value).__name__ for value in array})
        raise DataUnusable(f"{name} mixes labels of the types {', '.join(kinds[:4])}; expected one type")
    return array.astype(str)


def integers(name: str, values: Any) -> npt.NDArray[Any]:
    """Return whole numbers of shape (n,), row hashes say, as int64 or uint64; n may be 0.

    Raises
    ------
    DataUnusable
        Anything else, missing values too.
    """
    array = raw(name, values)
    if array.dtype.kind == "O" and _kind(array) == "integer" and not _missing(array).any():
        try:
            array = array.astype(np.int64)
        except OverflowError as error:
            raise DataUnusable(f"{name} has numbers beyond 64 bits: {error}") from error
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        shape = f" of shape {array.shape}" if array.ndim != 1 else ""
        raise DataUnusable(f"{name} holds {array.dtype} values{shape}, expected one whole number per row, none missing")
    return array if array.size else array.astype(np.int64)


def times(name: str, values: Any) -> npt.NDArray[Any]:
    """Return dates (as datetime64) or numbers (as float64) of shape (n,), none missing.

    Raises
    ------
    NotEnough
        No rows at all.
    DataUnusable
        Missing times, text that is no date, durations, a wrong shape.
    """
    import pandas as pd

    array = raw(name, values)
    if array.ndim != 1:
        raise DataUnusable(f"{name} has shape {array.shape}, expected one time per row")
    if array.size == 0:
        raise NotEnough(f"{name} is empty, expected one time per row")
    holds = _kind(array) if array.dtype.kind == "O" else {"M": "datetime", "U": "string"}.get(array.dtype.kind, "number")
    if holds not in ("datetime", "datetime64", "date", "string"):
        return finite(name, array)
    try:
        found = pd.to_datetime(pd.Series(array), utc=True, errors="raise", format="ISO8601" if holds == "string" else None)
    except (ValueError, TypeError, OverflowError) as error:
        raise DataUnusable(f"{name} holds values that are no dates ({str(error).splitlines()[0][:120]})") from error
    if gone := int(found.isna().sum()):
        raise DataUnusable(f"{name} has {gone:,} missing times among {array.size:,}")
    return np.asarray(found.dt.tz_localize(None).to_numpy())


def same_length(**named: Any) -> int:
    """Return the common number of rows.

    Raises
    ------
    DataUnusable
        The lengths differ.
    """
    sizes = {name: len(value) for name, value in named.items()}
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{name} has {size:,}" for name, size in sizes.items())
        raise DataUnusable(f"row counts differ: {told} rows; expected the same rows in the same order")
    return next(iter(sizes.values()))


def binary(name: str, values: Any, positive: Any = None) -> Bools:
    """Return true where the label is the positive class: ``positive``, else the last of two classes in sorted order.

    Raises
    ------
    NotEnough
        Fewer than two classes.
    DataUnusable
        More than two classes and no ``positive``; missing labels.
    """
    array = labels(name, values)
    if array.dtype.kind == "b":
        chosen = array
    elif positive is not None:
        chosen = array == (str(positive) if array.dtype.kind == "U" else positive)
    else:
        classes = np.unique(array)
        if classes.size > 2:
            raise DataUnusable(f"{name} has {classes.size} classes, expected two; name the positive one or say multiclass")
        lone = classes.size == 1 and classes.dtype.kind in "iuf"
        chosen = array == (1 if lone and classes[0] in (0, 1) else classes[-1])
    hits = int(np.count_nonzero(chosen))
    if hits in (0, chosen.size):
        raise NotEnough(f"{name} has one class only in {chosen.size:,} rows, expected both")
    return np.asarray(chosen, dtype=np.bool_)


def probabilities(name: str, values: Any) -> Floats:
    """Return probabilities of the positive class, shape (n,); of two columns the last is taken.

    Raises
    ------
    DataUnusable
        Values outside [0, 1] (beyond 1e-9), NaN, or more than two columns.
    """
    array = finite(name, values, columns=True)
    if array.ndim == 2:
        if array.shape[1] != 2:
            raise DataUnusable(f"{name} has {array.shape[1]} columns, expected probabilities of two classes")
        return np.ascontiguousarray(class_probabilities(name, array, 2)[:, 1])
    return _unit(name, array)


def class_probabilities(name: str, values: Any, classes: int) -> Floats:
    """Return probabilities of shape (n, classes), rows summing to one within 1e-3, then made exact.

    Raises
    ------
    DataUnusable
        Wrong shape, values outside [0, 1], rows that do not sum to one.
    """
    array = finite(name, values, columns=True)
    if array.ndim != 2 or array.shape[1] != classes:
        raise DataUnusable(f"{name} has shape {array.shape}, expected one column per class ({classes} classes)")
    array = _unit(name, array)
    total = array.sum(axis=1, keepdims=True)
    if np.any(np.abs(total - 1) > 1e-3):
        worst = float(total.ravel()[np.argmax(np.abs(total - 1))])
        raise DataUnusable(f"{name} has rows that do not sum to 1 (worst {worst:.4g}); expected probabilities")
    return np.asarray(array / total)


def _unit(name: str, array: Floats) -> Floats:
    low, high = float(array.min()), float(array.max())
    if low < -1e-9 or high > 1 + 1e-9:
        raise DataUnusable(f"{name} runs from {low:.4g} to {high:.4g}, expected probabilities between 0 and 1")
    return np.clip(array, 0.0, 1.0) if low < 0 or high > 1 else array


def _missing(array: npt.NDArray[Any]) -> Bools:
    if array.dtype.kind == "f":
        return np.asarray(~np.isfinite(array))
    if array.dtype.kind != "O":
        return np.zeros(array.shape, dtype=np.bool_)
    import pandas as pd

    return np.asarray(pd.isna(array), dtype=np.bool_)


def _all_numbers(array: npt.NDArray[Any]) -> bool:
    return all(isinstance(value, (int, float, Decimal, np.number, np.bool_)) or value is None for value in array.ravel())
