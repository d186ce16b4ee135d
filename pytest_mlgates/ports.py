"""What the services need from the outside world, as protocols: they are given one, and never pick one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import datetime as dt
    from contextlib import AbstractContextManager
    from pathlib import Path

    import pandas as pd
    import pyarrow as pa


@dataclasses.dataclass(frozen=True, slots=True)
class ModelVersion:
    """One version in the registry, as it stood when it was read.

    ``stage`` is one of ``None``, ``Staging``, ``Production``, ``Archived``; ``run_id`` is empty when nothing is known of its run.
    """

    name: str
    version: str
    stage: str = "None"
    run_id: str = ""
    aliases: tuple[str, ...] = ()
    tags: Mapping[str, str] = dataclasses.field(default_factory=dict)
    source: str = ""
    created: dt.datetime | None = None

    @property
    def label(self) -> str:
        """``name v2``, the way a version is written for people."""
        return f"{self.name} v{self.version}"


@dataclasses.dataclass(frozen=True, slots=True)
class RunInfo:
    """What the run that made a version recorded."""

    run_id: str
    experiment: str
    metrics: Mapping[str, float]
    params: Mapping[str, str]
    tags: Mapping[str, str]


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """One input column of a model's signature; ``type`` is MLflow's name (``double``, ``long``, ``string``, ...)."""

    name: str
    type: str
    required: bool = True


class Predictor(Protocol):
    """A loaded model."""

    @property
    def inputs(self) -> tuple[Column, ...]:
        """Input columns of the signature, in order; empty when the model has no signature."""

    def predict(self, frame: pd.DataFrame) -> Any:
        """Return what the model answers: shape (n,) for a regressor or labels, (n, classes) for probabilities."""


class ModelRegistry(Protocol):
    """The model registry."""

    @property
    def uri(self) -> str:
        """Where it is, with any password taken out."""

    def names(self) -> list[str]:
        """Names of all registered models."""

    def versions(self, name: str) -> list[ModelVersion]:
        """All versions of a model, oldest first. Raises ModelNotFound."""

    def get(self, name: str, version: str) -> ModelVersion:
        """One version, read now. Raises ModelNotFound."""

    def run_info(self, version: ModelVersion) -> RunInfo | None:
        """What the version's run recorded, ``None`` where there is no run."""

    def artifact_digest(self, version: ModelVersion) -> str:
        """``sha256:`` over the path, size and content of every file of the logged model."""

    def artifact_files(self, version: ModelVersion) -> dict[str, str]:
        """Path to ``sha256:`` of the content, for every file of the logged model."""

    def read_artifact(self, version: ModelVersion, path: str) -> bytes | None:
        """One artifact of the version's run, ``None`` where it is absent."""

    def log_artifact(self, version: ModelVersion, path: str, data: bytes) -> None:
        """Store one artifact with the version's run (a run is made for a version that has none)."""

    def load(self, version: ModelVersion) -> Predictor:
        """Load the model. Raises ModelUnusable."""

    def set_stage(self, name: str, version: str, stage: str, *, archive_existing: bool = False) -> None:
        """Move one version to a stage; with ``archive_existing`` the others in it go to Archived in the same transaction."""

    def set_alias(self, name: str, alias: str, version: str) -> None:
        """Point an alias at a version."""

    def delete_alias(self, name: str, alias: str) -> None:
        """Take an alias away; silent where there is none."""

    def set_version_tag(self, name: str, version: str, key: str, value: str) -> None:
        """Set a tag on a version."""

    def set_model_tag(self, name: str, key: str, value: str) -> None:
        """Set a tag on the registered model."""

    def model_tags(self, name: str) -> dict[str, str]:
        """Tags of the registered model."""

    def impatient(self) -> AbstractContextManager[None]:
        """Inside, a server is asked once and waited for a few seconds only: for a question that may go unanswered."""


class TrackedRun(Protocol):
    """A run that is being recorded."""

    @property
    def run_id(self) -> str:
        """Identifier of the run."""

    def log_params(self, params: Mapping[str, object]) -> None:
        """Record parameters."""

    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        """Record metrics."""

    def log_artifact(self, path: str, data: bytes) -> None:
        """Store one artifact with the run."""

    def register(
        self,
        model: Any,
        name: str,
        *,
        inputs: Sequence[Column],
        requirements: Sequence[str],
        predict_method: str = "predict",
        tags: Mapping[str, str] | None = None,
    ) -> str:
        """Log a scikit-learn model with its signature, register it under ``name`` and return the new version."""


class Tracker(Protocol):
    """Where training records its runs."""

    @property
    def uri(self) -> str:
        """Where it is, with any password taken out."""

    def run(
        self, experiment: str, run_name: str, *, tags: Mapping[str, str], parent: str | None = None
    ) -> AbstractContextManager[TrackedRun]:
        """Open a run; with ``parent`` (a run's id) as its nested child. It ends as FAILED when the block raises."""

    def latest(self, name: str) -> tuple[str, Mapping[str, float]] | None:
        """The newest version of a model and its run's metrics; ``None`` where there is no version or no metrics."""


class TableStore(Protocol):
    """Tables of the lakehouse, by ``schema.table`` name such as ``lh_gold.ml_promotion_audit``."""

    def exists(self, table: str) -> bool:
        """Whether the table is there."""

    def version(self, table: str) -> int:
        """The table's newest version. Raises LakehouseError where it is absent."""

    def uri(self, table: str) -> str:
        """Where the table lies."""

    def folder(self, table: str) -> Path | None:
        """The same as a folder of this machine; ``None`` where it is none."""

    def tables(self) -> list[str]:
        """Names of all tables."""

    def create(self, table: str, schema: pa.Schema, *, append_only: bool = False) -> None:
        """Create an empty table; silent where it exists; safe from several processes at once."""

    def read(
        self, table: str, *, columns: Sequence[str] | None = None, where: str | None = None, version: int | None = None
    ) -> pa.Table:
        """Read rows; ``where`` is a SQL predicate over the table's columns. Right on tables with deletion vectors."""

    def batches(
        self,
        table: str,
        *,
        columns: Sequence[str] | None = None,
        where: str | None = None,
        version: int | None = None,
        bulk: bool = False,
    ) -> Iterator[pa.RecordBatch]:
        """Like `read`, as a stream; with ``bulk`` for one thread in large batches, where texts may be string views."""

    def append(self, table: str, rows: pa.Table, *, transaction: tuple[str, int] | None = None) -> int:
        """Append rows and return the table's new version.

        With ``transaction = (name, seq)`` the append happens only when no other writer has moved that application
        transaction to ``seq`` or beyond (compare-and-swap, no rebase); otherwise WriteConflict, nothing written.
        """

    def transaction(self, table: str, name: str) -> int | None:
        """The last committed number of an application transaction, ``None`` before the first."""

    def compact(self, table: str) -> None:
        """Put small files together; rows, transactions and append-only stay as they are. Raises WriteConflict."""

    def prune(self, table: str, where: str) -> int:
        """Remove rows of an append-only table for its archive; return their number."""

    def files(self, table: str, version: int | None = None) -> list[Path]:
        """Data files of a version; empty where the lakehouse is no folder of this machine."""

    def size_bytes(self, table: str) -> int:
        """Bytes of the files that the table's newest version is made of."""

    def guarded(self, table: str) -> bool:
        """Whether the table is append-only."""

    def overwrite(self, table: str, rows: pa.Table) -> int:
        """Replace the table's rows (creating it where absent) and return its new version."""


@dataclasses.dataclass(frozen=True, slots=True)
class AuditEvent:
    """One thing that happened to a version, before it has its place in the audit chain.

    ``state`` is ``intent`` (a lease on the model is held and a move is about to be made), ``committed``, ``aborted``,
    ``refused``, ``observed`` (found in the registry, made by somebody else) or ``archived`` (older rows went to a cold file).
    ``intent_id`` is the hash of model, version, stages and evidence; ``fence`` the ``seq`` of the intent that a closing row
    closes, 0 elsewhere; ``holder`` the process that holds the lease, ``host:boot:pid:start``.
    """

    model_name: str
    version: str
    from_stage: str
    to_stage: str
    actor: str
    state: str
    rationale: str = ""
    git_sha: str = ""
    evidence_id: str = ""
    intent_id: str = ""
    fence: int = 0
    holder: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class AuditRow:
    """An event in its place: ``hash`` covers every other field, ``prev_hash`` is the hash of the row before."""

    event: AuditEvent
    event_id: str
    event_time: dt.datetime
    seq: int
    prev_hash: str
    hash: str


class AuditTrail(Protocol):
    """The append-only log of every attempted promotion."""

    @property
    def store(self) -> TableStore:
        """The tables that it lives among."""

    def append(self, event: AuditEvent) -> AuditRow:
        """Append one row, wherever the head is by then."""

    def append_all(self, events: Sequence[AuditEvent], *, expect_head: int | None = None) -> list[AuditRow]:
        """Append rows in one commit; with ``expect_head`` only while the head is still there, else WriteConflict."""

    def rows(self, model: str | None = None) -> list[AuditRow]:
        """All rows, or those of one model, in the order of the chain."""

    def head(self) -> tuple[int, str]:
        """``(seq, hash)`` of the last row, ``(0, "")`` before the first."""

    def check_anchor(self, where: str, text: str) -> None:
        """Compare the chain with what was remembered of it outside. Raises AuditBroken where it does not fit."""
