"""The rows of ``lh_gold.ml_alerts``: what was said, to whom, and what failed. The evaluator has no other memory."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pytest_mlgates import tables
from pytest_mlgates.alerts.rules import Standing, Transition

if TYPE_CHECKING:
    from pytest_mlgates.ports import TableStore

INCIDENT_EVENTS = ("fired", "escalated", "resolved")
SAID_EVENTS = (*INCIDENT_EVENTS, "test", "summary")
_TRANSACTION = "alerts"


@dataclasses.dataclass(frozen=True, slots=True)
class AlertRow:
    """One row of the alert table; see `tables.SCHEMAS` for the words in ``event`` and ``about``."""

    alert_id: str
    event_time: dt.datetime
    event: str
    rule: str
    model_name: str
    severity: str
    value: float | None = None
    threshold: float | None = None
    channel: str = ""
    message: str = ""
    drift_run_id: str = ""
    about: str = ""
    window_start: dt.datetime | None = None
    metric: str = ""

    @property
    def notice_key(self) -> tuple[str, str, str]:
        """Alert, what was said of it, and at which severity: what a channel delivers once."""
        return self.alert_id, self.about or self.event, self.severity


@dataclasses.dataclass(frozen=True, slots=True)
class Ledger:
    """The alert table as it was read; ``seq`` is the number of the last claim."""

    rows: tuple[AlertRow, ...]
    seq: int

    def standing(self, rule: str, model: str) -> Standing | None:
        """What was last said of a rule and a model."""
        found: Standing | None = None
        for row in self.rows:
            if row.rule != rule or row.model_name != model or row.event not in INCIDENT_EVENTS:
                continue
            if row.event == "resolved":
                if found is not None and found.alert_id == row.alert_id:
                    found = dataclasses.replace(found, resolved_at=row.window_start)
            elif row.event == "escalated":
                if found is not None and found.alert_id == row.alert_id:
                    found = dataclasses.replace(found, severity=row.severity)  # type: ignore[arg-type]
            elif row.window_start is not None:
                found = Standing(row.alert_id, row.window_start, row.severity)  # type: ignore[arg-type]
        return found

    def models(self, rule: str) -> set[str]:
        """Models that a rule ever spoke of."""
        return {r.model_name for r in self.rows if r.rule == rule and r.event in INCIDENT_EVENTS}

    def suppressed(self, alert_id: str) -> bool:
        """Whether the retraining of an alert was suppressed by a cool-down."""
        return any(r.event == "suppressed" and r.alert_id == alert_id for r in self.rows)

    def last_retrain_asked(self, model: str, rules: Iterable[str]) -> dt.datetime | None:
        """When an alert of one of these rules last asked for a retraining of the model."""
        wanted = set(rules)
        times = [
            r.event_time
            for r in self.rows
            if r.event == "fired" and r.model_name == model and r.rule in wanted and not self.suppressed(r.alert_id)
        ]
        return max(times, default=None)

    def deliveries(self, key: tuple[str, str, str], channel: str) -> tuple[bool, int]:
        """Whether a notice is settled for a channel (delivered or dead), and how many rounds failed."""
        mine = [r for r in self.rows if r.channel == channel and r.notice_key == key]
        settled = any(r.event in ("delivered", "dead") for r in mine)
        return settled, sum(r.event == "failed" for r in mine)


def read(store: TableStore) -> Ledger:
    """Read the alert table, creating it where it is absent."""
    store.create(tables.ALERTS, tables.SCHEMAS[tables.ALERTS], append_only=True)
    # the number first: a claim that lands between the two reads makes ours fail, and we read again
    seq = store.transaction(tables.ALERTS, _TRANSACTION) or 0
    rows = [_from_plain(r) for r in store.read(tables.ALERTS).to_pylist()]
    rank = {event: i for i, event in enumerate(("fired", "suppressed", "escalated", "resolved"))}
    rows.sort(key=lambda r: (r.event_time, rank.get(r.event, len(rank))))
    return Ledger(tuple(rows), seq)


def claim(store: TableStore, ledger: Ledger, rows: Sequence[AlertRow]) -> None:
    """Append what is to be said, unless another evaluator did so since ``ledger`` was read. Raises WriteConflict."""
    store.append(tables.ALERTS, _to_arrow(rows), transaction=(_TRANSACTION, ledger.seq + 1))


def record(store: TableStore, rows: Sequence[AlertRow]) -> None:
    """Append the outcome of deliveries."""
    if rows:
        store.append(tables.ALERTS, _to_arrow(rows))


def row_of(transition: Transition, *, now: dt.datetime, event: str | None = None, message: str = "") -> AlertRow:
    """Return the row of a transition (or, with ``event``, of something that goes with it)."""
    return AlertRow(
        alert_id=transition.alert_id,
        event_time=now,
        event=event or transition.event,
        rule=transition.rule,
        model_name=transition.model,
        severity=transition.severity,
        value=transition.value,
        threshold=transition.threshold,
        message=message,
        drift_run_id=transition.run_id,
        about=transition.event,
        window_start=transition.window_start,
        metric=transition.metric,
    )


def _from_plain(plain: dict[str, Any]) -> AlertRow:
    texts = ("channel", "message", "drift_run_id", "about", "metric", "rule", "model_name", "severity")
    known = {f.name for f in dataclasses.fields(AlertRow)}
    values: dict[str, Any] = {k: (v or "") if k in texts else v for k, v in plain.items() if k in known}
    return AlertRow(**values)


def _to_arrow(rows: Sequence[AlertRow]) -> pa.Table:
    schema = tables.SCHEMAS[tables.ALERTS]
    return pa.Table.from_pylist([dataclasses.asdict(r) for r in rows], schema=schema)
