"""Keep a feature from alarming for a while, on the record: in its own table and in the promotion audit."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Protocol

from pytest_mlgates.errors import UsageProblem, nearest
from pytest_mlgates.ports import AuditEvent
from pytest_mlgates.services import drift_records as records
from pytest_mlgates.services.monitor import monitored_version

if TYPE_CHECKING:
    from pytest_mlgates.ports import AuditRow, ModelRegistry, TableStore


class _Audit(Protocol):
    def append(self, event: AuditEvent) -> AuditRow: ...


def suppress_feature(
    registry: ModelRegistry,
    store: TableStore,
    audit: _Audit,
    model: str,
    feature: str,
    *,
    reason: str,
    until: dt.date,
    actor: str,
    now: dt.datetime,
) -> str:
    """Suppress one input of a model until a day; return the suppression's id.

    The audit row comes second: a crash between the two leaves a suppression that `mlgates audit` does not show, never an
    audited one that is not in force.

    Raises
    ------
    ModelNotFound
        No such model.
    UsageProblem
        The model has no such input, no reason was given, or the day is past.
    """
    version = monitored_version(registry, model)
    inputs = [c.name for c in registry.load(version).inputs]
    if inputs and feature not in (*inputs, records.PREDICTION):
        raise UsageProblem(f"{version.label} has no input {feature!r}; {nearest(feature, inputs)}")
    found = records.suppress(store, model, feature, reason, until, actor, now)
    rationale = f"drift alarms of {feature} suppressed until {until} ({found}): {reason.strip()}"
    audit.append(AuditEvent(model, version.version, version.stage, version.stage, actor, "observed", rationale))
    return found
