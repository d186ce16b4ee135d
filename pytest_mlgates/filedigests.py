"""Digests of a table's files, kept beside the lakehouse: a changed byte is found even where it carries no value.

Data files and log entries of a Delta table are written once and never again, so each has one digest for its whole life.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

FOLDER = "_digests"
LOG = "_delta_log"
_WRITTEN_ONCE = ("*.parquet", f"{LOG}/*.json")


def digest(path: Path) -> str:
    """``sha256:`` over the bytes of a file; empty where it is gone."""
    try:
        with path.open("rb") as file:
            return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def record(table: Path | None) -> None:
    """Write down the digest of every file of a table that has none yet. What cannot be written now is written the next time."""
    for file in _files(table):
        note = _note(table, file)
        if note.exists():
            continue
        with contextlib.suppress(OSError):
            note.parent.mkdir(parents=True, exist_ok=True)
            scratch = note.with_name(f"{note.name}.tmp")
            scratch.write_text(digest(file), "ascii")
            scratch.replace(note)


def altered(table: Path | None) -> Iterator[Path]:
    """Yield the files of a table whose bytes are not those that were written down; a file without a note is no fault."""
    for file in _files(table):
        with contextlib.suppress(OSError):
            noted = _note(table, file).read_text("ascii", errors="replace").strip()
            if noted and noted != digest(file) and file.exists():
                yield file


def of_version(table: Path | None, data_files: Iterable[Path], version: int) -> dict[str, str]:
    """Digests by name of what one version of a table is made of: its data files, and its log up to there."""
    files = list(data_files)
    if table is not None:
        files += [f for f in table.glob(f"{LOG}/*.json") if f.stem.isdigit() and int(f.stem) <= version]
    return {_name(file): digest(file) for file in files}


def differing(before: Mapping[str, str], table: Path) -> list[str]:
    """Names of the files of a table that are not as ``before`` has them; a log entry may have been cleaned away since."""
    now = {_name(file): file for pattern in ("**/*.parquet", f"{LOG}/*.json") for file in table.glob(pattern)}
    gone = [name for name in before if name not in now and not name.startswith(LOG)]
    return gone + [name for name, expected in before.items() if name in now and digest(now[name]) != expected]


def _name(file: Path) -> str:
    return f"{LOG}/{file.name}" if file.parent.name == LOG else file.name


def _files(table: Path | None) -> list[Path]:
    return [] if table is None else [file for pattern in _WRITTEN_ONCE for file in sorted(table.glob(pattern))]


def _note(table: Path | None, file: Path) -> Path:
    assert table is not None
    return table.parent.parent / FOLDER / table.parent.name / table.name / f"{file.relative_to(table)}.sha256"
