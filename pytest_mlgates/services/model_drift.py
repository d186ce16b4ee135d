"""Whether the model still does what it did: its error, and the relation that it learnt, on rows with labels."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pytest_mlgates.drift.concept import ConceptDrift, concept_drift
from pytest_mlgates.drift.performance import PerformanceDrift, performance_drift
from pytest_mlgates.drift.profile import with_gaps
from pytest_mlgates.drift.report import DriftVerdict
from pytest_mlgates.services import drift_records as records
from pytest_mlgates.services.evaluate import TRAINING_METRICS
from pytest_mlgates.services.windows import Window, Windows

if TYPE_CHECKING:
    from pytest_mlgates.config import ModelSettings
    from pytest_mlgates.ports import ModelRegistry, ModelVersion, TableStore


def model_drift(
    store: TableStore,
    registry: ModelRegistry,
    own: ModelSettings,
    version: ModelVersion,
    windows: Windows,
    features: Sequence[str],
) -> tuple[PerformanceDrift, ConceptDrift]:
    """Compare the metrics with those at training time, and the importances of shadow models of both windows."""
    ref, cur = windows.reference, windows.current
    nothing = ConceptDrift(DriftVerdict.INSUFFICIENT, reason="no labels in these windows")
    if own.target not in ref.rows.column_names or own.target not in cur.rows.column_names:
        return PerformanceDrift(reason="no labels in these windows"), nothing
    labels = [_numbers(w, own.target) for w in (ref, cur)]
    performance = PerformanceDrift(reason="no predictions for these windows")
    blocks = _blocks(ref, cur)
    if records.PREDICTION in ref.rows.column_names:
        scores = [_numbers(w, records.PREDICTION) for w in (ref, cur)]
        known = np.isfinite(labels[0]) & np.isfinite(scores[0])
        performance = performance_drift(
            own.task, (labels[1], scores[1]), (labels[0][known], scores[0][known]),
            trained=trained_metrics(registry, version), min_rows=own.drift.min_rows,
            reference_blocks=None if blocks is None else blocks[known],
        )  # fmt: skip
    history = records.past_values(store, version.name, version.version, "performance_rmse_delta_observed")
    inputs = [_matrix(w, features) for w in (ref, cur)]
    if inputs[0] is None or inputs[1] is None:
        return performance, dataclasses.replace(nothing, reason="inputs are not all numbers")
    concept = concept_drift(
        own.task, (inputs[0], labels[0]), (inputs[1], labels[1]), reference_blocks=blocks, min_rows=own.drift.min_rows,
        history=[v for _, v in reversed(history)],
    )  # fmt: skip
    return performance, concept


def trained_metrics(registry: ModelRegistry, version: ModelVersion) -> dict[str, float]:
    """Metrics of the version on rows it had not seen: its holdout's, else its validation's; empty where none are stored."""
    data = registry.read_artifact(version, TRAINING_METRICS)
    try:
        stored = json.loads(data) if data else {}
    except ValueError:
        return {}
    for part in ("holdout", "validation"):
        found = stored.get(part) if isinstance(stored, dict) else None
        if isinstance(found, dict):
            return {str(k).lower(): float(v) for k, v in found.items() if isinstance(v, int | float)}
    return {}


def _blocks(ref: Window, cur: Window) -> NDArray[np.int64] | None:
    """Window number of each reference row, windows of the current one's length counted back from its start."""
    if ref.days is None or not cur.span_days or not len(ref.days):
        return None
    return np.asarray((ref.days.max() - ref.days) // cur.span_days)


def _numbers(window: Window, column: str) -> NDArray[np.float64]:
    values = window.rows.column(column)
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.int8())
    if not (pa.types.is_integer(values.type) or pa.types.is_floating(values.type) or pa.types.is_decimal(values.type)):
        return np.full(len(values), np.nan)
    return np.concatenate([with_gaps(c) for c in values.chunks]) if values.num_chunks else np.empty(0)


def _matrix(window: Window, features: Sequence[str]) -> NDArray[np.float64] | None:
    t = pa.types
    for name in features:
        if name not in window.rows.column_names:
            return None
        kind = window.rows.schema.field(name).type
        if not (t.is_integer(kind) or t.is_floating(kind) or t.is_boolean(kind) or t.is_decimal(kind)):
            return None
    return np.column_stack([_numbers(window, name) for name in features])
