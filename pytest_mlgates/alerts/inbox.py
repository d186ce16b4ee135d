"""The receiver's durable queue: one SQLite file, shared by every receiver of a project.

A delivery is one transaction: the signature that was used, and the job that it asks for. Whatever is killed, a job is either
not there (the sender got no 202 and sends again) or there once. Job states::

    queued ──▶ running ──▶ succeeded | failed
       ▲          └──▶ queued            the process died without saying what came of it
    waiting                              a model with retrain = "manual", until it is approved
    suppressed                           cool-down
    noted                                nothing is to be started
    over                                 resolved before it was heard of as fired; it begins when that comes
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pytest_mlgates.alerts.signing import WINDOW_S
from pytest_mlgates.errors import MlgatesError, UsageProblem, nearest

_BUSY_S = 30.0
_PLAIN_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,79}")  # no leading dot: "." and ".." are no page of their own
_SCHEMA = """
CREATE TABLE IF NOT EXISTS signatures (signature TEXT PRIMARY KEY, seen REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS jobs (
    key TEXT PRIMARY KEY, alert_id TEXT NOT NULL, model TEXT NOT NULL, rule TEXT NOT NULL, severity TEXT NOT NULL,
    reason TEXT NOT NULL, state TEXT NOT NULL, received REAL NOT NULL, updated REAL NOT NULL, started REAL,
    attempts INTEGER NOT NULL DEFAULT 0, deliveries INTEGER NOT NULL DEFAULT 1, pid INTEGER, pid_started TEXT,
    location TEXT, note TEXT NOT NULL DEFAULT '', resolved INTEGER NOT NULL DEFAULT 0
);
"""
OVER = "over"


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
    """One alert as the receiver knows it. Times are Unix seconds."""

    key: str
    alert_id: str
    model: str
    rule: str
    severity: str
    reason: str
    state: str
    received: float
    updated: float
    started: float | None = None
    attempts: int = 0
    deliveries: int = 1
    pid: int | None = None
    pid_started: str | None = None
    location: str | None = None
    note: str = ""
    resolved: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return what the status page shows."""
        shown = (
            "alert_id",
            "model",
            "rule",
            "severity",
            "reason",
            "state",
            "received",
            "updated",
            "attempts",
            "deliveries",
            "note",
        )
        return {name: getattr(self, name) for name in shown} | {"resolved": bool(self.resolved)}


class Replayed(MlgatesError):
    """A delivery whose signature was already used."""


def job_key(alert_id: str) -> str:
    """Return the id as it stands in a URL: itself where it is plain, else a digest (Azure's ids are paths)."""
    return alert_id if _PLAIN_ID.fullmatch(alert_id) else hashlib.sha256(alert_id.encode()).hexdigest()[:40]


class Inbox:
    """The queue file. Each call opens its own connection, so it may be used from any thread and process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._connect() as db:
            db.executescript(_SCHEMA)

    @contextlib.contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        db = sqlite3.connect(self.path, timeout=_BUSY_S, isolation_level=None)
        try:
            db.row_factory = sqlite3.Row
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")  # a 202 promises that the alert survives a power cut
            yield db
        finally:
            db.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._connect() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
            except BaseException:
                db.execute("ROLLBACK")
                raise
            db.execute("COMMIT")

    def used(self, signature: str) -> bool:
        """Whether a delivery with this signature was taken; a read, so that a flood of replays writes nothing."""
        with self._connect() as db:
            return db.execute("SELECT 1 FROM signatures WHERE signature = ?", (signature,)).fetchone() is not None

    def take(self, job: Job, *, signature: str, now: float) -> tuple[Job, bool]:
        """Store a delivery; return the job as it stands, and whether this delivery made it. Raises Replayed."""
        with self._transaction() as db:
            self._use(db, signature, now)
            # an alert whose end was heard of first begins here
            db.execute("DELETE FROM jobs WHERE key = ? AND state = ?", (job.key, OVER))
            made = _insert(db, job)
            if not made:
                db.execute("UPDATE jobs SET deliveries = deliveries + 1 WHERE key = ?", (job.key,))
            return _job(db.execute("SELECT * FROM jobs WHERE key = ?", (job.key,)).fetchone()), made

    def take_resolved(self, job: Job, *, signature: str, now: float) -> Job:
        """Note that an incident is over and return its job: ``job``, which is in state `OVER`, where it never began here.

        Raises Replayed.
        """
        with self._transaction() as db:
            self._use(db, signature, now)
            _insert(db, job)
            db.execute("UPDATE jobs SET resolved = 1 WHERE key = ?", (job.key,))
            return _job(db.execute("SELECT * FROM jobs WHERE key = ?", (job.key,)).fetchone())

    @staticmethod
    def _use(db: sqlite3.Connection, signature: str, now: float) -> None:
        # a signature older than twice the window is refused for its time: no need to remember it
        db.execute("DELETE FROM signatures WHERE seen < ?", (now - 2 * WINDOW_S,))
        try:
            db.execute("INSERT INTO signatures VALUES (?, ?)", (signature, now))
        except sqlite3.IntegrityError:
            raise Replayed("this delivery was already taken") from None

    def get(self, key: str) -> Job | None:
        """One job."""
        with self._connect() as db:
            row = db.execute("SELECT * FROM jobs WHERE key = ?", (key,)).fetchone()
        return None if row is None else _job(row)

    def jobs(self, *states: str) -> list[Job]:
        """All jobs (of these states), oldest first."""
        with self._connect() as db:
            rows = [_job(r) for r in db.execute("SELECT * FROM jobs ORDER BY received, key").fetchall()]
        return [j for j in rows if not states or j.state in states]

    def last_started(self, model: str) -> float | None:
        """When a retraining of the model was last started."""
        with self._connect() as db:
            found = db.execute("SELECT max(started) FROM jobs WHERE model = ?", (model,)).fetchone()[0]
        return None if found is None else float(found)

    def change(self, key: str, *, when: str, now: float, **values: Any) -> bool:
        """Set columns of a job that is in state ``when``; return whether it was."""
        names = [n for n in values if n in {f.name for f in dataclasses.fields(Job)}]
        sets = ", ".join(f"{n} = ?" for n in names)
        sql = f"UPDATE jobs SET {sets}, updated = ? WHERE key = ? AND state = ?"  # noqa: S608 our own column names
        with self._transaction() as db:
            return db.execute(sql, [*(values[n] for n in names), now, key, when]).rowcount == 1

    def approve(self, key: str, *, actor: str, now: float) -> Job:
        """Let a job that waits for a person start. Raises UsageProblem."""
        job = self.get(job_key(key))
        if job is None:
            raise UsageProblem(f"no alert {key!r} in {self.path}; {nearest(key, [j.alert_id for j in self.jobs('waiting')])}")
        if not self.change(job.key, when="waiting", now=now, state="queued", note=f"approved by {actor}"):
            raise UsageProblem(f"alert {key} is {job.state}, not waiting for approval; see mlgates retrain list")
        return dataclasses.replace(job, state="queued")


def _insert(db: sqlite3.Connection, job: Job) -> bool:
    """Insert a job; return whether its key was new."""
    names = [f.name for f in dataclasses.fields(Job)]
    marks = ", ".join("?" * len(names))
    sql = f"INSERT OR IGNORE INTO jobs ({', '.join(names)}) VALUES ({marks})"  # noqa: S608 our own column names
    return db.execute(sql, [getattr(job, n) for n in names]).rowcount == 1


def _job(row: sqlite3.Row) -> Job:
    return Job(**{name: row[name] for name in row.keys()})  # noqa: SIM118 sqlite3.Row iterates over values
