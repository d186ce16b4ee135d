"""What work costs: each run measures its own seconds, bytes and calls, and appends one row to ``lh_gold.ml_cost``.

Money is made of it when a page is written, with the rates of ``[cost]``; so a changed rate changes no row. A row also says
whether the run ended well, which is how a run that left nothing else behind is known.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import logging
import os
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pytest_mlgates.errors import MlgatesError
from pytest_mlgates.tables import COST, SCHEMAS

if TYPE_CHECKING:
    from pytest_mlgates.config import Cost
    from pytest_mlgates.ports import TableStore

SURFACES = ("training", "endpoint", "drift", "batch", "storage")
UNTAGGED = "untagged"
_GB = 1e9
_MONTH_S = 30 * 86_400.0

log = logging.getLogger(__name__)


@dataclasses.dataclass(slots=True)
class Meter:
    """What a run counts of itself while it works; ``seconds`` is filled in at the end where it is left at ``None``."""

    run_id: str
    version: str = ""
    bytes: int = 0
    calls: int = 0
    errors: int = 0
    seconds: float | None = None
    status: str = "ok"


@contextlib.contextmanager
def metered(
    store: TableStore,
    surface: str,
    model: str,
    *,
    cost_center: str = "",
    intent: str = "",
    run_id: str = "",
    env: Mapping[str, str] | None = None,
) -> Iterator[Meter]:
    """Measure the block's wall seconds and append a row; an exception makes its status ``failed`` and goes on.

    Parameters
    ----------
    surface
        One of `SURFACES`.
    cost_center, intent
        Tags; by default ``COST_CENTER`` and ``MLFLOW_RUN_INTENT`` of the environment. Empty stays empty: a page says untagged.
    """
    env = os.environ if env is None else env
    meter = Meter(run_id or f"{surface}-{uuid.uuid4().hex[:12]}")
    begin, mine = time.monotonic(), os.getpid()
    try:
        yield meter
    except BaseException as end:
        if not (isinstance(end, SystemExit) and not end.code):
            meter.status = "failed"
        raise
    finally:
        if os.getpid() == mine:  # a fork that ends inside the block is not the run
            _finish(
                store,
                meter,
                surface,
                model,
                cost_center or env.get("COST_CENTER", ""),
                intent or env.get("MLFLOW_RUN_INTENT", ""),
                begin,
            )


def _finish(store: TableStore, meter: Meter, surface: str, model: str, cost_center: str, intent: str, begin: float) -> None:
    row = {
        "run_id": meter.run_id, "recorded_at": dt.datetime.now(dt.UTC), "surface": surface, "model": model,
        "cost_center": cost_center, "intent": intent, "bytes": meter.bytes, "calls": meter.calls, "errors": meter.errors,
        "seconds": time.monotonic() - begin if meter.seconds is None else meter.seconds, "status": meter.status,
        "version": meter.version,
    }  # fmt: skip
    record(store, [row])


def record(store: TableStore, rows: Iterable[Mapping[str, Any]]) -> None:
    """Append rows; a table that cannot be written is a warning: what was measured is lost, the run is not."""
    import pyarrow as pa

    try:
        store.create(COST, SCHEMAS[COST], append_only=True)
        store.append(COST, pa.Table.from_pylist([dict(r) for r in rows], schema=SCHEMAS[COST]))
    except (MlgatesError, OSError) as error:
        log.warning("the cost of this run was not recorded: %s", error)


def record_storage(store: TableStore, *, cost_center: str = "") -> None:
    """Append one row with the bytes that the tables' present files take."""
    try:
        total = sum(store.size_bytes(table) for table in store.tables())
    except MlgatesError as error:
        log.warning("the size of the tables is not known: %s", error)
        return
    row = {
        "run_id": f"storage-{uuid.uuid4().hex[:12]}", "recorded_at": dt.datetime.now(dt.UTC), "surface": "storage", "model": "",
        "cost_center": cost_center, "intent": "", "seconds": 0.0, "bytes": total, "calls": 0, "errors": 0, "status": "ok", "version": "",
    }  # fmt: skip
    record(store, [row])


def money(rows: Iterable[Mapping[str, Any]], rates: Cost) -> list[dict[str, Any]]:
    """Return each row with its ``amount``, in the currency of the rates.

    Work is seconds x rate per hour. A storage row is the state of the tables at its time: it counts for the time until the next
    one (the newest until the newest row of all).
    """
    known = [dict(r) for r in rows]
    ends = max((r["recorded_at"] for r in known), default=None)
    stored = sorted((r for r in known if r["surface"] == "storage"), key=lambda r: r["recorded_at"])
    for row, after in zip(stored, [*stored[1:], None][: len(stored)], strict=True):
        until = after["recorded_at"] if after is not None else ends
        row["held_s"] = (until - row["recorded_at"]).total_seconds()
        row["amount"] = row["bytes"] / _GB * rates.storage_per_gb_month * row["held_s"] / _MONTH_S
    per_hour = {"training": rates.training_per_hour, "endpoint": rates.endpoint_per_hour, "drift": rates.drift_per_hour}
    for row in known:
        if row["surface"] != "storage":
            row["amount"] = row["seconds"] / 3600 * per_hour.get(row["surface"], rates.batch_per_hour)
    return known
