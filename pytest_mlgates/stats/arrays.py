"""Turning what callers hand in into finite float arrays, or into one clear error."""

from __future__ import annotations

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
        array = values.to_numpy() if hasattr(values, "to_numpy") else np.asarray(values)
    except (ValueError, TypeError) as error:
        raise DataUnusable(f"{name} is not an array: {error}") from error
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim not in (1, 2):
        raise DataUnusable(f"{name} has shape {array.shape}, expected one value per row")
    return array


def numeric(name: str, values: Any) -> Floats:
    """Return ``values`` as float64, missing values as NaN, without a check for finiteness.

    Raises
    ------
    DataUnusable
        Text that is no number, complex numbers, ragged input.
    """
    array = raw(name, values)
    if array.dtype == np.float64:
        return array
    if array.dtype.kind in "cMmV":
        raise DataUnusable(f"{name} holds {array.dtype} values, expected numbers")
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
    return array.astype(str) if array.dtype.kind == "O" and not _numbers(array) else array


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
        array = np.ascontiguousarray(array[:, 1])
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
        raise DataUnusable(f"{name} has rows that do not sum to 1 (worst {float(total.max()):.4g}); expected probabilities")
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


def _numbers(array: npt.NDArray[Any]) -> bool:
    return all(isinstance(value, (int, float, np.number)) for value in array[:100])
