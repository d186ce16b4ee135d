"""What the services need from the outside world, as protocols: they are given one, and never pick one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import datetime as dt

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

    def read_artifact(self, version: ModelVersion, path: str) -> bytes | None:
        """One artifact of the version's run, ``None`` where it is absent."""

    def log_artifact(self, version: ModelVersion, path: str, data: bytes) -> None:
        """Store one artifact with the version's run (a run is made for a version that has none)."""

    def load(self, version: ModelVersion) -> Predictor:
        """Load the model. Raises ModelUnusable."""

    def set_stage(self, name: str, version: str, stage: str) -> None:
        """Move one version to a stage; moves no other version."""

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


class TableStore(Protocol):
    """Tables of the lakehouse, by ``schema.table`` name such as ``lh_gold.ml_promotion_audit``."""

    def exists(self, table: str) -> bool:
        """Whether the table is there."""

    def version(self, table: str) -> int:
        """The table's newest version. Raises LakehouseError where it is absent."""

    def uri(self, table: str) -> str:
        """Where the table lies."""

    def tables(self) -> list[str]:
        """Names of all tables."""

    def create(self, table: str, schema: pa.Schema, *, append_only: bool = False) -> None:
        """Create an empty table; silent where it exists; safe from several processes at once."""

    def read(
        self, table: str, *, columns: Sequence[str] | None = None, where: str | None = None, version: int | None = None
    ) -> pa.Table:
        """Read rows; ``where`` is a SQL predicate over the table's columns. Right on tables with deletion vectors."""

    def batches(
        self, table: str, *, columns: Sequence[str] | None = None, where: str | None = None, version: int | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Like `read`, as a stream."""

    def append(self, table: str, rows: pa.Table, *, transaction: tuple[str, int] | None = None) -> int:
        """Append rows and return the table's new version.

        With ``transaction = (name, seq)`` the append happens only when no other writer has moved that application
        transaction to ``seq`` or beyond (compare-and-swap, no rebase); otherwise WriteConflict, nothing written.
        """

    def transaction(self, table: str, name: str) -> int | None:
        """The last committed number of an application transaction, ``None`` before the first."""

    def overwrite(self, table: str, rows: pa.Table) -> int:
        """Replace the table's rows (creating it where absent) and return its new version."""
