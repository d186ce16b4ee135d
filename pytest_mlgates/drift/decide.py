"""From what was measured to what to do: severity, the decision in one sentence, and the retrain triggers; pure."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping, Sequence

from pytest_mlgates.drift.concept import ConceptDrift
from pytest_mlgates.drift.performance import MetricDrift, PerformanceDrift
from pytest_mlgates.drift.report import DriftReport, DriftVerdict, FeatureDrift

PSI_LARGE, PSI_SMALL = 0.20, 0.10
# the guide's table; a larger number is worse in each
_PSI_LIMITS = (("P1", 0.25), ("P2", 0.20), ("P3", 0.15))
_AUC_LIMITS = (("P1", 0.10), ("P2", 0.05), ("P3", 0.02))
_RMSE_LIMITS = (("P1", 0.25), ("P2", 0.10))
_RHO_LIMITS = (("P1", 0.50), ("P2", 0.30), ("P3", 0.15))  # of 1 - rho
_VOLUME_LIMITS = (("P1", 0.50), ("P2", 0.25), ("P3", 0.10))
_ECE_LIMITS = (("P1", 0.15), ("P2", 0.10), ("P3", 0.05))
SUSTAINED = 3
KINDS = ("schedule", "drift", "performance", "volume", "concept", "manual")


@dataclasses.dataclass(frozen=True, slots=True)
class Facts:
    """Everything that a decision rests on.

    Attributes
    ----------
    inputs, prediction, label
        Input columns; the prediction and the target as one column each, ``None`` where they are not known.
    performance, concept
        See `performance.performance_drift` and `concept.concept_drift`.
    volume_drop
        Share by which rows a day fell against the reference; negative where they rose.
    labelled_rows, labelled_growth
        Rows with a target in the whole table; their growth since this version's first drift run, as a share; ``None`` where
        that is not known.
    earlier_psi
        ``psi_overall`` of the windows just before this one, newest first.
    ece
        Expected calibration error of the current window, ``None`` where it does not apply.
    age_days, schedule_days
        Days since the version was made, and after how many one is due; ``None`` where there is no schedule.
    """

    inputs: DriftReport
    prediction: FeatureDrift | None
    label: FeatureDrift | None
    performance: PerformanceDrift
    concept: ConceptDrift
    volume_drop: float = 0.0
    labelled_rows: int | None = None
    labelled_growth: float | None = None
    earlier_psi: Sequence[float] = ()
    ece: float | None = None
    age_days: float | None = None
    schedule_days: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Decision:
    """What a drift run concludes."""

    verdict: DriftVerdict
    severity: str
    sentence: str
    triggers: tuple[str, ...]
    reasons: tuple[str, ...]


def decide(facts: Facts) -> Decision:
    """Return severity, sentence and triggers for what was measured."""
    reasons = trigger_reasons(facts)
    return Decision(overall(facts), severity(facts), sentence(facts), tuple(reasons), tuple(reasons.values()))


def overall(facts: Facts) -> DriftVerdict:
    """``drift`` where anything drifted, ``insufficient`` where the inputs could not be judged, else ``stable``."""
    parts = [facts.inputs.verdict, facts.performance.verdict, facts.concept.verdict]
    parts += [f.verdict for f in (facts.prediction, facts.label) if f is not None]
    return DriftVerdict.DRIFT if DriftVerdict.DRIFT in parts else facts.inputs.verdict


def severity(facts: Facts) -> str:
    """Return the worst of the guide's severities, ``P1`` to ``P3``, or an empty string.

    Input PSI counts where the drift is beyond chance; P2 by input PSI needs `SUSTAINED` windows in a row at 0.20, so a first
    window at 0.20 to 0.25 is P3.
    """
    found = [
        _input_severity(facts),
        _level(_confirmed_psi(facts.prediction), _PSI_LIMITS),
        _level(facts.volume_drop, _VOLUME_LIMITS),
        _level(facts.ece, _ECE_LIMITS),
    ]
    rho = facts.concept.rho
    if facts.concept.verdict is DriftVerdict.DRIFT and rho is not None:
        found.append(_level(1 - rho, _RHO_LIMITS))
    area, error = facts.performance.get("auc"), facts.performance.get("rmse")
    if area is not None and area.low > 0:
        found.append(_level(area.change, _AUC_LIMITS))
    if error is not None and error.verdict is DriftVerdict.DRIFT:
        found.append(_level(error.change, _RMSE_LIMITS))
    if any(f.broken for f in facts.inputs.features):
        found.append("P1")  # a model that is fed a broken column is wrong today
    worst = min((s for s in found if s), default="")
    return worst or ("P3" if overall(facts) is DriftVerdict.DRIFT else "")


def feature_severity(feature: FeatureDrift) -> str:
    """Severity of one column by itself: by its PSI where it drifted, P1 where it is broken."""
    return "P1" if feature.broken else _level(_confirmed_psi(feature), _PSI_LIMITS)


def _input_severity(facts: Facts) -> str:
    psi = facts.inputs.psi_overall or 0.0
    level = _level(psi, _PSI_LIMITS)
    if level != "P2":
        return level
    earlier = list(facts.earlier_psi)[: SUSTAINED - 1]
    return "P2" if len(earlier) == SUSTAINED - 1 and all(p >= PSI_LARGE for p in earlier) else "P3"


def _level(value: float | None, limits: Sequence[tuple[str, float]]) -> str:
    return next((name for name, limit in limits if value is not None and value >= limit), "")


def _confirmed_psi(feature: FeatureDrift | None) -> float | None:
    return feature.psi if feature is not None and feature.drifted else None


def sentence(facts: Facts) -> str:
    """Walk the guide's decision tree; one sentence with the numbers it rests on."""
    broken = [f for f in facts.inputs.features if f.broken]
    if broken:
        return f"input {broken[0].feature} is broken: {broken[0].reason}"
    if facts.inputs.verdict is DriftVerdict.INSUFFICIENT:
        return "insufficient data: no verdict and no retrain; backfill the current window"
    psi = facts.inputs.psi_overall or 0.0
    inputs = f"inputs shifted (PSI {psi:.2f}: {', '.join(f.feature for f in facts.inputs.drifted[:3])})"
    worst = worst_metric(facts.performance)
    shifted = facts.prediction is not None and facts.prediction.drifted
    if facts.performance.verdict is DriftVerdict.DRIFT and worst is not None:
        return _worse(worst, psi, inputs, facts.inputs.drifted)
    if facts.concept.verdict is DriftVerdict.DRIFT:
        return f"importances changed (ρ {facts.concept.rho:.2f}): concept drift; retrain on fresh labels, review features"
    known = "performance stable" if facts.performance.metrics else "performance unknown (no labels yet)"
    if shifted and facts.inputs.drifted:
        return f"{known}, predictions and {inputs}: " + ("robust model, watch" if facts.performance.metrics else "get labels")
    if shifted:
        assert facts.prediction is not None
        return f"{known}, predictions shifted (PSI {facts.prediction.psi:.2f}), inputs stable: suspect instrumentation"
    if facts.inputs.drifted:
        return f"{known}, {inputs}, predictions stable: watch"
    if facts.label is not None and facts.label.drifted:
        return f"{known}, labels shifted (PSI {facts.label.psi:.2f}), inputs stable: watch for concept drift"
    return "healthy: no drift beyond chance"


def _worse(metric: MetricDrift, psi: float, inputs: str, drifted: Sequence[FeatureDrift]) -> str:
    name = metric.metric.upper()
    change = f"{name} +{metric.change:.1%}" if metric.metric == "rmse" else f"{name} {-metric.change:+.1%}"
    if metric.metric == "mape":
        change = f"MAPE +{100 * metric.change:.1f} points"
    if psi > PSI_LARGE:
        return f"performance worse ({change}), {inputs}: data drift; retrain on recent data"
    if psi < PSI_SMALL and not any(f.psi is not None and f.psi >= PSI_SMALL for f in drifted):
        return f"performance worse ({change}), inputs stable: concept drift; retrain on fresh labels, review features"
    return f"performance worse ({change}), {inputs}: mixed data and concept drift; retrain, then review features"


def worst_metric(performance: PerformanceDrift) -> MetricDrift | None:
    """The metric that worsened most among those that alarm (or are worse beyond chance), else the first."""
    alarming = [m for m in performance.metrics if m.verdict is DriftVerdict.DRIFT]
    alarming = alarming or [m for m in performance.metrics if m.low > 0]
    return max(alarming, key=lambda m: m.change, default=performance.metrics[0] if performance.metrics else None)


def trigger_reasons(facts: Facts) -> dict[str, str]:
    """Return which of the guide's triggers fire, with the reason of each; none on insufficient data or broken inputs."""
    found: dict[str, str] = {}
    if facts.schedule_days is not None and facts.age_days is not None and facts.age_days >= facts.schedule_days:
        found["schedule"] = f"schedule: the version is {facts.age_days:.0f} days old, one is due every {facts.schedule_days:g}"
    if facts.inputs.verdict is DriftVerdict.INSUFFICIENT or any(f.broken for f in facts.inputs.features):
        return found
    retrain = [f for f in facts.inputs.features if f.retrain]
    if retrain:
        listed = ", ".join(f"{f.feature} PSI {f.psi:.2f} (q {f.q:.1e})" for f in retrain[:5])
        found["drift"] = f"drift: {listed}"
    worst = worst_metric(facts.performance)
    if facts.performance.verdict is DriftVerdict.DRIFT and worst is not None:
        found["performance"] = (
            f"performance: {worst.metric} {worst.before:.6g} → {worst.now:.6g} "
            f"({worst.change:+.1%}, 99% {worst.low:+.1%} to {worst.high:+.1%})"
        )
    if facts.labelled_growth is not None and facts.labelled_growth >= 0.10:
        found["volume"] = f"volume: {facts.labelled_growth:+.0%} labelled rows since this version's first drift run"
    hidden = facts.performance.verdict is DriftVerdict.DRIFT and not facts.inputs.drifted
    if facts.concept.verdict is DriftVerdict.DRIFT:
        found["concept"] = f"concept: importances ρ {facts.concept.rho:.2f}, chance reaches {facts.concept.usual_low:.2f}"
    elif hidden:
        found["concept"] = "concept: performance worse while the inputs are stable"
    return found


def cooling(
    kinds: Sequence[str], last: Mapping[str, dt.datetime], now: dt.datetime, cooldown_days: Mapping[str, float]
) -> dict[str, dt.datetime]:
    """Return, per trigger kind, the end of a cool-down that is still running.

    ``last`` is when each kind last led to a retrain. Drift and performance together are ``hybrid``. Alerts still fire in a
    cool-down: only the retrain waits.
    """
    both = {"drift", "performance"} <= set(kinds)
    out = {}
    for kind in kinds:
        days = cooldown_days.get("hybrid" if both and kind in ("drift", "performance") else kind, 0.0)
        if kind in last and now < last[kind] + dt.timedelta(days=days):
            out[kind] = last[kind] + dt.timedelta(days=days)
    return out
