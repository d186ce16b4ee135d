"""How a retraining ended, told once to the group of the rule that asked for it."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pytest_mlgates.alerts import ledger as ledgers
from pytest_mlgates.alerts.dispatch import Delivery, deliver_pending
from pytest_mlgates.alerts.ledger import AlertRow
from pytest_mlgates.errors import WriteConflict

if TYPE_CHECKING:
    from pytest_mlgates.config import Settings
    from pytest_mlgates.ports import TableStore

_TRIES = 20


def announce(
    store: TableStore,
    settings: Settings,
    *,
    alert_id: str,
    rule: str,
    model: str,
    message: str,
    env: Mapping[str, str] | None = None,
) -> tuple[Delivery, ...]:
    """Write the summary down and deliver it; a second call for the same alert only delivers what is still due.

    Parameters
    ----------
    message
        A headline, then ``Key: value`` lines; values that are addresses become links.

    Raises
    ------
    WriteConflict
        Other writers kept coming first.
    """
    now = dt.datetime.now(dt.UTC)
    for attempt in range(_TRIES):
        ledger = ledgers.read(store)
        if any(r.event == "summary" and r.alert_id == alert_id for r in ledger.rows):
            break
        fired = next((r for r in ledger.rows if r.alert_id == alert_id and r.event == "fired"), None)
        row = AlertRow(
            alert_id=alert_id,
            event_time=now,
            event="summary",
            rule=rule or (fired.rule if fired else ""),
            model_name=model,
            severity=fired.severity if fired else "P3",
            message=message,
            about="summary",
        )
        try:
            ledgers.claim(store, ledger, [row])
            break
        except WriteConflict:
            if attempt == _TRIES - 1:
                raise
    return deliver_pending(store, settings, now=now, env=os.environ if env is None else env, only=("summary", alert_id))


def secret_variables(settings: Settings) -> frozenset[str]:
    """Names of the variables that hold secrets of the channels: what a process that loads models must not have."""
    names = {"MLGATES_WEBHOOK_SECRET"}
    for group in settings.alerts.groups.values():
        for channel in group.channels:
            names |= {channel.url_env, channel.secret_env, channel.password_env}
    return frozenset(names - {""})
