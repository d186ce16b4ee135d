"""The prediction log: nothing lost, nothing twice, personal data hashed, a full queue counted."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import statistics
import time
from io import FileIO
from urllib.parse import urlsplit

import httpx
import pytest

from pytest_mlgates.endpoint import server
from pytest_mlgates.endpoint.metrics import Metrics
from pytest_mlgates.endpoint.predictionlog import PredictionLog
from pytest_mlgates.errors import EndpointError
from pytest_mlgates.lakehouse import Lakehouse
from pytest_mlgates.services import load_drive
from pytest_mlgates.tables import PREDICTION_LOG, SCHEMAS
from tests.endpoint.conftest import FULL
from tests.endpoint.serving_project import NUMERIC, TUTORIAL_ROW

BODY = json.dumps({"input_data": {"columns": NUMERIC, "data": [list(TUTORIAL_ROW.values())]}})


def record(i: int, value: object = 1.5):
    return (f"id-{i}", time.time(), "m", "1", ["name", "x"], [["Ada", value]], [float(i)], 0.5)


def logged(folder):
    return Lakehouse(folder / "lakehouse").read(PREDICTION_LOG).to_pylist()


def make(folder, **options) -> PredictionLog:
    return PredictionLog(Lakehouse(folder / "lakehouse"), folder / "spool", Metrics(), **options)


def test_everything_that_was_put_is_in_the_table_after_a_stop(tmp_path):
    log = make(tmp_path)
    log.start()
    for i in range(2000):
        log.put(record(i))
    log.stop()
    found = logged(tmp_path)
    assert sorted(row["request_id"] for row in found) == sorted(f"id-{i}" for i in range(2000))
    assert json.loads(found[0]["inputs"]) == {"name": "Ada", "x": 1.5}


def test_two_workers_write_side_by_side(tmp_path):
    logs = [make(tmp_path, ship_every_s=0.1) for _ in range(2)]
    for log in logs:
        log.start()
    for i in range(200):
        logs[i % 2].put(record(i))
        time.sleep(0.003)
    for log in logs:
        log.stop()
    assert len(logged(tmp_path)) == 200


def test_what_a_killed_worker_left_is_shipped_once_by_its_successor(tmp_path):
    """The segment was appended, but the worker died before it was removed: the number in the table's log keeps it from a second time."""
    first = make(tmp_path)
    first.start()
    first.put(record(1))
    first.stop()
    spool = tmp_path / "spool"
    line = json.dumps(["id-2", int(time.time() * 1e6), "m", "1", "{}", 2.0, 0.5])
    (spool / "0-1.jsonl").write_text(line + "\n")  # its number is in the table already
    (spool / "0-2.jsonl").write_text(line.replace("id-2", "id-3") + "\n" + line[:20])  # not yet; the last line is torn
    second = make(tmp_path)
    second.start()
    second.put(record(4))
    second.stop()
    assert sorted(row["request_id"] for row in logged(tmp_path)) == ["id-1", "id-3", "id-4"]
    assert not list(spool.glob("*.jsonl"))


def test_a_table_that_cannot_be_written_keeps_the_segment_for_later(tmp_path, monkeypatch):
    log = make(tmp_path, ship_every_s=0.1)
    log.start()
    monkeypatch.setattr(log._store, "append", lambda *a, **k: (_ for _ in ()).throw(EndpointError("away")))
    log.put(record(1))
    time.sleep(0.8)
    assert list((tmp_path / "spool").glob("*.jsonl"))
    monkeypatch.undo()
    log.stop()
    assert len(logged(tmp_path)) == 1


def test_answers_that_are_no_number_are_logged_whole(tmp_path):
    log = make(tmp_path)
    log.start()
    for i, answer in enumerate([[0.25, 0.75], "high", 2.5, True]):
        log.put((f"id-{i}", time.time(), "m", "1", ["x"], [[1.0]], [answer], 0.5))
    log.stop()
    found = {row["request_id"]: (row["prediction"], row["answer"]) for row in logged(tmp_path)}
    assert found == {"id-0": (None, "[0.25,0.75]"), "id-1": (None, '"high"'), "id-2": (2.5, None), "id-3": (1.0, None)}


def test_a_table_without_that_column_takes_numbers_as_before(tmp_path):
    schema = SCHEMAS[PREDICTION_LOG]
    Lakehouse(tmp_path / "lakehouse").create(PREDICTION_LOG, schema.remove(schema.get_field_index("answer")))
    log = make(tmp_path)
    log.start()
    log.put(record(1))
    log.stop()
    assert [row["prediction"] for row in logged(tmp_path)] == [1.0]


def test_a_full_disk_loses_nothing_and_writes_nothing_twice(tmp_path, monkeypatch):
    """The third write goes half through, then fails; what was written of it is taken back, and the records wait."""
    log = make(tmp_path, ship_every_s=0.5)

    class Full(FileIO):
        writes = 0

        def write(self, data):
            Full.writes += 1
            if Full.writes == 3:
                super().write(bytes(data)[:50])
                raise OSError(28, "No space left on device")
            return super().write(data)

    monkeypatch.setattr(log, "_open", lambda path: Full(path, "ab"))  # as the log's own thread opens it
    log.start()
    deadline = time.monotonic() + 60
    sent = 0
    while Full.writes < 5:
        assert time.monotonic() < deadline, Full.writes
        log.put(record(sent))
        sent += 1
        time.sleep(0.02)
    log.stop()
    assert sorted(row["request_id"] for row in logged(tmp_path)) == sorted(f"id-{i}" for i in range(sent))


def test_a_full_queue_drops_and_counts(tmp_path):
    log = make(tmp_path, max_queue=10)
    for i in range(15):
        log.put(record(i))
    assert (log._metrics.total("log_accepted"), log._metrics.total("log_dropped")) == (10, 5)


def test_personal_data_is_hashed_with_the_salt(tmp_path):
    with pytest.raises(EndpointError, match="MLGATES_LOG_SALT"):
        make(tmp_path, hash_columns=["name"])
    log = make(tmp_path, hash_columns=["name"], salt="pepper")
    log.start()
    log.put(record(1))
    log.put(record(2))
    log.stop()
    names = {json.loads(row["inputs"])["name"] for row in logged(tmp_path)}
    assert len(names) == 1
    assert names.pop().startswith("sha256:")
    assert b"Ada" not in b"".join(p.read_bytes() for p in (tmp_path / "lakehouse").rglob("*.parquet"))


def test_count_in_is_count_out_under_load(settings, tmp_path):
    rate, seconds = (500, 60) if FULL else (150, 6)
    load = load_drive.Load(n=rate * seconds, rate_per_s=float(rate), warmup=8, concurrency=8)
    lakehouse = Lakehouse(settings.parent / "lakehouse")

    def rows_of_load():  # the project is shared: other load tests of this process have written too
        if not lakehouse.exists(PREDICTION_LOG):
            return 0
        return lakehouse.read(PREDICTION_LOG, where="request_id LIKE 'load-%'").num_rows

    before = rows_of_load()
    with server.start(settings, model="ridge", stage="1", state=tmp_path) as running:
        samples, _ = load_drive.drive(running.uri, [BODY], load)
        metrics = httpx.get(f"{running.base}/metrics").text
    assert not any(samples.kinds)
    found = rows_of_load() - before
    print(f"\n{rate * seconds + 8} requests in, {found} rows out")
    assert (count(metrics, "log_accepted"), count(metrics, "log_dropped")) == (rate * seconds + 8, 0)
    assert found == rate * seconds + 8


@pytest.mark.prove
def test_the_log_costs_the_median_answer_less_than_5_percent(settings, tmp_path):
    """500 requests a second to each of four servers of one worker, turn by turn: whatever else runs hits all alike.

    With a log, without, without, with: the server that starts first was up to 15 % slower than the next, log or no log.
    """
    rng = random.Random(0)
    kinds = [True, False, False, True]
    took: dict[bool, list[float]] = {True: [], False: []}
    with contextlib.ExitStack() as stack:
        servers = [
            stack.enter_context(
                server.start(settings, model="ridge", stage="1", state=tmp_path / str(i), log_predictions=logging, workers=1)
            )
            for i, logging in enumerate(kinds)
        ]
        connections = []  # made once all servers are up: one that sends nothing is closed after 10 s
        for running in servers:
            address = (urlsplit(running.uri).hostname, urlsplit(running.uri).port)
            connections.append([stack.enter_context(socket.create_connection(address, timeout=10)) for _ in range(8)])
        request = b"POST /score HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%s" % (len(BODY), BODY.encode())
        begun = time.perf_counter()
        for i in range(20_000):
            time.sleep(max(begun + i / 500 - time.perf_counter(), 0))
            for which in rng.sample(range(4), 4):
                connection = connections[which][i % 8]
                start = time.perf_counter()
                connection.sendall(request)
                answer = connection.recv(65_536)
                took[kinds[which]].append(time.perf_counter() - start)
                assert answer.startswith(b"HTTP/1.1 200")
    p50 = {logging: statistics.median(seconds[1000:]) * 1e3 for logging, seconds in took.items()}
    print(f"\np50 with the log {p50[True]:.4f} ms, without {p50[False]:.4f} ms: {p50[True] / p50[False] - 1:+.1%}")
    assert p50[True] < 1.05 * p50[False]


def count(metrics: str, name: str) -> int:
    return int(next(line.split()[-1] for line in metrics.splitlines() if line.startswith(f"mlgates_endpoint_{name}_total{{")))
