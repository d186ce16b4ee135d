"""The rows of ``ml_drift_metrics`` and ``ml_retrain_triggers`` for one drift run."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pytest_mlgates.drift.concept import RHO
from pytest_mlgates.drift.decide import feature_severity
from pytest_mlgates.drift.performance import TOLERANCES
from pytest_mlgates.drift.report import DriftVerdict, FeatureDrift
from pytest_mlgates.services.drift_records import LABEL, OVERALL, PREDICTION

if TYPE_CHECKING:
    from pytest_mlgates.config import Drift
    from pytest_mlgates.services.monitor import MonitorRun

_FEATURE_METRICS = ("psi", "ks", "chi2", "cramers_v", "js", "wasserstein", "q")


def metric_rows(run: MonitorRun, settings: Drift) -> list[dict[str, Any]]:
    """Return every metric of a run as a row of ``ml_drift_metrics``.

    Per column ``psi`` and its companions; for the whole (`OVERALL`): ``psi_overall`` (largest PSI beyond chance),
    ``psi_largest`` (chance included), ``prediction_psi``, ``performance_rmse_delta_pct`` (a share: 0.031 is +3.1 %; null
    while chance may explain it), ``performance_rmse_delta_observed``, MAPE and AUC likewise, ``importance_rho``,
    ``volume_drop`` and ``labelled_rows``. What could not be judged has no value and the status ``insufficient``.
    """
    spans = run.windows.reference.span_days, run.windows.current.span_days
    common = {
        "run_id": run.run_id, "run_timestamp": run.run_timestamp, "model_name": run.model, "model_version": run.version,
        "reference_days": spans[0] or settings.reference_days, "current_days": spans[1] or settings.current_days,
    }  # fmt: skip
    rows = [*_feature_rows(run, settings), *_overall_rows(run, settings)]
    return [{**common, **row} for row in rows]


def _feature_rows(run: MonitorRun, settings: Drift) -> Iterator[dict[str, Any]]:
    for feature in run.report.features:
        yield from _of_feature(feature, feature.feature, settings)
    for name, found in ((PREDICTION, run.facts.prediction), (LABEL, run.facts.label)):
        if found is not None:
            yield from _of_feature(found, name, settings)


def _of_feature(feature: FeatureDrift, name: str, settings: Drift) -> Iterator[dict[str, Any]]:
    thresholds = {"psi": max(settings.min_psi, feature.psi_threshold or 0.0), "q": settings.alpha}
    status = "suppressed" if feature.reason.startswith("suppressed") else feature.verdict.value
    for metric in _FEATURE_METRICS:
        value = getattr(feature, metric)
        if value is None and metric != "psi":  # PSI stands for the verdict, also where there is no number
            continue
        yield {
            "feature_name": name, "metric_type": metric, "value": value, "threshold": thresholds.get(metric),
            "status": status, "severity": feature_severity(feature),
        }  # fmt: skip


def _overall_rows(run: MonitorRun, settings: Drift) -> Iterator[dict[str, Any]]:
    facts, severity = run.facts, run.decision.severity
    yield _whole("psi_overall", run.report.psi_overall, 0.20, run.report.verdict.value, severity)
    yield _whole("psi_largest", run.report.psi_largest, None, run.report.verdict.value, "")
    if facts.prediction is not None:
        found = facts.prediction
        limit = max(settings.min_psi, found.psi_threshold or 0.0)
        yield _whole("prediction_psi", found.psi, limit, found.verdict.value, feature_severity(found))
    else:
        yield _whole("prediction_psi", None, None, DriftVerdict.INSUFFICIENT.value, "")
    yield from _performance_rows(run)
    rho = facts.concept.rho
    yield _whole("importance_rho", rho, RHO, facts.concept.verdict.value, severity if _drift(facts.concept.verdict) else "")
    yield _whole("volume_drop", facts.volume_drop, 0.10, "drift" if facts.volume_drop >= 0.10 else "stable", "")
    labelled = run.labelled_rows
    if labelled is not None:
        yield _whole("labelled_rows", float(labelled), None, "stable", "")


def _performance_rows(run: MonitorRun) -> Iterator[dict[str, Any]]:
    performance, severity = run.facts.performance, run.decision.severity
    error = performance.get("rmse")
    known = performance.rmse_delta
    verdict = DriftVerdict.INSUFFICIENT if known is None or error is None else error.verdict
    shown = severity if _drift(verdict) else ""
    yield _whole("performance_rmse_delta_pct", known, TOLERANCES["rmse"], verdict.value, shown)
    for metric in performance.metrics:
        name = f"performance_{metric.metric}_delta_observed"
        yield _whole(name, metric.change, TOLERANCES[metric.metric], metric.verdict.value, "")


def _drift(verdict: DriftVerdict) -> bool:
    return verdict is DriftVerdict.DRIFT


def _whole(metric: str, value: float | None, threshold: float | None, status: str, severity: str) -> dict[str, Any]:
    return {
        "feature_name": OVERALL, "metric_type": metric, "value": value, "threshold": threshold, "status": status,
        "severity": severity,
    }  # fmt: skip


def trigger_row(run: MonitorRun, resting: Mapping[str, dt.datetime]) -> dict[str, Any]:
    """Return the row of ``ml_retrain_triggers``.

    Its status is ``cooldown`` where every trigger is in one, ``needs-approval`` where only concept drift calls for the
    retrain (the guide wants a human there), else ``open``.
    """
    awake = [kind for kind in run.decision.triggers if kind not in resting]
    status = "open" if awake else "cooldown"
    if awake == ["concept"]:
        status = "needs-approval"
    waits = [f"{kind} in cool-down until {end:%Y-%m-%d %H:%M} UTC" for kind, end in resting.items()]
    return {
        "trigger_id": f"trigger-{run.run_id}", "triggered_at": run.run_timestamp, "model_name": run.model,
        "model_version": run.version, "severity": run.decision.severity, "status": status, "drift_run_id": run.run_id,
        "reasons": "; ".join([*run.decision.reasons, *waits]),
    }  # fmt: skip
