"""The tutorial's final verification: its five queries with their pass criteria, over the tables and the endpoint."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_mlgates.config import Settings
    from pytest_mlgates.services.readiness_facts import Facts

_DRIFT_AGE = dt.timedelta(hours=24)
_ALERT_WITHIN = dt.timedelta(minutes=5)
_RETRAIN_WITHIN = dt.timedelta(minutes=10)


@dataclasses.dataclass(frozen=True, slots=True)
class Check:
    """One verification: what was asked, whether it holds, what was found."""

    name: str
    ok: bool
    found: str


def verify(facts: Facts, settings: Settings) -> list[Check]:
    """Return the five checks in the tutorial's order."""
    return [_in_audit(facts), _endpoint(facts, settings), _drift(facts), _alert(facts), _retrain(facts)]


def _in_audit(facts: Facts) -> Check:
    rows = [r for r in facts.audit if r.event.to_stage == "Production" and r.event.state == "committed"]
    if not rows:
        return Check("a Production row in the audit", ok=False, found="the audit has no committed move to Production")
    last = rows[-1]
    return Check(
        "a Production row in the audit",
        ok=True,
        found=f"row {last.seq}: v{last.event.version}, {last.event_time:%Y-%m-%d %H:%M} UTC",
    )


def _endpoint(facts: Facts, settings: Settings) -> Check:
    slo = settings.model(facts.name).gates.latency.p99_max_ms
    name = f"endpoint healthy, load test p99 < {slo:g} ms"
    healthy = next((e for e in facts.endpoints if not e.trouble), None)
    if healthy is None:
        return Check(
            name, ok=False, found="; ".join(e.trouble for e in facts.endpoints) or "no endpoint of this model is known"
        )
    p99 = facts.load.get("p99_ms") if facts.load is not None else None
    if p99 is None:
        return Check(
            name,
            ok=False,
            found=f"{healthy.uri} is healthy; no load test is stored: mlgates loadtest --uri {healthy.uri} --store",
        )
    return Check(name, ok=p99 < slo, found=f"{healthy.uri} is healthy; p99 {p99:.1f} ms")


def _drift(facts: Facts) -> Check:
    name = "a drift run within 24 hours"
    if not facts.drift_runs:
        return Check(name, ok=False, found="no drift run is on record: mlgates drift --model NAME")
    last = facts.drift_runs[-1]["run_timestamp"]
    age = facts.now - last
    return Check(
        name, ok=age <= _DRIFT_AGE, found=f"{len(facts.drift_runs)} runs, the last {age.total_seconds() / 3600:.1f} h ago"
    )


def _alert(facts: Facts) -> Check:
    """The newest incident: from the drift run that it speaks of to its first delivery."""
    name = "an alert within 5 minutes of the drift that it tells"
    fired = [r for r in facts.alerts if r["event"] == "fired" and r["model_name"] == facts.name]
    if not fired:
        return Check(name, ok=False, found="no alert of this model ever fired")
    last = fired[-1]
    begin = _run_time(facts, last)
    delivered = [r["event_time"] for r in facts.alerts if r["event"] == "delivered" and r["alert_id"] == last["alert_id"]]
    if not delivered:
        return Check(name, ok=False, found=f"alert {last['alert_id']} was delivered to nobody")
    took = min(delivered) - begin
    return Check(
        name,
        ok=took <= _ALERT_WITHIN,
        found=f"alert {last['alert_id']} was delivered {took.total_seconds():.0f} s after the drift run",
    )


def _run_time(facts: Facts, fired: Mapping[str, Any]) -> dt.datetime:
    found: dt.datetime = next(
        (r["run_timestamp"] for r in facts.drift_runs if r["run_id"] == fired["drift_run_id"]), fired["event_time"]
    )
    return found


def _retrain(facts: Facts) -> Check:
    """A committed audit row that names drift, within ten minutes of the alert whose id it carries."""
    name = "an audit row that names drift within 10 minutes of the alert"
    rows = [r for r in facts.audit if "drift" in r.event.rationale and r.event.state == "committed"]
    if not rows:
        return Check(name, ok=False, found="no audit row names drift")
    last = rows[-1]
    fired = [r for r in facts.alerts if r["event"] == "fired" and r["alert_id"] in last.event.rationale]
    if not fired:
        return Check(name, ok=False, found=f"row {last.seq} names drift, but no alert on record: {last.event.rationale}")
    took = last.event_time - fired[-1]["event_time"]
    return Check(
        name,
        ok=took <= _RETRAIN_WITHIN,
        found=f"row {last.seq}: v{last.event.version} to {last.event.to_stage}, {took.total_seconds():.0f} s after the alert",
    )
