"""Requests and answers: three request shapes, one list of typed rows.

The tutorial's ``{"input_data": {"columns": […], "data": [[…]]}}`` and Fabric's ``{"formatType": "dataframe",
"orientation": "values" | "record" | "split", "inputs": […]}`` are read with msgspec, then held against the model's signature.
A request that does not fit raises `BadRequest` naming the row and the column; it never reaches the model.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from pytest_mlgates.errors import nearest
from pytest_mlgates.ports import Column

_INT64 = (-(2**63), 2**63 - 1)
_INT32 = (-(2**31), 2**31 - 1)
_FIRST_MOMENT, _LAST_MOMENT = dt.datetime(1678, 1, 1), dt.datetime(2262, 1, 1)  # noqa: DTZ001 nanoseconds in 64 bits hold no more


class BadRequest(Exception):
    """A request that cannot be scored; ``status`` is 400 (not JSON), 413 (too large) or 422 (does not fit the model)."""

    def __init__(self, message: str, *, status: int = 422, column: str | None = None, row: int | None = None) -> None:
        self.status = status
        self.column = column
        self.row = row
        super().__init__(message)


class ModelRefused(BadRequest):
    """The request fits the signature, but the model refuses it or answers no finite number."""


class InputData(msgspec.Struct):
    """The tutorial's ``input_data``."""

    columns: list[str]
    data: list[list[Any]]


class ScoreBody(msgspec.Struct):
    """Body of a scoring request: one of ``input_data`` and ``inputs``."""

    input_data: InputData | None = None
    inputs: list[Any] | None = None
    formatType: str = "dataframe"  # noqa: N815 Fabric's own name
    orientation: str = "values"


class ScoreAnswer(msgspec.Struct):
    """The tutorial's answer."""

    predictions: list[Any]
    model_name: str
    model_version: str
    latency_ms: float


class FabricAnswer(msgspec.Struct):
    """Fabric's answer: one list per row."""

    formatType: str  # noqa: N815 Fabric's own name
    orientation: str
    predictions: list[list[Any]]


class ErrorAnswer(msgspec.Struct, omit_defaults=True):
    """Every refusal: Fabric's ``errorCode`` and ``message``, and where the trouble is."""

    errorCode: str  # noqa: N815 Fabric's own name
    message: str
    requestId: str = ""  # noqa: N815 Fabric's own name
    column: str | None = None
    row: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Rows:
    """A request that fits: values in the signature's order, one list per row, and whether it came in Fabric's shape."""

    columns: tuple[str, ...]
    values: list[list[Any]]
    fabric: bool = False
    orientation: str = "values"


class _Outline(msgspec.Struct):
    class Columns(msgspec.Struct):
        columns: list[str]

    input_data: Columns


_decoder = msgspec.json.Decoder(ScoreBody)
_outline = msgspec.json.Decoder(_Outline)
_CELL = re.compile(r"`\$\.(?P<shape>input_data\.data|inputs)\[(?P<row>\d+)\]\[(?P<column>\d+)\]")
_NO_JSON_NUMBER = re.compile(rb"[\[:,]\s*-?(NaN|Infinity)")


class InputSchema:
    """A model's input signature, ready to hold requests against.

    Parameters
    ----------
    columns
        Signature in order; empty for a model without one: then the request's own columns are taken as they come.
    max_rows
        Rows above which a request is refused with 413.
    """

    def __init__(self, columns: Sequence[Column], *, max_rows: int = 10_000) -> None:
        self.columns = tuple(columns)
        self.names = tuple(c.name for c in columns)
        self.max_rows = max_rows
        self._optional = {c.name for c in columns if not c.required}
        self._convert = [_CONVERTERS.get(c.type, _anything) for c in columns]

    def parse(self, body: bytes) -> Rows:
        """Read a body and hold it against the signature.

        Raises
        ------
        BadRequest
            400 for what is not JSON, 413 for too many rows, 422 for what does not fit.
        """
        try:
            request = _decoder.decode(body)
        except msgspec.ValidationError as error:
            column, row = self._where(str(error), body)
            named = "" if column is None else f"row {row}, column {column!r}: "
            raise BadRequest(f"{named}the body does not have the request's shape: {error}", column=column, row=row) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            hint = "; JSON has no NaN or Infinity, a missing number is null" if _NO_JSON_NUMBER.search(body) else ""
            raise BadRequest(f"the body is not JSON: {error}{hint}", status=400) from None
        if (request.input_data is None) == (request.inputs is None):
            raise BadRequest(
                'give either "input_data" ({"columns": […], "data": [[…]]}) or Fabric\'s "inputs", not both or none'
            )
        if request.input_data is not None:
            return self._rows(request.input_data.columns, request.input_data.data)
        return self._fabric(request)

    def _where(self, message: str, body: bytes) -> tuple[str | None, int | None]:
        """Column and row of a cell that could not be read at all (a number that no float or integer holds)."""
        cell = _CELL.search(message)
        if cell is None:
            return None, None
        names: Sequence[str] = self.names
        if cell["shape"] == "input_data.data":
            with contextlib.suppress(msgspec.MsgspecError):
                names = _outline.decode(body).input_data.columns
        place = int(cell["column"])
        return (names[place], int(cell["row"])) if place < len(names) else (None, None)

    def _fabric(self, request: ScoreBody) -> Rows:
        if request.formatType != "dataframe":
            raise BadRequest(f'formatType is {request.formatType!r}; only "dataframe" can be scored')
        given = request.inputs or []
        if request.orientation in ("values", "split"):
            if any(not isinstance(row, list) for row in given):
                raise BadRequest(f'with orientation "{request.orientation}", "inputs" is a list of lists, one per row')
            found = self._rows(list(self.names), given) if self.names else self._unnamed(given)
        elif request.orientation == "record":
            found = self._records(given)
        else:
            raise BadRequest(f'orientation {request.orientation!r} is not supported; use "values" or "record"')
        return dataclasses.replace(found, fabric=True, orientation=request.orientation)

    def _unnamed(self, rows: list[list[Any]]) -> Rows:
        return self._rows([str(i) for i in range(len(rows[0]) if rows else 0)], rows)

    def _records(self, rows: list[Any]) -> Rows:
        if any(not isinstance(row, dict) for row in rows):
            raise BadRequest('with orientation "record", "inputs" is a list of objects, one per row')
        names = list(self.names) or (list(rows[0]) if rows else [])
        for i, row in enumerate(rows):
            absent = [n for n in names if n not in row and n not in self._optional]
            if absent:
                raise BadRequest(
                    f"row {i}: column {absent[0]!r} is missing; {nearest(absent[0], row)}", column=absent[0], row=i
                )
        return self._rows(names, [[row.get(n) for n in names] for row in rows])

    def _rows(self, columns: list[str], data: list[list[Any]]) -> Rows:
        if not data:
            raise BadRequest("no rows to score: the data is empty")
        if len(data) > self.max_rows:
            raise BadRequest(f"{len(data)} rows; at most {self.max_rows} can be scored in one request", status=413)
        width = len(columns)
        for i, row in enumerate(data):
            if len(row) != width:
                raise BadRequest(f"row {i} has {len(row)} values for {width} columns", row=i)
        if not self.columns:
            return Rows(tuple(columns), data)
        if tuple(columns) != self.names:
            data = self._reorder(columns, data)
        return Rows(self.names, [self._typed(i, row) for i, row in enumerate(data)])

    def _reorder(self, columns: list[str], data: list[list[Any]]) -> list[list[Any]]:
        place: dict[str, int] = {}
        for i, name in enumerate(columns):
            if name in place:
                raise BadRequest(f"column {name!r} is given twice", column=name)
            place[name] = i
        for name in self.names:
            if name not in place and name not in self._optional:
                raise BadRequest(f"column {name!r} is missing; {nearest(name, columns)}", column=name)
        order = [place.get(name) for name in self.names]
        return [[None if i is None else row[i] for i in order] for row in data]

    def _typed(self, index: int, row: list[Any]) -> list[Any]:
        try:
            return [convert(value) for convert, value in zip(self._convert, row, strict=True)]
        except ValueError:
            pass
        # the slow way round, to name the column
        out = []
        for column, convert, value in zip(self.columns, self._convert, row, strict=True):
            if value is None and not column.required:
                out.append(math.nan if column.type in ("double", "float") else None)
                continue
            try:
                out.append(convert(value))
            except ValueError as error:
                message = f"row {index}, column {column.name!r}: expected {column.type}, got {_shown(value)}{error}"
                raise BadRequest(message, column=column.name, row=index) from None
        return out


def _shown(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 60 else text[:57] + "…"


def _number(value: Any) -> float:
    if value.__class__ is float:
        return value
    if value.__class__ is int:
        try:
            return float(value)
        except OverflowError:
            raise ValueError(" (too large)") from None
    if value is None:
        return math.nan
    raise ValueError("")


def _whole(low: int, high: int) -> Callable[[Any], int]:
    def convert(value: Any) -> int:
        if value.__class__ is float and value.is_integer():
            value = int(value)
        if value.__class__ is not int:
            raise ValueError("")
        if not low <= value <= high:
            raise ValueError(f" (not within {low} … {high})")
        return value

    return convert


def _truth(value: Any) -> bool:
    if value.__class__ is not bool:
        raise ValueError("")
    return value


def _moment(value: Any) -> str | None:
    """An ISO date or time, in UTC without its offset, as the models see it."""
    if value is None:
        return None
    if value.__class__ is not str:
        raise ValueError(" (a date or time is text such as 2026-01-31T12:00:00)")
    try:
        found = dt.datetime.fromisoformat(value)
        found = found.astimezone(dt.UTC).replace(tzinfo=None) if found.tzinfo else found
    except (ValueError, OverflowError):
        raise ValueError(" (not an ISO date or time)") from None
    if not _FIRST_MOMENT <= found <= _LAST_MOMENT:
        raise ValueError(f" (not within {_FIRST_MOMENT:%Y} … {_LAST_MOMENT:%Y})")
    return found.isoformat()


def _text(value: Any) -> str | None:
    if value is not None and value.__class__ is not str:
        raise ValueError("")
    return value


def _anything(value: Any) -> Any:
    return value


_CONVERTERS: dict[str, Callable[[Any], Any]] = {
    "double": _number,
    "float": _number,
    "long": _whole(*_INT64),
    "integer": _whole(*_INT32),
    "boolean": _truth,
    "string": _text,
    "datetime": _moment,
}
