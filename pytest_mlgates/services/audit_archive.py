"""Audit rows past their retention moved to cold files, with the proof of the chain intact.

Only a whole prefix of the chain goes, and only rows that are older than the retention of their model: seven years where it is
regulated (or no settings know it), one year otherwise. The cold file is written, read back and verified first; then a row
``archived`` in the chain names the file, its digest and the hash where the hot rows continue; only then rows are removed.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from pytest_mlgates.errors import AuditBroken, ConfigError, LakehouseError
from pytest_mlgates.ports import AuditEvent, AuditRow, AuditTrail
from pytest_mlgates.promotion.machine import PRODUCTION
from pytest_mlgates.services.audit_export import to_dicts
from pytest_mlgates.tables import AUDIT, SCHEMAS

if TYPE_CHECKING:
    from pytest_mlgates.config import Settings

REGULATED_YEARS = 7
OTHER_YEARS = 1
_YEAR = dt.timedelta(days=365.25)
_QUIET = dt.timedelta(days=90)


class Verified(Protocol):
    """What `audit.AuditLog.verify` answers."""

    @property
    def ok(self) -> bool:
        """Whether the chain holds."""

    @property
    def problem(self) -> str:
        """What is wrong."""


class Chain(AuditTrail, Protocol):
    """An audit that can verify itself."""

    def verify(self, anchors: Mapping[str, str] = ..., /) -> Verified:
        """Walk the chain and compare it with the anchors."""


@dataclasses.dataclass(frozen=True, slots=True)
class Archived:
    """What an archive run did; ``file`` is empty when no row was old enough."""

    rows: int
    file: str = ""
    last_seq: int = 0


def archive(
    audit: Chain, settings: Settings, *, now: dt.datetime, actor: str, anchors: Mapping[str, str] | None = None
) -> Archived:
    """Move every row that is past its retention to a cold file.

    ``anchors`` are those kept outside the table: a chain that was rewritten must not get rid of what they remember.

    A crash between the steps is settled by the next run: the file is written again under the same name, rows that an
    ``archived`` row already names are removed.

    Raises
    ------
    AuditBroken
        The chain does not verify, or not against its anchors; nothing is moved.
    ConfigError
        The lakehouse is no folder of this machine.
    WriteConflict
        Somebody promoted meanwhile; nothing was moved, run it again.
    LakehouseError
        The file cannot be written, or did not read back as it was.
    """
    report = audit.verify(anchors or {})
    if not report.ok:
        raise AuditBroken(f"the chain does not verify ({report.problem}); nothing was archived")
    rows = audit.rows()
    told = _told(rows)
    if told is not None and rows[0].seq <= int(told["last_seq"]):  # a crash came before the removal
        audit.store.prune(AUDIT, f"seq <= {int(told['last_seq'])}")
        rows = audit.rows()
    old = past_retention(rows, settings, now)
    if not old:
        return Archived(0)
    folder = cold_folder(audit)
    path = folder / f"ml_promotion_audit-{old[0].seq:08d}-{old[-1].seq:08d}.parquet"
    digest = _write(path, old)
    note = {
        "file": path.name,
        "sha256": digest,
        "first_seq": old[0].seq,
        "last_seq": old[-1].seq,
        "last_hash": old[-1].hash,
    }
    told_now = AuditEvent("*", "", "", "", actor, "archived", json.dumps(note, sort_keys=True))
    audit.append_all([told_now, *carried_over(rows, old[-1].seq, actor)], expect_head=rows[-1].seq)
    audit.store.prune(AUDIT, f"seq <= {old[-1].seq}")
    return Archived(len(old), str(path), old[-1].seq)


def carried_over(rows: Sequence[AuditRow], last_seq: int, actor: str) -> list[AuditEvent]:
    """Say again what the rows that go have decided: where each version is, and whether it has been Production.

    Without it a version that has been Production for longer than the retention would look as if it had been moved by a stranger.
    """
    deciding = [row for row in rows if row.event.state in {"committed", "observed"}]
    newest = {(row.event.model_name, row.event.version): row for row in deciding}
    going = [row for row in deciding if row.seq <= last_seq]
    was_production = {(r.event.model_name, r.event.version): r for r in going if r.event.to_stage == PRODUCTION}
    keys = {(row.event.model_name, row.event.version) for row in going}
    # a rollback asks for the version that was Production last, so these rows stand in the order of their originals
    marks = sorted((was_production[key] for key in keys if key in was_production), key=lambda row: row.seq)
    final = sorted((newest[key] for key in keys), key=lambda row: row.seq)
    events = []
    for row in [*marks, *(row for row in final if row not in marks)]:
        stage = row.event.to_stage
        why = f"carried over from row {row.seq} into the table that the archive leaves"
        events.append(dataclasses.replace(row.event, from_stage=stage, actor=actor, state="observed", rationale=why, fence=0))
    return events


def clock_doubt(rows: Sequence[AuditRow], now: dt.datetime) -> str:
    """Say what speaks against a clock by which rows are to be archived; empty where nothing does.

    A clock that runs ahead makes young rows look old. An audit that is in use has a row of the last weeks; where it has none,
    somebody has to say which day it is.
    """
    if not rows or now - rows[-1].event_time <= _QUIET:
        return ""
    return (
        f"this machine's clock says {now:%Y-%m-%d}, the newest audit row is of {rows[-1].event_time:%Y-%m-%d}; rows must not "
        f"look old by a clock that is wrong: set it right, or confirm it with --today YYYY-MM-DD; nothing was archived"
    )


def past_retention(rows: Sequence[AuditRow], settings: Settings, now: dt.datetime) -> list[AuditRow]:
    """Return the longest prefix of the chain whose every row is past its retention; the last row always stays."""
    found = []
    for row in rows[:-1]:
        if now - row.event_time <= retention(settings, row.event.model_name):
            break
        found.append(row)
    return found


def retention(settings: Settings, model: str) -> dt.timedelta:
    """How long rows of a model stay in the table."""
    try:
        regulated = settings.model(model).regulated
    except ConfigError:
        regulated = model != "*"  # nobody knows what it was: the longer
    return (REGULATED_YEARS if regulated else OTHER_YEARS) * _YEAR


def check_cold_files(audit: AuditTrail) -> list[str]:
    """Compare every cold file with the row that names it; return what is wrong."""
    problems = []
    for row in audit.rows():
        if row.event.state != "archived":
            continue
        note = json.loads(row.event.rationale)
        path = cold_folder(audit) / note["file"]
        if not path.is_file():
            problems.append(f"cold file {path} is gone; row {row.seq} names it")
        elif _digest(path) != note["sha256"]:
            problems.append(f"cold file {path} was altered: row {row.seq} knows it as {note['sha256'][:19]}…")
    return problems


def cold_folder(audit: AuditTrail) -> Path:
    """Folder of the cold files: ``_archive`` in the lakehouse."""
    uri = audit.store.uri(AUDIT)
    if "://" in uri:
        raise ConfigError(f"the lakehouse is at {uri}, cold files need a folder of this machine; mount it, then archive")
    return Path(uri).parent.parent / "_archive"


def _write(path: Path, rows: Sequence[AuditRow]) -> str:
    table = pa.Table.from_pylist(to_dicts(rows), schema=SCHEMAS[AUDIT])
    scratch = path.with_suffix(".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, scratch)
        with scratch.open("rb") as file:
            os.fsync(file.fileno())
        if pq.read_table(scratch).to_pylist() != table.to_pylist():
            raise LakehouseError(f"{scratch} does not read back as it was written; check the disk")
        scratch.replace(path)
    except OSError as error:
        raise LakehouseError(f"cannot write {path}: {error.strerror or error}") from None
    return _digest(path)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def _told(rows: Sequence[AuditRow]) -> dict[str, Any] | None:
    notes = [json.loads(row.event.rationale) for row in rows if row.event.state == "archived"]
    return max(notes, key=lambda note: int(note["last_seq"]), default=None)
