"""When a rule fires, escalates and resolves: a fold over time bins; pure.

The rule is the tutorial's scheduled query (``summarize max(value) by model, bin(time, 1h) | where > 0.20``) with a
state on top: one incident from the first breaching bin to the first bin with data that does not breach, whatever
the number of evaluations in between. A rule that sees no new data says nothing.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_mlgates.config import AlertRule, Severity

SEVERITIES: tuple[Severity, ...] = ("P1", "P2", "P3")
"""Most severe first."""


@dataclasses.dataclass(frozen=True, slots=True)
class Bin:
    """The rule's aggregate over one bin of time of one model; ``metric``, ``run_id`` and ``version`` are of its largest row."""

    start: dt.datetime
    value: float
    metric: str = ""
    run_id: str = ""
    version: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Standing:
    """What was last said of a rule and a model. ``resolved_at`` is the bin that ended the incident; ``None`` while it is open."""

    alert_id: str
    start: dt.datetime
    severity: Severity
    resolved_at: dt.datetime | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Transition:
    """Something to say: ``event`` is ``fired``, ``escalated`` or ``resolved``."""

    event: str
    alert_id: str
    rule: str
    model: str
    severity: Severity
    value: float
    threshold: float
    window_start: dt.datetime
    metric: str = ""
    run_id: str = ""


def severity_of(rule: AlertRule, value: float) -> Severity:
    """Return the most severe level whose limit lies below ``value`` (the rule's own where none does)."""
    limits = {rule.severity: rule.threshold, **rule.escalate}
    for level in SEVERITIES:
        if level in limits and value > limits[level]:
            return level
    return rule.severity


def incident_id(rule: str, model: str, start: dt.datetime, previous: str = "") -> str:
    """Return the id of an incident: the same for every evaluator that sees the same first bin.

    ``previous`` is the id of an incident that began in the same bin and was resolved, empty otherwise.
    """
    text = "\x1f".join((rule, model, start.astimezone(dt.UTC).isoformat(), previous))
    return "alert-" + hashlib.sha256(text.encode()).hexdigest()[:20]


def first_bin_wanted(rule: AlertRule, standing: Standing | None, now: dt.datetime) -> dt.datetime:
    """Return the time from which bins matter: an open incident's start, else the look-back, never before the last resolution."""
    oldest = floor_to_bin(now - dt.timedelta(hours=rule.lookback_hours), rule.bin_minutes)
    if standing is None:
        return oldest
    if standing.resolved_at is None:
        return standing.start
    return max(oldest, standing.resolved_at)


def floor_to_bin(moment: dt.datetime, minutes: int) -> dt.datetime:
    """Return the start of the bin that holds ``moment``; bins are counted from the Unix epoch, in UTC."""
    width = minutes * 60
    seconds = int(moment.timestamp()) // width * width
    return dt.datetime.fromtimestamp(seconds, dt.UTC)


def transitions(rule: AlertRule, model: str, bins: Iterable[Bin], standing: Standing | None) -> list[Transition]:
    """Fold the bins of one model into what has to be said.

    Parameters
    ----------
    rule
        Threshold, severities and the number of consecutive bins that must breach.
    model
        Name of the model.
    bins
        Bins with data from `first_bin_wanted` on, in order of time. A bin without finite values is no bin.
    standing
        What was last said, ``None`` before the first time.

    Returns
    -------
    list of Transition
        In order of time. Folding the same bins again, with the standing that these leave, gives nothing.
    """
    said: list[Transition] = []
    streak: list[Bin] = []
    last = standing
    for one in bins:
        breaches = one.value > rule.threshold
        if last is not None and last.resolved_at is None:
            level = severity_of(rule, one.value)
            if not breaches:
                said.append(_transition("resolved", rule, model, last.alert_id, last.severity, one, one.start))
                last = dataclasses.replace(last, resolved_at=one.start)
            elif SEVERITIES.index(level) < SEVERITIES.index(last.severity):
                said.append(_transition("escalated", rule, model, last.alert_id, level, one, last.start))
                last = dataclasses.replace(last, severity=level)
            streak = []
            continue
        streak = [*streak, one] if breaches else []
        if len(streak) >= rule.sustained:
            start = streak[0].start
            previous = last.alert_id if last is not None and last.start == start else ""
            peak = max(streak, key=lambda b: b.value)
            last = Standing(incident_id(rule.name, model, start, previous), start, severity_of(rule, peak.value))
            said.append(_transition("fired", rule, model, last.alert_id, last.severity, peak, start))
    return said


def _transition(
    event: str, rule: AlertRule, model: str, alert_id: str, severity: Severity, one: Bin, window_start: dt.datetime
) -> Transition:
    return Transition(
        event=event,
        alert_id=alert_id,
        rule=rule.name,
        model=model,
        severity=severity,
        value=one.value,
        threshold=rule.threshold,
        window_start=window_start,
        metric=one.metric,
        run_id=one.run_id,
    )
