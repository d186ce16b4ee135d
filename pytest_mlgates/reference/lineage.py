"""What is recorded with every reference model: where code and data came from, and the artifacts that the gates read."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pytest_mlgates import provenance
from pytest_mlgates.drift.stored import ARTIFACT as REFERENCE_ARTIFACT
from pytest_mlgates.drift.stored import PREDICTION, ReferenceDistribution
from pytest_mlgates.errors import UsageProblem, nearest
from pytest_mlgates.ports import TableStore, TrackedRun
from pytest_mlgates.rows import row_keys
from pytest_mlgates.tables import REFERENCE_DISTRIBUTION, SCHEMAS

INTENTS = ("exploratory", "baseline", "production-candidate", "rollback-test")
EXPECTED_PREDICTIONS = "mlgates/expected_predictions.parquet"
TRAINING_ROWS = "mlgates/training_rows.parquet"
TRAINING_METRICS = "mlgates/training_metrics.json"
REFERENCE = "mlgates/reference.parquet"
REQUIREMENTS = ("cloudpickle", "numpy", "pandas", "scikit-learn", "scipy")

_UNKNOWN = "unknown"


def code_tags(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """``git_sha``, ``git_branch`` and ``author``, from the environment or the working directory's git; else ``unknown``.

    ``GIT_SHA``, ``GIT_BRANCH`` and ``GITHUB_ACTOR`` go before what git says.
    """
    git = provenance.git_state(Path.cwd(), environ)
    return {
        "git_sha": git["sha"] or _UNKNOWN,
        "git_branch": git["branch"] or _UNKNOWN,
        "author": provenance.actor(environ),
    }


def check_intent(intent: str) -> str:
    """Return the intent. Raises UsageProblem for one that is not in `INTENTS`."""
    if intent not in INTENTS:
        raise UsageProblem(f"intent {intent!r} (--intent or MLFLOW_RUN_INTENT) is not known; {nearest(intent, INTENTS)}")
    return intent


def requirements() -> list[str]:
    """Requirements for pip of a reference model, at the installed versions."""
    return [f"{name}=={importlib.metadata.version(name)}" for name in REQUIREMENTS]


def log_artifacts(
    run: TrackedRun,
    *,
    holdout: pd.DataFrame,
    expected: npt.NDArray[np.float64],
    training: pd.DataFrame,
    row_columns: Sequence[str],
    training_predictions: npt.NDArray[np.float64],
    metrics: Mapping[str, Mapping[str, float]],
    time_column: str | None = None,
) -> ReferenceDistribution:
    """Store with the run what the gates and the drift run read of a version.

    Parameters
    ----------
    run
        The open run.
    holdout
        The holdout with every column of its table, in the order of its keys.
    expected
        Predictions of ``holdout``, shape (n,).
    training
        The rows that the model was fitted on.
    row_columns
        The model's inputs and its target; their values in ``training`` are hashed (`checks.row_hashes`), so that gate 2 can find
        rows of the holdout among them.
    training_predictions
        The model's predictions of ``training``.
    metrics
        ``{"train": {…}, "validation": {…}, "holdout": {…}}``.
    time_column
        Date of each row, where there is one.

    Returns
    -------
    ReferenceDistribution
        What was stored of the training rows' distribution; `keep_reference` puts it into the lakehouse as well.
    """
    from pytest_mlgates.checks import row_hashes

    stored = {
        "row_id": pa.array(range(len(expected)), pa.int64()),
        "row_key": pa.array(row_keys(holdout)),
        "expected": pa.array(expected, pa.float64()),
    }
    run.log_artifact(EXPECTED_PREDICTIONS, _parquet(pa.table(stored)))
    rows = {"row_hash": pa.array(row_hashes(training[list(row_columns)]))}
    if time_column is not None:
        rows[time_column] = pa.array(pd.to_datetime(training[time_column]).dt.date)
    run.log_artifact(TRAINING_ROWS, _parquet(pa.table(rows)))
    run.log_artifact(TRAINING_METRICS, json.dumps(metrics, indent=2, sort_keys=True).encode())
    reference = training.assign(prediction=training_predictions)
    run.log_artifact(REFERENCE, _parquet(pa.Table.from_pandas(reference, preserve_index=False)))
    profiled = training[list(row_columns)].assign(**{PREDICTION: training_predictions})
    days = None
    if time_column is not None:
        days = pd.to_datetime(training[time_column]).to_numpy().astype("datetime64[D]").astype(np.int64)
    distribution = ReferenceDistribution.of(pa.Table.from_pandas(profiled, preserve_index=False), days)
    run.log_artifact(REFERENCE_ARTIFACT, distribution.to_bytes())
    return distribution


def keep_reference(store: TableStore, distribution: ReferenceDistribution, name: str, version: str, run_id: str) -> None:
    """Append the distribution of a new version to ``lh_gold.reference_distribution``, a row a column."""
    schema = SCHEMAS[REFERENCE_DISTRIBUTION]
    store.create(REFERENCE_DISTRIBUTION, schema, append_only=True)
    rows = distribution.to_table()
    keys = {"model_name": name, "model_version": version, "run_id": run_id, "created_at": dt.datetime.now(dt.UTC)}
    for key, value in keys.items():
        rows = rows.append_column(schema.field(key), pa.array([value] * rows.num_rows, schema.field(key).type))
    store.append(REFERENCE_DISTRIBUTION, rows.select(schema.names), transaction=(f"{name}/{version}/{run_id}", 1))


def _parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()
