"""Audit rows as files for people and other programs: CSV, JSON lines, Parquet."""

from __future__ import annotations

import csv
import dataclasses
import io
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from pytest_mlgates.errors import LakehouseError, UsageProblem
from pytest_mlgates.report.text import json_text
from pytest_mlgates.tables import AUDIT, SCHEMAS

if TYPE_CHECKING:
    from pytest_mlgates.ports import AuditRow

_FORMULA = ("=", "+", "-", "@")
_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})


def printable(text: str) -> str:
    """Return text without control, format and direction characters, which a terminal or a spreadsheet would obey."""
    return "".join(c if unicodedata.category(c) not in _UNPRINTABLE else "\N{REPLACEMENT CHARACTER}" for c in text)


def to_dicts(rows: Sequence[AuditRow]) -> list[dict[str, Any]]:
    """Return each row as one flat mapping in the column order of the table."""
    flat = []
    for row in rows:
        values = {**dataclasses.asdict(row.event), "event_id": row.event_id, "event_time": row.event_time, "seq": row.seq}
        values |= {"prev_hash": row.prev_hash, "hash": row.hash}
        flat.append({name: values[name] for name in SCHEMAS[AUDIT].names})
    return flat


def write(rows: Sequence[AuditRow], path: Path, kind: str) -> None:
    """Write rows to a file: ``csv``, ``jsonl`` or ``parquet``.

    Raises
    ------
    UsageProblem
        An unknown kind.
    LakehouseError
        The file cannot be written.
    """
    try:
        if kind == "csv":
            path.write_text(to_csv(rows), "utf-8", newline="")
        elif kind == "jsonl":
            path.write_text(to_json_lines(rows), "utf-8")
        elif kind == "parquet":
            pq.write_table(pa.Table.from_pylist(to_dicts(rows), schema=SCHEMAS[AUDIT]), path)
        else:
            raise UsageProblem(f"{kind!r} is not a format; write csv, jsonl or parquet")
    except OSError as error:
        raise LakehouseError(f"cannot write {path}: {error.strerror or error}") from None


def to_json_lines(rows: Sequence[AuditRow]) -> str:
    """One JSON object a line, with the exact values that the hashes cover."""
    lines = []
    for values in to_dicts(rows):
        values["event_time"] = values["event_time"].isoformat(timespec="microseconds")
        lines.append(json_text(values))
    return "".join(line + "\n" for line in lines)


def to_csv(rows: Sequence[AuditRow]) -> str:
    """CSV for a spreadsheet: control characters replaced, what it would take for a formula prefixed with an apostrophe."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(SCHEMAS[AUDIT].names)
    for values in to_dicts(rows):
        values["event_time"] = values["event_time"].isoformat(timespec="microseconds")
        writer.writerow([_cell(value) for value in values.values()])
    return out.getvalue()


def _cell(value: Any) -> str:
    text = printable(str(value))
    return "'" + text if text.lstrip().startswith(_FORMULA) and not isinstance(value, int) else text
