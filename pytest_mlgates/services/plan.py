"""What today's holdout can show of a model version, by the thresholds that its settings have in force."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_mlgates import checks
from pytest_mlgates.services.evaluate import Candidate, load_baseline, load_holdout, looks_at, models_on
from pytest_mlgates.services.thresholds import arguments_of

if TYPE_CHECKING:
    from pytest_mlgates.checks import PlanRow
    from pytest_mlgates.config import Settings
    from pytest_mlgates.ports import ModelRegistry, ModelVersion, TableStore


def plan(
    registry: ModelRegistry, store: TableStore, settings_file: Settings, version: ModelVersion, *, power: float = 0.8
) -> tuple[PlanRow, ...]:
    """Return the plan of every gate that judges the version; see `checks.plan`.

    Raises
    ------
    MlgatesError
        The model, its holdout or its baseline cannot be used.
    """
    settings = settings_file.model(version.name)
    candidate = Candidate(registry, version, settings)
    holdout = load_holdout(store, settings, settings_file.folder)
    baseline = load_baseline(registry, settings, holdout)
    names = models_on(registry, settings_file, version.name)
    limits = arguments_of(settings, looks=looks_at(registry, (version.name, version.version), holdout.digest, names))
    limits["latency"]["calls"] = settings.gates.latency.calls
    for rules in limits.values():
        rules.pop("confidence", None)
    return checks.plan(
        holdout.y,
        candidate.predictions(holdout),
        baseline.predictions,
        task=settings.task,
        sensitive=holdout.sensitive if settings.regulated else None,
        confidence=settings.confidence,
        power=power,
        **limits,
    )
