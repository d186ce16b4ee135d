"""Row hashes, by which a holdout that shares rows with the training data is found."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pytest_mlgates.errors import DataUnusable
from pytest_mlgates.stats.arrays import Floats

_EXACT = float(2**24)  # whole numbers up to here survive float32
_MIX = np.uint64(0x9E3779B97F4A7C15)


def row_hashes(frame: Any) -> npt.NDArray[np.int64]:
    """Return one 64-bit hash per row of a data frame.

    Parameters
    ----------
    frame : DataFrame, shape (n, columns)
        Any order of columns: they are taken by name. Numbers, booleans, dates, text; missing values hash alike.

    Returns
    -------
    ndarray, shape (n,), int64
        Equal for rows whose numbers agree after a round trip through float32 and to four decimals; whole numbers up to
        2²⁴ hash the same as integers and as floats, dates the same as midnight timestamps.

    Raises
    ------
    DataUnusable
        Not a data frame, or no columns.

    Notes
    -----
    Numbers are cast to float32 and then rounded to four decimals, so that data that went through float32 meet their
    originals (raw hashes find none of them again). Columns are mixed by splitmix64's finalizer (Steele, Lea and Flood
    2014).
    """
    if not hasattr(frame, "columns"):
        raise DataUnusable(f"row hashes need a data frame, got {type(frame).__name__}")
    names = sorted(map(str, frame.columns))
    if not names:
        raise DataUnusable("row hashes need at least one column")
    by_name = {str(c): frame[c] for c in frame.columns}
    out = np.zeros(len(frame), dtype=np.uint64)
    for name in names:
        out *= _MIX
        out ^= _mixed(_column(by_name[name]))
        out += _MIX
    return out.view(np.int64)


def _column(series: Any) -> npt.NDArray[np.uint64]:
    import pandas as pd

    dtype = series.dtype
    if pd.api.types.is_bool_dtype(dtype) or pd.api.types.is_numeric_dtype(dtype):
        return _numbers(series)
    if pd.api.types.is_datetime64_any_dtype(dtype):
        days = pd.to_datetime(series, utc=True).dt.tz_localize(None)
        return np.asarray(days.to_numpy(dtype="datetime64[us]").view(np.int64).view(np.uint64))
    first = series.dropna().head(1).tolist()
    if first and hasattr(first[0], "isoformat"):
        return _column(pd.to_datetime(series, utc=True))
    codes, uniques = pd.factorize(series, use_na_sentinel=True)
    texts = np.array([str(u) for u in uniques] or [""], dtype=object)
    hashed = np.append(pd.util.hash_array(texts, categorize=False), np.uint64(1))
    return np.asarray(hashed[codes if len(uniques) else np.full(len(series), -1)], dtype=np.uint64)


def _numbers(series: Any) -> npt.NDArray[np.uint64]:
    values = series.to_numpy(dtype=np.float64, na_value=np.nan)
    if series.dtype.kind in "iu":
        whole = np.asarray(series.to_numpy(dtype=np.int64, na_value=0))
        return np.where(np.abs(values) > _EXACT, whole.view(np.uint64), _rounded(values))
    return _rounded(values)


def _rounded(values: Floats) -> npt.NDArray[np.uint64]:
    with np.errstate(over="ignore"):  # beyond float32 becomes infinite, which still hashes
        single = values.astype(np.float32).astype(np.float64)
    rounded = np.round(single, 4) + 0.0  # minus zero becomes zero
    rounded[np.isnan(rounded)] = np.nan  # one bit pattern
    return rounded.view(np.uint64)


def _mixed(bits: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    mixed = bits ^ (bits >> np.uint64(30))
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed
