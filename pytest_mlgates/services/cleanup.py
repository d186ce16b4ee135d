"""Cleanup: endpoints paused with their definition kept, files that no table needs removed, old runs archived; the audit untouched.

Nothing is deleted that tells what happened: runs are archived (a tag, and MLflow's own ``deleted`` stage is never used), rows of
tables stay, and only files that no version of the last 168 hours refers to go.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import json
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pytest_mlgates.errors import MlgatesError
from pytest_mlgates.services.readiness_facts import ENDPOINTS
from pytest_mlgates.tables import AUDIT

if TYPE_CHECKING:
    from pytest_mlgates.config import Settings

RETAIN_HOURS = 168
ARCHIVE_DAYS = 90
ARCHIVED_TAG = "mlgates.archived"


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """One thing that cleanup does; ``act`` does it and says what came of it."""

    what: str
    act: Callable[[], str]


class Files(Protocol):
    """Tables whose unneeded files can be removed."""

    def tables(self) -> list[str]:
        """Names of all tables."""

    def vacuum(self, table: str, *, retain_hours: int, dry_run: bool) -> int:
        """Remove (or count) the files that no version of the last hours needs."""


class Runs(Protocol):
    """Runs that can be archived."""

    def runs_before(self, moment: dt.datetime, *, without_tag: str) -> list[str]:
        """Ids of ended runs that began before, and lack a tag."""

    def set_run_tag(self, run_id: str, key: str, value: str) -> None:
        """Tag a run."""


def plan(settings: Settings, files: Files, runs: Runs, *, now: dt.datetime) -> list[Step]:
    """Return what there is to do; nothing is changed before a step's ``act``."""
    return [*_endpoints(settings.folder / ENDPOINTS), *_tables(files), *_runs(runs, now)]


def _endpoints(folder: Path) -> list[Step]:
    out = []
    for path in sorted(folder.glob("*/*/endpoint.json")):
        known = json.loads(path.read_bytes())
        if known["definition"].get("minInstances") or known["definition"].get("maxInstances"):
            what = f"pause endpoint {path.parent.name} of {known['model']} (definition kept)"
            out.append(Step(what, functools.partial(_pause, path)))
    running = [(path, _serving(path)) for path in sorted(folder.glob("*/server.json"))]
    out += [
        Step(f"stop the endpoint of {p.parent.name}", functools.partial(_stop, pid)) for p, pid in running if pid is not None
    ]
    return out


def _pause(path: Path) -> str:
    """Ask for no instances in the definition, then stop the server; a control plane that starts later leaves it paused."""
    known = json.loads(path.read_bytes())
    known["definition"] |= {"minInstances": 0, "maxInstances": 0}
    scratch = path.with_suffix(f".{os.getpid()}.tmp")
    scratch.write_text(json.dumps(known), "utf-8")
    scratch.replace(path)
    pid = _serving(path.parent / "server.json")
    return _stop(pid) if pid is not None else "paused"


def _serving(path: Path) -> int | None:
    """Process id of the server of a state folder, where it runs and is ours: a number may have been given to another process."""
    try:
        pid = int(json.loads(path.read_bytes())["pid"])
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError, KeyError):
        return None
    return pid if b"mlgates" in command else None


def _stop(pid: int) -> str:
    os.kill(pid, signal.SIGTERM)
    return f"told process {pid} to stop"


def _tables(files: Files) -> list[Step]:
    out = []
    for table in files.tables():
        if table == AUDIT:
            continue  # its files are the record
        try:
            count = files.vacuum(table, retain_hours=RETAIN_HOURS, dry_run=True)
        except MlgatesError as error:
            out.append(Step(f"vacuum {table}: {error}", lambda: "left as it is"))
            continue
        if count:
            what = f"vacuum {table}: {count} files older than {RETAIN_HOURS} h"
            out.append(Step(what, functools.partial(_vacuum, files, table)))
    return out


def _vacuum(files: Files, table: str) -> str:
    return f"{files.vacuum(table, retain_hours=RETAIN_HOURS, dry_run=False)} files removed"


def _runs(runs: Runs, now: dt.datetime) -> list[Step]:
    old = runs.runs_before(now - dt.timedelta(days=ARCHIVE_DAYS), without_tag=ARCHIVED_TAG)
    if not old:
        return []
    return [
        Step(
            f"archive {len(old)} runs older than {ARCHIVE_DAYS} days (tag {ARCHIVED_TAG}; none is deleted)",
            lambda: _archive(runs, old, now),
        )
    ]


def _archive(runs: Runs, ids: Sequence[str], now: dt.datetime) -> str:
    for run_id in ids:
        runs.set_run_tag(run_id, ARCHIVED_TAG, now.isoformat(timespec="seconds"))
    return f"{len(ids)} runs archived"
