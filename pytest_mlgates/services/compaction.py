"""Tables put into few files with a checkpoint: the same rows, transactions and protection, read in a fraction of the time.

Appends leave a file each, and a log entry each. Compaction writes the rows once more into large files; the small ones stay
for older versions until ``mlgates cleanup`` vacuums them. An append-only table stays append-only, for no row changes.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Protocol

from pytest_mlgates import filedigests
from pytest_mlgates.errors import LakehouseError, UsageProblem, WriteConflict, nearest
from pytest_mlgates.tables import AUDIT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_mlgates.ports import TableStore


class Compactable(Protocol):
    """Tables that can be counted, compacted and checkpointed."""

    def file_count(self, table: str) -> int:
        """Data files of the newest version."""

    def compact(self, table: str) -> None:
        """Put small files together. Raises WriteConflict."""

    def checkpoint(self, table: str) -> None:
        """Write the state of the newest version, so that a reader need not replay the log."""


class Verified(Protocol):
    """What a walk over the audit's chain found."""

    @property
    def ok(self) -> bool:
        """Whether every row is as it was written."""

    @property
    def problem(self) -> str:
        """What is wrong, else empty."""


class Chain(Protocol):
    """The audit, as far as it can be verified."""

    def verify(self, anchors: Mapping[str, str]) -> Verified:
        """Walk the chain and compare it with the anchors kept outside."""


@dataclasses.dataclass(frozen=True, slots=True)
class Compacted:
    """What became of one table; ``problem`` says why it was left as it is."""

    table: str
    before: int
    after: int
    append_only: bool
    problem: str = ""

    @property
    def line(self) -> str:
        """One line for the console."""
        kept = "; append-only stays" if self.append_only else ""
        if self.problem:
            return f"{self.table}: left as it is: {self.problem}"
        return f"{self.table}: {self.before} → {self.after} files, checkpoint written{kept}"


def chosen(store: TableStore, names: Sequence[str]) -> list[str]:
    """Return the tables to compact: those named, else all. Raises UsageProblem for one that is not there."""
    known = store.tables()
    for name in names:
        if name not in known and not store.exists(name):  # a remote lakehouse cannot be listed
            raise UsageProblem(f"table {name} is not in the lakehouse; {nearest(name, known)}")
    return list(names) or known


def compact_table(store: TableStore, files: Compactable, audit: Chain, table: str, anchors: Mapping[str, str]) -> Compacted:
    """Compact one table and write a checkpoint.

    The audit is verified first, against ``anchors`` as well: rows of an altered file must not be written anew, and so look
    untouched. Its new files' digests are written down. A table that somebody writes to meanwhile is left as it is.
    """
    before, guarded = files.file_count(table), store.guarded(table)
    try:
        if table == AUDIT:
            report = audit.verify(anchors)
            if not report.ok:
                return Compacted(table, before, before, guarded, f"its chain does not verify: {report.problem}")
        files.compact(table)
        files.checkpoint(table)
        if table == AUDIT:
            filedigests.record(store.folder(AUDIT))
    except (WriteConflict, LakehouseError) as error:
        return Compacted(table, before, files.file_count(table), guarded, str(error))
    return Compacted(table, before, files.file_count(table), guarded)
