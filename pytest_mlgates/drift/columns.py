"""What kind of thing a column holds, and its values as numpy sees them."""

from __future__ import annotations

import enum
import re
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pytest_mlgates.errors import DataUnusable

if TYPE_CHECKING:
    from numpy.typing import NDArray

_DATE = re.compile(
    r"(\d{4}[-/.]\d{1,2}([-/.]\d{1,2}([T ]\d{1,2}:\d{2}.*)?)?"  # 2026-04-27T04:00, 2026/4/27, 2026-04
    r"|\d{1,2}[-/.]\d{1,2}[-/.]\d{4}( \d{1,2}:\d{2}.*)?|\d{1,2}[-/]\d{1,2}[-/]\d{2}"  # 27.04.2026, 4/27/26
    r"|(19|20)\d{2}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])"  # 20260427
    r"|\d{1,2}[ -][A-Za-z]{3,9}[ -]\d{2,4}|[A-Za-z]{3,9} \d{1,2},? \d{4})"  # 27 April 2026, Apr 27, 2026
)
_DATE_SAMPLE = 50


class Kind(enum.StrEnum):
    """How a column is compared."""

    NUMBER = "number"
    TIME = "time"  # instants or calendar dates, as seconds; a zone-less and a zoned column do not compare
    ZONED = "zoned time"
    CATEGORY = "category"
    EMPTY = "empty"
    OTHER = "other"

    @property
    def numeric(self) -> bool:
        """Whether values lie on a line."""
        return self in (Kind.NUMBER, Kind.TIME, Kind.ZONED)


def kind_of(kind: pa.DataType) -> Kind:
    """Return how a column of this Arrow type is compared."""
    t = pa.types
    if t.is_dictionary(kind):
        return kind_of(kind.value_type)
    if t.is_integer(kind) or t.is_floating(kind) or t.is_decimal(kind):
        return Kind.NUMBER
    if t.is_timestamp(kind):
        return Kind.ZONED if kind.tz else Kind.TIME
    if t.is_date(kind):
        return Kind.TIME
    if t.is_boolean(kind) or t.is_string(kind) or t.is_large_string(kind) or t.is_string_view(kind):
        return Kind.CATEGORY
    return Kind.EMPTY if t.is_null(kind) else Kind.OTHER


def numeric_values(array: pa.Array) -> tuple[NDArray[np.float64], float, float]:
    """Return ``(finite values as float64, missing rows, infinite rows)`` of a numeric or temporal array.

    Times become seconds since 1970 (UTC for zoned ones). Null and NaN are both missing.
    """
    values, missing = dense_values(array), float(array.null_count)
    finite = np.isfinite(values)
    if finite.all():
        return values, missing, 0.0
    not_numbers = float(np.count_nonzero(np.isnan(values)))
    return values[finite], missing + not_numbers, float(values.size - finite.sum()) - not_numbers


def dense_values(array: pa.Array) -> NDArray[np.float64]:
    """Return what is not null as float64, with any NaN and infinite values; see `numeric_values`."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_temporal(array.type):
        return np.asarray(_numpy(microseconds(array)) / 1e6)
    if pa.types.is_decimal(array.type):
        array = array.cast(pa.float64())
    return _numpy(array).astype(np.float64, copy=False)


def microseconds(times: pa.Array) -> pa.Array:
    """Return instants or dates as whole microseconds since 1970 (UTC for zoned ones); finer parts are cut off."""
    return times.cast(pa.timestamp("us", tz=getattr(times.type, "tz", None)), safe=False).cast(pa.int64())


def category_counts(array: pa.Array) -> tuple[dict[str, float], float]:
    """Return ``(rows per category, missing rows)`` of a text or boolean array."""
    if pa.types.is_dictionary(array.type):
        names = array.dictionary.cast(pa.string()).to_pylist()
        rows = np.bincount(_numpy(array.indices), minlength=len(names)).tolist() if names else []
    else:  # views (Delta readers hand them out) are counted as they are: a cast would cost as much again
        found = array.drop_null().value_counts()
        names = found.field(0).cast(pa.string()).to_pylist()
        rows = found.field(1).to_pylist()
    counts: dict[str, float] = {}
    for name, count in zip(names, rows, strict=True):
        if count:
            counts[name] = counts.get(name, 0.0) + float(count)
    return counts, float(array.null_count)


def refuse_text_dates(name: str, array: pa.Array) -> None:
    """Refuse a text column that holds dates: as categories nearly every day would be a new one.

    Raises
    ------
    DataUnusable
    """
    sample = array[: 4 * _DATE_SAMPLE]
    if pa.types.is_dictionary(sample.type):
        sample = sample.dictionary_decode()
    if pa.types.is_boolean(sample.type):
        return
    texts = sample.cast(pa.string()).drop_null().to_pylist()[:_DATE_SAMPLE]
    if texts and all(_DATE.fullmatch(text.strip()) for text in texts):
        raise DataUnusable(
            f"column {name!r} holds dates as strings (such as {texts[0]!r}), expected DATE or TIMESTAMP; "
            f"cast it in Silver, CAST({name} AS DATE), or leave it out of the columns"
        )


def _numpy(array: pa.Array) -> NDArray[np.float64]:
    full = pc.drop_null(array) if array.null_count else array
    if pa.types.is_boolean(full.type) or len(full) == 0:
        return np.asarray(full.to_numpy(zero_copy_only=False))
    # not to_numpy: it imports pandas, which costs more than profiling a million rows of one column
    values: NDArray[np.float64] = np.from_dlpack(full)  # type: ignore[assignment]  # whatever its width: cast by the caller
    return values
