"""The prediction log: every prediction into ``lh_gold.ml_prediction_log``, off the request path.

A request only appends a tuple to a bounded queue. A thread of the worker writes the queue to a spool segment four times a second, and
every few seconds closes the segment and appends it to the table. The append carries the segment's number as a Delta application
transaction, so a segment that was being shipped when the worker died is shipped once, not twice and not never: whoever owns
the slot next begins with the segments that its predecessor left. What can be lost is a quarter of a second of a killed
worker, and what a full queue refused, which is counted.
"""

from __future__ import annotations

import datetime as dt
import fcntl
import hashlib
import hmac
import logging
import random
import secrets
import threading
import time
from collections import deque
from collections.abc import Sequence
from io import FileIO
from pathlib import Path
from typing import IO, Any

import msgspec
import pyarrow as pa

from pytest_mlgates.endpoint.metrics import Metrics
from pytest_mlgates.errors import EndpointError, MlgatesError, WriteConflict
from pytest_mlgates.ports import TableStore
from pytest_mlgates.tables import PREDICTION_LOG, SCHEMAS

log = logging.getLogger("pytest_mlgates.endpoint")

SPOOL_EVERY_S = 0.25
MAX_SLOTS = 64
_FIELDS = 8

# request id, time (s), model, version, columns, one list of values per row, predictions, latency (ms)
Record = tuple[str, float, str, str, Sequence[str], list[list[Any]], list[Any], float]


class PredictionLog:
    """The log of one worker.

    Parameters
    ----------
    store
        Where the table is.
    spool
        Folder for segments, shared by the workers of one endpoint; each takes a slot of its own in it.
    metrics
        ``log_accepted``, ``log_written`` and ``log_dropped`` are counted here, in rows.
    ship_every_s
        Seconds between two appends to the table.
    max_queue
        Requests that may wait; more are dropped and counted.
    hash_columns
        Columns with personal data: their values are replaced by ``sha256:`` of salt and value before they are written.
    salt
        Salt for them.
    """

    def __init__(
        self,
        store: TableStore,
        spool: Path,
        metrics: Metrics,
        *,
        ship_every_s: float = 5.0,
        max_queue: int = 20_000,
        hash_columns: Sequence[str] = (),
        salt: str = "",
    ) -> None:
        if hash_columns and not salt:
            message = "columns are marked as personal data but there is no salt to hash them with; set MLGATES_LOG_SALT"
            raise EndpointError(message)
        self._store = store
        self._spool = spool
        self._metrics = metrics
        self._ship_every_s = ship_every_s
        self._max_queue = max_queue
        self._hashed = frozenset(hash_columns)
        self._salt = salt.encode()
        self._queue: deque[Record] = deque()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock: IO[str] | None = None
        self._slot = -1
        self._seq = 0
        self._segment: FileIO | None = None

    def start(self) -> None:
        """Take a slot and begin writing."""
        self._spool.mkdir(parents=True, exist_ok=True)
        self._store.create(PREDICTION_LOG, SCHEMAS[PREDICTION_LOG])
        self._take_slot()
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)
        self._thread.start()

    def put(self, record: Record) -> None:
        """Queue one request; never waits."""
        rows = len(record[5])
        if len(self._queue) >= self._max_queue:
            self._metrics.add("log_dropped", rows)
            return
        self._queue.append(record)
        self._metrics.add("log_accepted", rows)

    def stop(self) -> None:
        """Write and ship everything that is queued, then end."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=30)
        if self._lock is not None:
            self._lock.close()

    def _take_slot(self) -> None:
        for slot in range(MAX_SLOTS):
            lock = (self._spool / f"slot-{slot}.lock").open("a")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.close()
                continue
            self._lock, self._slot = lock, slot
            break
        else:
            raise EndpointError(f"all {MAX_SLOTS} slots of the prediction log's spool at {self._spool} are taken")
        self._name = f"mlgates-predictions/{self._identity()}/{self._slot}"
        last = self._store.transaction(PREDICTION_LOG, self._name) or 0
        self._seq = max([last, *(int(p.stem.split("-")[1]) for p in self._left_behind())]) + 1

    def _identity(self) -> str:
        """Name of this spool, so that two endpoints never share a transaction."""
        path = self._spool / "identity"
        try:
            with path.open("x") as file:
                file.write(secrets.token_hex(8))
        except FileExistsError:
            pass
        for _ in range(50):
            if text := path.read_text():
                return text
            time.sleep(0.02)
        raise EndpointError(f"{path} is empty; remove the folder {self._spool}")

    def _left_behind(self) -> list[Path]:
        return sorted(self._spool.glob(f"{self._slot}-*.jsonl"), key=lambda p: int(p.stem.split("-")[1]))

    def _run(self) -> None:
        next_ship = time.monotonic() + random.uniform(0, self._ship_every_s)
        self._ship_all()
        while not self._stop.wait(SPOOL_EVERY_S):
            self._drain()
            if time.monotonic() >= next_ship:
                self._close_segment()
                self._ship_all()
                next_ship = time.monotonic() + self._ship_every_s
        self._drain()
        self._close_segment()
        self._ship_all()

    def _drain(self) -> None:
        records = [self._queue.popleft() for _ in range(len(self._queue))]
        if not records:
            return
        size = 0
        try:
            if self._segment is None:
                self._segment = self._open(self._spool / f"{self._slot}-{self._seq}.jsonl")
            size = self._segment.tell()
            rest = memoryview(b"".join(line + b"\n" for record in records for line in self._lines(record)))
            while rest:
                rest = rest[self._segment.write(rest) :]
        except OSError as error:  # a full disk: what was half written is taken back, the records wait for room
            log.warning("prediction log: not spooled yet: %s", error)
            self._queue.extendleft(reversed(records))
            if self._segment is not None:
                self._segment.truncate(size)

    @staticmethod
    def _open(path: Path) -> FileIO:
        return path.open("ab", buffering=0)

    def _lines(self, record: Record) -> list[bytes]:
        request_id, when, model, version, columns, values, predictions, latency_ms = record
        out = []
        for row, prediction in zip(values, predictions, strict=True):
            inputs = dict(zip(columns, row, strict=True))
            for name in self._hashed & inputs.keys():
                inputs[name] = self._hash(inputs[name])
            number = float(prediction) if isinstance(prediction, (int, float)) else None
            answer = None if number is not None else msgspec.json.encode(prediction).decode()
            text = msgspec.json.encode(inputs).decode()
            out.append(msgspec.json.encode((request_id, int(when * 1e6), model, version, text, number, latency_ms, answer)))
        return out

    def _hash(self, value: Any) -> str | None:
        if value is None:
            return None
        return "sha256:" + hmac.new(self._salt, str(value).encode(), hashlib.sha256).hexdigest()

    def _close_segment(self) -> None:
        if self._segment is not None:
            self._segment.close()
            self._segment = None
            self._seq += 1

    def _ship_all(self) -> None:
        for path in self._left_behind():
            if self._segment is not None and path.name == Path(self._segment.name).name:
                continue
            try:
                self._ship(path)
            except (MlgatesError, OSError) as error:  # the segment stays and is tried again
                log.warning("prediction log: %s not shipped yet: %s", path.name, error)
                return

    def _ship(self, path: Path) -> None:
        rows = []
        for line in path.read_bytes().splitlines():
            try:
                rows.append([*msgspec.json.decode(line), None][:_FIELDS])
            except msgspec.DecodeError:  # the last line of a killed worker may be half a line
                log.warning("prediction log: a torn line in %s was left out", path.name)
        seq = int(path.stem.split("-")[1])
        table = _table(rows)
        for attempt in range(100):
            if (self._store.transaction(PREDICTION_LOG, self._name) or 0) >= seq:
                break
            try:
                self._store.append(PREDICTION_LOG, table, transaction=(self._name, seq))
            except WriteConflict:  # another worker's append came between
                time.sleep(random.uniform(0.005, 0.02) * (1 + attempt))
                continue
            self._metrics.add("log_written", table.num_rows)
            break
        else:
            raise WriteConflict(f"{PREDICTION_LOG}: other writers came first 100 times")
        path.unlink()


def _table(rows: list[list[Any]]) -> pa.Table:
    schema = SCHEMAS[PREDICTION_LOG]
    if not any(row[-1] for row in rows):  # numbers only: a table that was made before it had `answer` takes them too
        schema, rows = schema.remove(schema.get_field_index("answer")), [row[:-1] for row in rows]
    columns: list[tuple[Any, ...]] = list(zip(*rows, strict=True)) if rows else [()] * len(schema)
    columns[1] = tuple(dt.datetime.fromtimestamp(us / 1e6, dt.UTC) for us in columns[1])
    return pa.table(
        {field.name: pa.array(column, field.type) for field, column in zip(schema, columns, strict=True)}, schema=schema
    )
