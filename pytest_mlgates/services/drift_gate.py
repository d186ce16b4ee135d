"""A drift run as gate results: one per input and drift type, so that a required check can name what moved."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_mlgates.drift.concept import RHO
from pytest_mlgates.drift.decide import worst_metric
from pytest_mlgates.drift.performance import TOLERANCES
from pytest_mlgates.drift.report import DriftVerdict, FeatureDrift
from pytest_mlgates.results import GateResult, Verdict

if TYPE_CHECKING:
    from pytest_mlgates.config import Settings
    from pytest_mlgates.ports import ModelRegistry
    from pytest_mlgates.services.monitor import MonitorRun

TYPES = ("prediction", "label", "performance", "concept")
_PREFIX = "input:"


def drift_items(registry: ModelRegistry, settings: Settings, model: str, version: str) -> list[str]:
    """Return what a drift run judges: ``input:NAME`` for each input, then `TYPES`."""
    own = settings.model(model)
    names = own.drift.columns or tuple(c.name for c in registry.load(registry.get(model, version)).inputs)
    return [*(_PREFIX + name for name in names), *TYPES]


def drift_result(run: MonitorRun, item: str) -> GateResult:
    """Return the verdict on one item of `drift_items`."""
    if item.startswith(_PREFIX):
        name = item.removeprefix(_PREFIX)
        found = next((f for f in run.report.features if f.feature == name), None)
        if found is None:
            return GateResult(f"drift {item}", Verdict.ERROR, summary=f"neither window has the column {name!r}")
        return _of_feature(f"drift {item}", found, Verdict.INCONCLUSIVE)
    if item in ("prediction", "label"):
        single = run.facts.prediction if item == "prediction" else run.facts.label
        if single is None:
            return GateResult(f"drift {item}", Verdict.SKIP, summary=f"no {item}s in these windows")
        return _of_feature(f"drift {item}", single, Verdict.SKIP)
    return _performance(run) if item == "performance" else _concept(run)


def _of_feature(gate: str, found: FeatureDrift, thin: Verdict) -> GateResult:
    if found.verdict is DriftVerdict.INSUFFICIENT:
        shift = "" if found.smallest_shift is None else f"; they would show a shift of {found.smallest_shift:.2f} σ at best"
        return GateResult(
            gate, thin, n=found.n_current, summary=f"insufficient data: {found.reason}{shift}", hint="backfill the window"
        )
    if found.psi is None or found.q is None:
        return GateResult(gate, Verdict.FAIL, n=found.n_current, summary=found.reason, hint="mend the source of this column")
    sign = "≤" if found.drifted else ">"
    summary = f"PSI {found.psi:.3f} (chance reaches {found.psi_threshold or 0.0:.3f}), q {found.q:.2g} {sign} alpha"
    hint = "retrain on recent data, or suppress it with a reason (mlgates drift suppress)" if found.drifted else ""
    return GateResult(
        gate, Verdict.FAIL if found.drifted else Verdict.PASS, estimate=found.psi, threshold=found.psi_threshold,
        n=found.n_current, method="Benjamini-Hochberg q over all inputs, times Yekutieli's factor; PSI smoothed", hint=hint,
        summary=f"{summary}{'; ' + found.reason if found.reason else ''}", details=found.to_dict(),
    )  # fmt: skip


def _performance(run: MonitorRun) -> GateResult:
    found = worst_metric(run.facts.performance)
    if found is None:
        return GateResult("drift performance", Verdict.SKIP, summary=run.facts.performance.reason, hint="supply labels")
    drifted = run.facts.performance.verdict is DriftVerdict.DRIFT
    change = f"{found.metric.upper()} {found.before:.6g} → {found.now:.6g}"
    return GateResult(
        "drift performance", Verdict.FAIL if drifted else Verdict.PASS, estimate=found.change, low=found.low, high=found.high,
        threshold=TOLERANCES[found.metric], n=found.n, method="change against training time, 99% interval between windows",
        summary=f"{change} ({found.change:+.1%}, 99% {found.low:+.1%} to {found.high:+.1%})",
        hint=run.decision.sentence if drifted else "", details=run.facts.performance.to_dict(),
    )  # fmt: skip


def _concept(run: MonitorRun) -> GateResult:
    found = run.facts.concept
    if found.rho is None:
        return GateResult("drift concept", Verdict.SKIP, summary=found.reason, hint="supply labels")
    usual = "" if found.usual_low is None else f"; chance reaches {found.usual_low:.2f}"
    drifted = found.verdict is DriftVerdict.DRIFT
    return GateResult(
        "drift concept", Verdict.FAIL if drifted else Verdict.PASS, estimate=found.rho, threshold=RHO,
        method="Spearman's ρ of importances, shadow forests", summary=f"importances ρ {found.rho:.2f}{usual}",
        hint="retrain on fresh labels, review features" if drifted else "", details=found.to_dict(),
    )  # fmt: skip
