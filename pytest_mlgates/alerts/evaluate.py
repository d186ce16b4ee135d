"""One evaluation: query, decide, write down what is to be said, say it.

What is to be said is a row before it is sent, claimed by compare-and-swap, so an evaluator that dies loses nothing and two
evaluators fire once. Delivery is at least once: a process that dies between sending and writing that down sends again, under
the same alert id and the same ``Message-ID``.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import os
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pytest_mlgates.alerts import ledger as ledgers
from pytest_mlgates.alerts.dispatch import Delivery, deliver_pending
from pytest_mlgates.alerts.ledger import AlertRow, Ledger, row_of
from pytest_mlgates.alerts.query import bins_by_model
from pytest_mlgates.alerts.rules import Transition, first_bin_wanted, transitions
from pytest_mlgates.errors import ConfigError, LakehouseError, WriteConflict, nearest

if TYPE_CHECKING:
    from pytest_mlgates.config import AlertRule, Settings
    from pytest_mlgates.ports import TableStore

_CLAIM_TRIES = 20
_TICK = dt.timedelta(microseconds=1)


@dataclasses.dataclass(frozen=True, slots=True)
class EvaluationReport:
    """What one evaluation found and sent.

    ``suppressed`` holds the alert ids whose retraining a cool-down held back; ``problems`` says by rule what could not be
    evaluated, while the other rules were.
    """

    now: dt.datetime
    rules: int
    transitions: tuple[Transition, ...]
    suppressed: frozenset[str]
    deliveries: tuple[Delivery, ...]
    problems: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def fired(self) -> tuple[Transition, ...]:
        """Incidents that began."""
        return tuple(t for t in self.transitions if t.event == "fired")

    @property
    def failed(self) -> tuple[Delivery, ...]:
        """Deliveries that did not reach anybody in this evaluation."""
        return tuple(d for d in self.deliveries if not d.ok)


def evaluate(
    store: TableStore, settings: Settings, *, now: dt.datetime | None = None, env: Mapping[str, str] | None = None
) -> EvaluationReport:
    """Evaluate every enabled rule once and deliver what is due, also what an earlier evaluation could not.

    Parameters
    ----------
    store
        Where ``ml_drift_metrics`` is read and ``ml_alerts`` written.
    now
        The time of the evaluation (UTC); by default the clock's.
    env
        Environment with the secrets that the channels name; by default the process's.

    Raises
    ------
    LakehouseError
        The alert table cannot be read or written. A rule whose own table cannot be read is one of the report's ``problems``.
    WriteConflict
        Other evaluators kept coming first.
    """
    now = now or dt.datetime.now(dt.UTC)
    env = os.environ if env is None else env
    rules = [r for r in settings.alerts.rules if r.enabled]
    for attempt in range(_CLAIM_TRIES):
        ledger = ledgers.read(store)
        problems: dict[str, str] = {}
        said: list[Transition] = []
        for rule in rules:
            try:
                said += _transitions_of(store, ledger, rule, now)
            except LakehouseError as error:
                problems[rule.name] = str(error)
        rows, suppressed = _rows_to_claim(ledger, settings, said, now)
        if not rows:
            break
        try:
            ledgers.claim(store, ledger, rows)
            break
        except WriteConflict:
            if attempt == _CLAIM_TRIES - 1:
                raise
    sent = deliver_pending(store, settings, now=now, env=env)
    return EvaluationReport(now, len(rules), tuple(said), suppressed, sent, problems)


def send_test(
    store: TableStore, settings: Settings, rule_name: str, *, env: Mapping[str, str] | None = None
) -> tuple[Delivery, ...]:
    """Send a marked test of a rule over its channels, once; starts no retraining. Raises ConfigError for an unknown rule."""
    rule = next((r for r in settings.alerts.rules if r.name == rule_name), None)
    if rule is None:
        raise ConfigError(f"no alert rule {rule_name!r}; {nearest(rule_name, [r.name for r in settings.alerts.rules])}")
    now = dt.datetime.now(dt.UTC)
    row = AlertRow(
        alert_id=f"test-{uuid.uuid4().hex[:20]}",
        event_time=now,
        event="test",
        rule=rule.name,
        model_name=rule.model,
        severity=rule.severity,
        threshold=rule.threshold,
        message=f"[TEST] rule {rule.name}: this message is a test; nothing has drifted and nothing will be retrained",
        about="test",
    )
    ledgers.read(store)
    ledgers.record(store, [row])
    return deliver_pending(store, settings, now=now, env=os.environ if env is None else env, only=("test", row.alert_id))


def _transitions_of(store: TableStore, ledger: Ledger, rule: AlertRule, now: dt.datetime) -> list[Transition]:
    known = {model: ledger.standing(rule.name, model) for model in ledger.models(rule.name)}
    wanted = {model: first_bin_wanted(rule, standing, now) for model, standing in known.items()}
    fresh = first_bin_wanted(rule, None, now)
    found = bins_by_model(store, rule, since=min([fresh, *wanted.values()]), now=now)
    out: list[Transition] = []
    for model, bins in found.items():
        since = wanted.get(model, fresh)
        out += transitions(rule, model, [b for b in bins if b.start >= since], known.get(model))
    return out


def _rows_to_claim(
    ledger: Ledger, settings: Settings, said: list[Transition], now: dt.datetime
) -> tuple[list[AlertRow], frozenset[str]]:
    by_name = {r.name: r for r in settings.alerts.rules}
    asking = [r.name for r in settings.alerts.rules if r.retrain]
    rows: list[AlertRow] = []
    suppressed: set[str] = set()
    for index, one in enumerate(said):
        moment = now + index * _TICK
        rule = by_name[one.rule]
        if one.event == "fired" and rule.retrain:
            seen = Ledger((*ledger.rows, *rows), ledger.seq)
            last = seen.last_retrain_asked(one.model, asking)
            until = None if last is None else last + dt.timedelta(days=rule.cooldown)
            if until is not None and moment < until:
                note = f"cool-down until {until:%Y-%m-%d %H:%M} UTC: the last retraining was asked for at {last:%Y-%m-%d %H:%M} UTC"
                rows.append(row_of(one, now=moment, event="suppressed", message=note))
                suppressed.add(one.alert_id)
        rows.append(row_of(one, now=moment, message=headline(one, rule)))
    return rows, frozenset(suppressed)


def headline(one: Transition, rule: AlertRule) -> str:
    """Return the first line of a message."""
    what = one.metric or " / ".join(rule.metrics)
    if one.event == "resolved":
        return f"Resolved: {what} of {one.model} is {one.value:.3g}, back at or below {rule.threshold:.3g}"
    lead = "Drift alert" if one.event == "fired" else f"Drift alert, now {one.severity}"
    return f"{lead}: {what} of {one.model} is {one.value:.3g} > {rule.threshold:.3g} ({rule.window_days}-day window)"
