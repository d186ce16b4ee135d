"""Digests of a table's data files, kept beside the lakehouse: a changed byte is found even where it carries no value."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

FOLDER = "_digests"


def digest(path: Path) -> str:
    """``sha256:`` over the bytes of a file; empty where it is gone."""
    try:
        with path.open("rb") as file:
            return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def record(files: Iterable[Path]) -> None:
    """Write down the digest of every file that has none yet. What cannot be written now is written the next time."""
    for file in files:
        note = _note(file)
        if note.exists() or not file.exists():
            continue
        with contextlib.suppress(OSError):
            note.parent.mkdir(parents=True, exist_ok=True)
            scratch = note.with_name(f"{note.name}.tmp")
            scratch.write_text(digest(file), "ascii")
            scratch.replace(note)


def altered(files: Iterable[Path]) -> Iterator[Path]:
    """Yield the files whose bytes are not those that were written down; a file without a note is no fault."""
    for file in files:
        with contextlib.suppress(OSError):
            if _note(file).read_text("ascii", errors="replace").strip() != digest(file):
                yield file


def differing(before: Mapping[str, str], files: Iterable[Path]) -> list[str]:
    """Names of the files that are not as ``before`` has them (name to digest)."""
    now = {file.name: digest(file) for file in files}
    return [name for name, expected in before.items() if now.get(name) != expected]


def _note(file: Path) -> Path:
    table = file.parent
    return table.parent.parent / FOLDER / table.parent.name / table.name / f"{file.name}.sha256"
