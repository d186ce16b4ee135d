"""Delivery of everything that is written down and not yet delivered: channels side by side, each outcome a row at once."""

from __future__ import annotations

import dataclasses
import datetime as dt
import fnmatch
import queue
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import filelock

from pytest_mlgates.alerts import ledger as ledgers
from pytest_mlgates.alerts.ledger import SAID_EVENTS, AlertRow, Ledger
from pytest_mlgates.alerts.messages import Notice, clean
from pytest_mlgates.alerts.query import LIVE_LOOP_RULE, LOOP_RULE, certainty, drifted_features
from pytest_mlgates.alerts.sinks import Outcome, deliver

if TYPE_CHECKING:
    from pytest_mlgates.config import AlertRule, Channel, Settings
    from pytest_mlgates.ports import TableStore

_LOCK_WAIT_S = 30.0
_KEEP_TRYING = dt.timedelta(days=3)
"""What is older is not sent to a channel that never had it, so a channel added today is not told of last month."""

_ADVICE = {
    "fired": "Look at the features first: a broken feed is mended at its source, a changed world is retrained for.",
    "escalated": "It is getting worse: if a retraining runs, look at its verdict; if none runs, decide now.",
    "resolved": "Nothing to do.",
    "test": "Nothing to do: this is a test.",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Delivery:
    """One notice over one channel."""

    alert_id: str
    about: str
    channel: str
    ok: bool
    detail: str


def deliver_pending(
    store: TableStore,
    settings: Settings,
    *,
    now: dt.datetime,
    env: Mapping[str, str],
    only: tuple[str, str] | None = None,
) -> tuple[Delivery, ...]:
    """Deliver what no channel has confirmed yet; ``only`` one (event, alert id) where given.

    One process at a time does so; another waits for it, and gives up after half a minute: the next evaluation delivers.
    """
    lock = filelock.FileLock(str(settings.folder / (settings.alerts.queue + ".deliver.lock")))
    try:
        with lock.acquire(timeout=_LOCK_WAIT_S):
            return _deliver_pending(store, settings, now, env, only)
    except filelock.Timeout:
        return ()


def _deliver_pending(
    store: TableStore, settings: Settings, now: dt.datetime, env: Mapping[str, str], only: tuple[str, str] | None
) -> tuple[Delivery, ...]:
    ledger = ledgers.read(store)
    todo = _pending(ledger, settings, now, only)
    if not todo:
        return ()
    notices = {r.notice_key: notice_of(store, ledger, settings, r) for rows in todo.values() for _, r in rows}
    results: queue.Queue[tuple[Channel, AlertRow, Outcome] | None] = queue.Queue()

    def work(rows: list[tuple[Channel, AlertRow]]) -> None:
        try:
            for channel, row in rows:
                outcome = _deliver_safely(channel, notices[row.notice_key], env)
                results.put((channel, row, outcome))
                if not outcome.ok and not outcome.permanent:
                    return  # it is down: the rest waits for the next evaluation, in order
        finally:
            results.put(None)

    for rows in todo.values():
        threading.Thread(target=work, args=(rows,), daemon=True).start()
    out: list[Delivery] = []
    running = len(todo)
    while running:
        result = results.get()
        if result is None:
            running -= 1
            continue
        channel, row, outcome = result
        ledgers.record(store, [_outcome_row(ledger, channel, row, outcome)])
        out.append(Delivery(row.alert_id, row.about or row.event, channel.label, outcome.ok, outcome.detail))
    return tuple(out)


def _deliver_safely(channel: Channel, notice: Notice, env: Mapping[str, str]) -> Outcome:
    """Deliver; a fault of ours in one channel is a failed delivery, with a row, and not a thread that vanishes."""
    try:
        return deliver(channel, notice, env=env)
    except Exception as error:  # noqa: BLE001 its text could hold a secret: only its kind is told
        return Outcome(ok=False, detail=f"could not be sent ({type(error).__name__})")


def _pending(
    ledger: Ledger, settings: Settings, now: dt.datetime, only: tuple[str, str] | None
) -> dict[tuple[str, str], list[tuple[Channel, AlertRow]]]:
    """What is due, by (group, channel), oldest first."""
    todo: dict[tuple[str, str], list[tuple[Channel, AlertRow]]] = {}
    for row in ledger.rows:
        if row.event not in SAID_EVENTS or row.event_time < now - _KEEP_TRYING:
            continue
        if (row.event, row.alert_id) != only and (only is not None or row.event == "test"):
            continue  # a test is tried while somebody looks, and never again
        group = _group_of(settings, row)
        if group is None:
            continue
        for channel in settings.alerts.groups[group].channels:
            if row.event == "summary" and channel.kind == "webhook":
                continue  # a machine that starts retrainings is not told how they end
            settled, _ = ledger.deliveries(row.notice_key, channel.label)
            if not settled:
                todo.setdefault((group, channel.label), []).append((channel, row))
    return todo


def _group_of(settings: Settings, row: AlertRow) -> str | None:
    alerts = settings.alerts
    rule = _rule_of(settings, row)
    if rule is None and row.rule.startswith(LOOP_RULE):
        return None  # a closed-loop test tells its own channels, never the people
    name = (alerts.summary_group if row.event == "summary" else "") or (rule.group if rule else "")
    return name if name in alerts.groups else None


def _rule_of(settings: Settings, row: AlertRow) -> AlertRule | None:
    rules = settings.alerts.rules
    found = next((r for r in rules if r.name == row.rule), None)
    if found is None and row.event == "summary" and row.rule.startswith(LIVE_LOOP_RULE):
        # the deployed retraining does not know the rule of the test that started it: the model's own rule stands in
        found = next((r for r in rules if r.enabled and fnmatch.fnmatchcase(row.model_name, r.model)), None)
    return found


def notice_of(store: TableStore, ledger: Ledger, settings: Settings, row: AlertRow) -> Notice:
    """Build the notice of a row, from the tables and settings alone: a later process says the same."""
    rule = _rule_of(settings, row)
    first, *rest = row.message.splitlines() or [""]
    facts = dict(line.split(": ", 1) for line in rest if ": " in line)
    retrain, note = _retraining(ledger, settings, rule, row)
    features: list[dict[str, Any]] = []
    if rule and row.event in ledgers.INCIDENT_EVENTS:
        features = drifted_features(store, rule.table, row.drift_run_id)
        sure = certainty(store, rule.table, row.drift_run_id, row.metric)
        facts |= {"How sure": sure} if sure else {}
    return Notice(
        alert_id=row.alert_id,
        about=row.about or row.event,
        rule=row.rule,
        model=row.model_name,
        severity=row.severity,
        headline=clean(first),
        fired_at=row.event_time,
        value=row.value,
        threshold=row.threshold,
        metric=row.metric,
        run_id=row.drift_run_id,
        window_start=row.window_start,
        window_minutes=rule.bin_minutes if rule else 60,
        reason=f"{rule.reason}_alert" if rule else "",
        retrain=retrain,
        retrain_note=note,
        features=features,
        advice=_ADVICE.get(row.event, ""),
        links={**settings.alerts.links, **{k: v for k, v in facts.items() if v.startswith(("http://", "https://"))}},
        facts={k: v for k, v in facts.items() if not v.startswith(("http://", "https://"))},
    )


def _retraining(ledger: Ledger, settings: Settings, rule: AlertRule | None, row: AlertRow) -> tuple[str, str]:
    if rule is None or not rule.retrain or row.event not in ("fired", "escalated"):
        return "none", ""
    for other in ledger.rows:
        if other.event == "suppressed" and other.alert_id == row.alert_id:
            return "suppressed", f"No retraining: {other.message}"
    if rule.reason == "concept" or _is_manual(settings, row.model_name):
        return "start", f"Retraining waits for approval: mlgates retrain approve {row.alert_id}"
    return "start", "A retraining is asked for; only a version that passes all gates goes to Staging."


def _is_manual(settings: Settings, model: str) -> bool:
    from pytest_mlgates.errors import ConfigError

    try:
        return settings.model(model).retrain.mode == "manual"
    except ConfigError:  # an alert may speak of a model that the settings do not know
        return False


def _outcome_row(ledger: Ledger, channel: Channel, row: AlertRow, outcome: Outcome) -> AlertRow:
    _, failed = ledger.deliveries(row.notice_key, channel.label)
    dead = not outcome.ok and (outcome.permanent or failed + 1 >= channel.rounds)
    event = "delivered" if outcome.ok else ("dead" if dead else "failed")
    return dataclasses.replace(
        row,
        event=event,
        event_time=dt.datetime.now(dt.UTC),
        channel=channel.label,
        message=f"{outcome.detail} ({outcome.tries} tries)" if outcome.tries > 1 else outcome.detail,
        about=row.about or row.event,
    )
