"""One drift run: windows, comparison, performance, concept, decision, and the rows that it leaves."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pytest_mlgates import cost
from pytest_mlgates.config import COOLDOWN_DAYS
from pytest_mlgates.drift.blocks import designs
from pytest_mlgates.drift.compare import Design, Engine, compare
from pytest_mlgates.drift.decide import Decision, Facts, cooling, decide
from pytest_mlgates.drift.report import DriftReport, DriftVerdict, FeatureDrift
from pytest_mlgates.errors import EXIT_DRIFT, EXIT_OK, MlgatesError, ModelNotFound
from pytest_mlgates.services import drift_records as records
from pytest_mlgates.services.drift_rows import metric_rows, trigger_row
from pytest_mlgates.services.evaluate import as_scores
from pytest_mlgates.services.model_drift import model_drift
from pytest_mlgates.services.select import versions_of
from pytest_mlgates.services.windows import Window, Windows, load_windows
from pytest_mlgates.tables import DRIFT_METRICS, RETRAIN_TRIGGERS

if TYPE_CHECKING:
    from pytest_mlgates.config import ModelSettings, Settings
    from pytest_mlgates.ports import ModelRegistry, ModelVersion, TableStore

_PREDICTED_ROWS = 200_000  # of a longer window, as many rows, evenly


@dataclasses.dataclass(frozen=True)
class MonitorRun:
    """What a drift run found, and whether it wrote.

    ``written`` is false when the same windows were already on record; ``trigger`` is the row of ``ml_retrain_triggers``, or
    ``None``.
    """

    run_id: str
    model: str
    version: str
    run_timestamp: dt.datetime
    windows: Windows
    report: DriftReport
    facts: Facts
    decision: Decision
    trigger: dict[str, Any] | None
    written: bool
    notes: tuple[str, ...]

    @property
    def verdict(self) -> DriftVerdict:
        """``drift``, ``stable`` or ``insufficient``."""
        return self.decision.verdict

    @property
    def labelled_rows(self) -> int | None:
        """Rows with a target in the whole table, ``None`` where there is none."""
        return self.facts.labelled_rows

    @property
    def exit_code(self) -> int:
        """3 on drift, else 0: insufficient data are no drift."""
        return EXIT_DRIFT if self.verdict is DriftVerdict.DRIFT else EXIT_OK

    def to_dict(self) -> dict[str, Any]:
        """Return the documented JSON."""
        prediction, label = self.facts.prediction, self.facts.label
        return {
            "run_id": self.run_id,
            "model": self.model,
            "version": self.version,
            "verdict": self.verdict.value,
            "severity": self.decision.severity or None,
            "decision": self.decision.sentence,
            **{k: v for k, v in self.report.to_dict().items() if k not in ("features", "verdict")},
            "features": [f.to_dict() for f in self.report.features],
            "prediction": None if prediction is None else prediction.to_dict(),
            "label": None if label is None else label.to_dict(),
            "performance": self.facts.performance.to_dict(),
            "concept": self.facts.concept.to_dict(),
            "trigger": None if self.trigger is None else {**self.trigger, "triggered_at": str(self.trigger["triggered_at"])},
            "windows": {"reference": _span(self.windows.reference), "current": _span(self.windows.current)},
            "written": self.written,
            "notes": list(self.notes),
        }


def _span(window: Window) -> dict[str, Any]:
    first, last = (None if day is None else str(day) for day in (window.first, window.last))
    return {"rows": window.rows.num_rows, "first": first, "last": last, "source": window.label}


def run_drift(
    registry: ModelRegistry,
    store: TableStore,
    settings: Settings,
    model: str,
    *,
    version: str | None = None,
    reference_days: str | int | None = None,
    current_days: str | int | None = None,
    now: dt.datetime | None = None,
    force: bool = False,
    write: bool = True,
    engine: str | Engine = "local",
) -> MonitorRun:
    """Compare the current window of a model's rows with the reference, decide, and record it once.

    Parameters
    ----------
    version
        Version, stage or ``@alias`` to watch; by default Production, else @champion, else Staging, else the newest.
    reference_days, current_days
        As `windows.load_windows` takes them: days, or where the rows are.
    now
        Time of the run; where given, the current window ends the day before it, else with the table's newest day.
    force
        Write although these windows are on record already.
    write
        False computes only.

    Raises
    ------
    ModelNotFound, UsageProblem, DataUnusable, LakehouseError
    """
    if not write:
        return _run_drift(registry, store, settings, model, version, reference_days, current_days, now, engine, force=force)
    with cost.metered(store, "drift", model, cost_center=settings.cost.center(model)) as meter:
        draft = _run_drift(registry, store, settings, model, version, reference_days, current_days, now, engine, force=force)
        done = _recorded(store, draft, settings.model(model))
        meter.run_id, meter.version = done.run_id, done.version
        meter.calls = draft.windows.reference.rows.num_rows + draft.windows.current.rows.num_rows
    cost.record_storage(store)
    return done


def _run_drift(
    registry: ModelRegistry,
    store: TableStore,
    settings: Settings,
    model: str,
    version: str | None,
    reference_days: str | int | None,
    current_days: str | int | None,
    now: dt.datetime | None,
    engine: str | Engine,
    *,
    force: bool,
) -> MonitorRun:
    own = settings.model(model)
    watched = monitored_version(registry, model, version)
    predictor, notes = _predictor(registry, watched)
    features = _features(own, predictor)
    wanted = None if features is None else sorted({*features, own.target, *(c for c in own.drift.cells if c != "weekday")})
    present = None if wanted is None else _present(store, own, wanted)
    windows = load_windows(
        store, own.drift, columns=present, reference=reference_days, current=current_days, now=now,
        registry=registry, version=watched, folder=settings.folder,
    )  # fmt: skip
    features = features or [c for c in windows.reference.rows.column_names if c not in (own.target, own.drift.time_column)]
    if engine != "local" and windows.weights is not None:
        windows = dataclasses.replace(windows, weights=None)
        notes.append("compared without seasonal cells: rows are weighted in this process only")
    windows = _with_predictions(windows, predictor, own, watched, features, notes)
    facts = _facts(store, registry, own, watched, windows, features, now or dt.datetime.now(dt.UTC), engine)
    notes += windows.notes
    notes += [
        f"injected drift is in these rows: {row['feature']} × {row['factor']:g} ({row['injection_id']})"
        for row in records.standing_injections(store, model)
    ]
    digest = hashlib.sha256(json.dumps(own.drift.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()
    run_id = records.run_identity(model, watched.version, windows.identity, digest)
    if force:
        run_id = f"{run_id}-{uuid.uuid4().hex[:8]}"
    return MonitorRun(
        run_id, model, watched.version, now or dt.datetime.now(dt.UTC), windows, facts.inputs, facts, decide(facts), None,
        False, tuple(notes),
    )  # fmt: skip


def monitored_version(registry: ModelRegistry, model: str, spec: str | None = None) -> ModelVersion:
    """Return the version whose rows are watched. Raises ModelNotFound."""
    if spec is not None:
        return versions_of(registry, model, spec)[-1]
    for choice in ("Production", "@champion", "Staging"):
        try:
            return versions_of(registry, model, choice)[-1]
        except ModelNotFound:
            if not registry.versions(model):
                raise
    return versions_of(registry, model, "latest")[-1]


def _predictor(registry: ModelRegistry, version: ModelVersion) -> tuple[Any, list[str]]:
    try:
        return registry.load(version), []
    except MlgatesError as error:  # the inputs can be judged all the same
        return None, [f"no predictions: {error}"]


def _features(own: ModelSettings, predictor: Any) -> list[str] | None:
    if own.drift.columns:
        return list(own.drift.columns)
    names = [] if predictor is None else [c.name for c in predictor.inputs]
    return names or None


def _present(store: TableStore, own: ModelSettings, wanted: Sequence[str]) -> list[str]:
    """Columns of the table among those wanted: one that is gone is a finding, not an error."""
    if not own.drift.table or not store.exists(own.drift.table):
        return list(wanted)
    names = store.read(own.drift.table, where="1 = 0").column_names
    return [c for c in wanted if c in names]


def _with_predictions(
    windows: Windows, predictor: Any, own: ModelSettings, version: ModelVersion, features: Sequence[str], notes: list[str]
) -> Windows:
    if predictor is None:
        return windows
    both = []
    for window in (windows.reference, windows.current):
        if not set(features) <= set(window.rows.column_names) or window.rows.num_rows == 0:
            return windows
        try:
            both.append(window.with_column(records.PREDICTION, _scores(predictor, window, own, version)))
        except MlgatesError as error:
            notes.append(f"no predictions: {error}")
            return windows
    return dataclasses.replace(windows, reference=both[0], current=both[1])


def _scores(predictor: Any, window: Window, own: ModelSettings, version: ModelVersion) -> NDArray[np.float64]:
    """Score complete rows (at most `_PREDICTED_ROWS`, evenly taken); NaN for the others."""
    names = [c.name for c in predictor.inputs] or [c for c in window.rows.column_names if c != own.target]
    frame = window.rows.select(names).to_pandas()
    complete = np.flatnonzero(frame.notna().all(axis=1).to_numpy())
    if len(complete) > _PREDICTED_ROWS:
        complete = complete[np.linspace(0, len(complete) - 1, _PREDICTED_ROWS).astype(int)]
    out = np.full(len(frame), np.nan)
    if len(complete):
        scores = as_scores(predictor, frame.iloc[complete].reset_index(drop=True), own.task, version.label)
        out[complete] = scores if scores.ndim == 1 else scores.argmax(axis=1)
    return out


def _facts(
    store: TableStore,
    registry: ModelRegistry,
    own: ModelSettings,
    version: ModelVersion,
    windows: Windows,
    features: Sequence[str],
    now: dt.datetime,
    engine: str | Engine,
) -> Facts:
    ref, cur = windows.reference, windows.current
    quiet = records.suppressions(store, version.name, now.date())
    thresholds = _thresholds(own, windows, [*features, records.PREDICTION, own.target], quiet)
    inputs = compare_inputs(windows, features, thresholds, engine)
    one = {name: _single(ref, cur, name, thresholds) for name in (records.PREDICTION, own.target)}
    performance, concept = model_drift(store, registry, own, version, windows, features)
    labelled = _labelled(store, own)
    return Facts(
        inputs=inputs,
        prediction=one[records.PREDICTION],
        label=one[own.target],
        performance=performance,
        concept=concept,
        volume_drop=_volume_drop(windows),
        labelled_rows=labelled,
        labelled_growth=_labelled_growth(store, version, labelled),
        earlier_psi=tuple(v for _, v in records.past_values(store, version.name, version.version, "psi_overall")),
        age_days=None if version.created is None else (now - version.created).total_seconds() / 86_400,
        schedule_days=own.drift.schedule_days,
    )


def _thresholds(own: ModelSettings, windows: Windows, columns: Sequence[str], suppressed: Mapping[str, str]) -> dict[str, Any]:
    """What `compare` is called with for this model."""
    return {
        "alpha": own.drift.alpha, "min_psi": own.drift.min_psi, "min_rows": own.drift.min_rows, "weights": windows.weights,
        "designs": _designs(windows, columns), "suppressed": suppressed, "limits": own.drift.limits,
    }  # fmt: skip


def compare_inputs(
    windows: Windows, features: Sequence[str], thresholds: Mapping[str, Any], engine: str | Engine = "local"
) -> DriftReport:
    """Compare the inputs of both windows; one that both lack is a finding as well."""
    ref, cur = windows.reference.rows, windows.current.rows
    known = [f for f in features if f in ref.column_names or f in cur.column_names]
    report = compare(ref, cur, columns=known, engine=engine, **thresholds)
    reason = "the column is gone from the table; mend the source, a retrain would not help"
    gone = tuple(
        FeatureDrift(f, "", DriftVerdict.DRIFT, ref.num_rows, cur.num_rows, broken=True, reason=reason)
        for f in features
        if f not in known
    )
    return dataclasses.replace(report, features=report.features + gone)


def past_comparison(
    registry: ModelRegistry, store: TableStore, settings: Settings, model: str, version: str | None, now: dt.datetime
) -> tuple[Windows, DriftReport]:
    """Compare the inputs as a run at ``now`` would have; writes nothing, predicts nothing, knows no limits."""
    own = settings.model(model)
    features = _features(own, _predictor(registry, monitored_version(registry, model, version))[0])
    wanted = None if features is None else _present(store, own, [*features, *(c for c in own.drift.cells if c != "weekday")])
    windows = load_windows(store, own.drift, columns=wanted, now=now)
    names = features or [c for c in windows.reference.rows.column_names if c not in (own.target, own.drift.time_column)]
    thresholds = {**_thresholds(own, windows, names, {}), "limits": {}}
    return windows, compare_inputs(windows, names, thresholds)


def _designs(windows: Windows, columns: Sequence[str]) -> dict[str, Design]:
    ref, cur = windows.reference, windows.current
    if ref.days is None or cur.days is None or not cur.span_days or not len(cur.days) or not len(ref.days):
        return {}
    shared = [c for c in columns if c in ref.rows.column_names and c in cur.rows.column_names]
    return designs(
        ref.rows, cur.rows, shared, reference_days=ref.days, current_days=cur.days, window_days=cur.span_days
    )  # fmt: skip


def _single(ref: Window, cur: Window, name: str, thresholds: dict[str, Any]) -> FeatureDrift | None:
    """One column as a family of its own: predictions and labels are not inputs, and are not corrected with them."""
    if name not in ref.rows.column_names or name not in cur.rows.column_names:
        return None
    found = compare(ref.rows.select([name]), cur.rows.select([name]), columns=[name], **thresholds).features[0]
    return dataclasses.replace(found, retrain=False)


def _volume_drop(windows: Windows) -> float:
    spans = windows.reference.span_days, windows.current.span_days
    if not all(spans) or windows.reference.rows.num_rows == 0:
        return 0.0
    before = windows.reference.rows.num_rows / spans[0]
    return float(1 - windows.current.rows.num_rows / spans[1] / before)


def _labelled(store: TableStore, own: ModelSettings) -> int | None:
    """Rows with a target in the whole table: what a retrain could learn from."""
    if not own.drift.table or not _present(store, own, [own.target]):
        return None
    batches = store.batches(own.drift.table, columns=[own.target])
    return sum(int(batch.num_rows - batch.column(0).null_count) for batch in batches)


def _labelled_growth(store: TableStore, version: ModelVersion, rows: int | None) -> float | None:
    past = records.past_values(store, version.name, version.version, "labelled_rows")
    if rows is None or not past or past[-1][1] <= 0:
        return None
    return rows / past[-1][1] - 1


def _recorded(store: TableStore, draft: MonitorRun, own: ModelSettings) -> MonitorRun:
    records.create_tables(store)
    trigger = None
    written = records.append_once(store, DRIFT_METRICS, draft.run_id, metric_rows(draft, own.drift))
    if draft.decision.triggers:
        last = records.last_retrains(store, draft.model)
        resting = cooling(draft.decision.triggers, last, draft.run_timestamp, COOLDOWN_DAYS)
        row = trigger_row(draft, resting)
        trigger = row if records.append_once(store, RETRAIN_TRIGGERS, draft.run_id, [row]) else None
    return dataclasses.replace(draft, trigger=trigger, written=written)
