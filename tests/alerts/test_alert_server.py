"""The receiver as a real server: under attack, beside a second one, and the retrainings that it starts."""

from __future__ import annotations

import asyncio
import collections
import itertools
import json
import os
import socket
import sys
import time

import httpx
import pytest

from pytest_mlgates.alerts import serve
from pytest_mlgates.alerts.inbox import Inbox
from pytest_mlgates.alerts.receiver import MAX_BODY
from pytest_mlgates.alerts.signing import SIGNATURE_HEADER, TIMESTAMP_HEADER, signed_headers

from .conftest import MODEL, SECRET, free_port
from .posting import ONCE, Harness, body_of, post_at_once, wait_for


def write_settings(tmp_path, command: list[str], **more) -> None:
    lines = [
        '[models."casino-slot-revenue-forecast-*"]', 'task = "regression"', 'target = "revenue"', 'holdout = "lh_gold.h"',
        '[models."casino-slot-revenue-forecast-*".retrain]', f"command = {json.dumps(command)}",
        *(f"{k} = {json.dumps(v)}" for k, v in more.items()),
    ]  # fmt: skip
    (tmp_path / "mlgates.toml").write_text("\n".join(lines) + "\n")


@pytest.fixture
def real_receivers(tmp_path):
    """Start real servers over one project."""
    from pytest_mlgates.config import load_settings

    started = []

    def start(count: int = 1, **env: str) -> list[str]:
        settings = load_settings(tmp_path / "mlgates.toml")
        urls = []
        for _ in range(count):
            port = free_port()
            full = {**os.environ, "MLGATES_WEBHOOK_SECRET": SECRET, **env}
            started.append(serve.start(settings, port=port, log=tmp_path / f"serve-{port}.log", env=full))
            urls.append(f"http://127.0.0.1:{port}")
        return urls

    start.processes = started
    yield start
    for process in started:
        if process.poll() is None:
            process.terminate()
            process.wait(timeout=20)


@pytest.mark.parametrize("at_once", [100, pytest.param(1000, marks=pytest.mark.prove)])
def test_two_real_receivers_under_a_thousand_duplicates_and_an_attack_start_one_retraining(
    tmp_path, real_receivers, at_once
) -> None:
    """All duplicates at once: 1,000 at full size, 100 by default."""
    write_settings(tmp_path, [sys.executable, "-c", ONCE])
    urls = real_receivers(2)
    body, now = body_of(), int(time.time())

    def variants():
        times = at_once // 5
        for i in range(at_once):  # every delivery five times, over so many times of signing
            yield body, signed_headers(SECRET, now + i % times - times // 2, body)
        for i in range(50):
            yield body, {}
            yield body, {TIMESTAMP_HEADER: str(now), SIGNATURE_HEADER: "v1=" + f"{i:064x}"}
            yield body, signed_headers(SECRET, now - 10_000 + i, body)
            yield b"{" * (i + 1), signed_headers(SECRET, now, b"{" * (i + 1))
        yield b"x" * (MAX_BODY + 1), {}

    async def attack() -> list[int]:
        limit = asyncio.Semaphore(at_once)

        async def one(i: int, content: bytes, headers: dict[str, str]) -> int:
            async with limit:
                return await post_at_once(f"{urls[i % 2]}/alerts", content, headers)

        return await asyncio.gather(*(one(i, *v) for i, v in enumerate(variants())))

    statuses = collections.Counter(asyncio.run(attack()))
    assert statuses == {202: at_once // 5, 409: at_once * 4 // 5, 401: 150, 422: 50, 413: 1}
    jobs = wait_for(Inbox(tmp_path / "mlgates-alerts.db"), "succeeded")
    assert [(j.alert_id, j.deliveries, j.attempts, j.note) for j in jobs] == [("alert-1", at_once // 5, 1, "drift_alert")]
    assert (tmp_path / "starts").read_text() == "alert-1\n"
    assert all(p.poll() is None for p in real_receivers.processes)
    written = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    assert SECRET.encode() not in written
    assert b"Traceback" not in written


def test_silent_connections_and_other_protocols_do_not_keep_an_alert_out(tmp_path, real_receivers, monkeypatch) -> None:
    """300 connections that say nothing, one that drips, a WebSocket, garbage: an alert beside them gets its 202."""
    write_settings(tmp_path, [sys.executable, "-c", ONCE])
    url = real_receivers()[0]
    host, port = url.removeprefix("http://").split(":")
    crowd = [socket.create_connection((host, int(port)), 10) for _ in range(300)]
    crowd[0].sendall(b"POST /alerts HTTP/1.1\r\nHost:")
    answers = []
    for opening in (
        b"GET /alerts HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        b"\x16\x03\x01garbage\r\n\r\n",
        b"POST /alerts HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ):
        with socket.create_connection((host, int(port)), 10) as one:
            one.sendall(opening)
            answers.append(int(one.recv(4096).split()[1]))
    assert answers == [405, 400, 400]
    body = body_of()
    assert httpx.post(f"{url}/alerts", content=body, headers=signed_headers(SECRET, int(time.time()), body)).status_code == 202
    for one in crowd:
        one.close()
    assert real_receivers.processes[0].poll() is None
    assert b"Traceback" not in b"".join(p.read_bytes() for p in tmp_path.glob("serve-*.log"))


def test_a_connection_that_begins_no_request_is_closed(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(serve, "_SILENT_S", 0.1)
    protocol = serve._protocol()

    async def go() -> list[bytes]:
        import uvicorn

        config = uvicorn.Config(Harness(tmp_path).app, http=protocol, lifespan="off", log_config=None)
        config.load()
        state = uvicorn.server.ServerState()
        server = await asyncio.get_running_loop().create_server(
            lambda: protocol(config=config, server_state=state, app_state={}), "127.0.0.1", 0
        )
        port = server.sockets[0].getsockname()[1]
        found = []
        for words in (b"", b"GET /hea", b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(words)
            found.append(await asyncio.wait_for(reader.read(), 10))  # to the end: the server closes it
            writer.close()
        server.close()
        return found

    silent, dripping, asked = asyncio.run(go())
    assert (silent, dripping) == (b"", b"")
    assert asked.startswith(b"HTTP/1.1 200")


def test_the_retraining_gets_its_reason_and_not_the_signing_key(tmp_path, real_receivers) -> None:
    show = "import os; print({k: v for k, v in os.environ.items() if 'MLGATES' in k or k == 'MODEL_NAME'})"
    write_settings(tmp_path, [sys.executable, "-c", show])
    url = real_receivers()[0]
    body = body_of()
    httpx.post(f"{url}/alerts", content=body, headers=signed_headers(SECRET, int(time.time()), body))
    wait_for(Inbox(tmp_path / "mlgates-alerts.db"), "succeeded")
    log = (tmp_path / "mlgates-alerts.db.runs" / "alert-1.log").read_text()
    assert "'MLGATES_TRIGGER_REASON': 'drift_alert'" in log
    assert f"'MODEL_NAME': '{MODEL}'" in log
    assert SECRET not in log


def test_one_retraining_at_a_time_per_model_and_other_models_beside_it(tmp_path, real_receivers) -> None:
    spans = (
        "import os, time; a = time.time(); time.sleep(0.6); "
        "open('spans', 'a').write(f\"{os.environ['MODEL_NAME']} {a} {time.time()}\\n\")"
    )
    write_settings(tmp_path, [sys.executable, "-c", spans])
    urls = real_receivers(2)
    other = "casino-slot-revenue-forecast-other"
    for i, model in enumerate([MODEL, other, MODEL, MODEL]):
        body = body_of(f"alert-{i}", model=model)
        sent = httpx.post(f"{urls[i % 2]}/alerts", content=body, headers=signed_headers(SECRET, int(time.time()), body))
        assert sent.status_code == 202
    wait_for(Inbox(tmp_path / "mlgates-alerts.db"), "succeeded")
    rows = [line.split() for line in (tmp_path / "spans").read_text().splitlines()]
    mine = sorted((float(a), float(b)) for name, a, b in rows if name == MODEL)
    assert len(mine) == 3
    assert all(first[1] <= second[0] for first, second in itertools.pairwise(mine))
    began = min(float(a) for name, a, _ in rows if name == other)
    assert began < mine[1][1]


@pytest.mark.parametrize(
    ("command", "settings", "state", "starts", "note"),
    [
        ("import sys; sys.exit(3)", {"attempts": 2}, "failed", 2, "ended with 3, 2 times"),
        ("import time; time.sleep(60)", {"timeout_s": 1.0}, "failed", 1, "stopped after 1 s"),
        ("import os; os.kill(os.getpid(), 9) if os.path.getsize('starts') < 10 else 0", {}, "succeeded", 2, ""),
    ],
)
def test_a_command_that_fails_hangs_or_crashes_once(tmp_path, real_receivers, command, settings, state, starts, note) -> None:
    write_settings(
        tmp_path,
        [sys.executable, "-c", "f = open('starts', 'a'); f.write('alert-1' + chr(10)); f.close(); " + command],
        **settings,
    )
    url = real_receivers()[0]
    body = body_of()
    httpx.post(f"{url}/alerts", content=body, headers=signed_headers(SECRET, int(time.time()), body))
    job = wait_for(Inbox(tmp_path / "mlgates-alerts.db"), "succeeded", "failed")[0]
    assert (job.state, job.attempts) == (state, starts)
    assert note in job.note
    assert (tmp_path / "starts").read_text().count("alert-1") == starts
