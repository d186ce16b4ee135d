"""Malformed requests and idle half-requests do not hurt the server."""

from __future__ import annotations

import contextlib
import json
import random
import re
import socket
import subprocess
import sys
import time
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.endpoint.conftest import FULL
from tests.endpoint.serving_project import NUMERIC, TUTORIAL_ROW

REQUESTS = 10_000 if FULL else 600
LORIS = 1000 if FULL else 200
EXAMPLES = 5000 if FULL else 25

GOOD = {"input_data": {"columns": NUMERIC, "data": [list(TUTORIAL_ROW.values())]}}
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=12), inner, max_size=5),
    max_leaves=12,
)
rows_of_anything = st.fixed_dictionaries(
    {
        "input_data": st.fixed_dictionaries(
            {
                "columns": st.just(NUMERIC) | st.lists(st.text(max_size=8), max_size=6),
                "data": st.lists(st.lists(anything, max_size=6), max_size=3),
            }
        )
    }
)
fabric_of_anything = st.fixed_dictionaries({"inputs": anything}, optional={"formatType": anything, "orientation": anything})
bodies = st.one_of(
    st.binary(max_size=200),
    st.one_of(anything, rows_of_anything, fabric_of_anything).map(lambda v: json.dumps(v).encode()),
    st.tuples(st.integers(0, 150), st.binary(max_size=4)).map(lambda t: json.dumps(GOOD).encode()[: t[0]] + t[1]),
)
headers = st.dictionaries(
    st.sampled_from(["x-request-id", "content-type", "authorization", "accept"]),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40),
)


def workers_of(pid: int) -> set[int]:
    """The worker processes. They have children of their own that come and go: one compares with MLflow after the start."""
    return {c.pid for c in psutil.Process(pid).children()}


def memory_mb(*pids: int) -> float:
    return sum(psutil.Process(pid).memory_full_info().uss for pid in pids) / 1e6


@pytest.mark.slow
def test_malformed_requests_are_never_a_500_nor_a_leak(ridge):
    session = httpx.Client()
    pids = workers_of(ridge.pid)
    statuses = {}

    @hypothesis_settings(max_examples=REQUESTS, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(body=bodies, extra=headers)
    def send(body, extra):
        answer = session.post(ridge.uri, content=body, headers=extra)
        statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
        assert answer.status_code in (200, 400, 413, 422)
        assert answer.headers["x-request-id"]
        if answer.status_code != 200:
            assert answer.json()["message"]

    for _ in range(200):
        session.post(ridge.uri, json=GOOD)
    time.sleep(6)  # the prediction log's first append loads its libraries
    before = memory_mb(ridge.pid, *pids)
    send()
    grown = memory_mb(ridge.pid, *pids) - before
    print(f"\n{sum(statuses.values())} requests: {statuses}; memory grew by {grown:.1f} MB")
    assert workers_of(ridge.pid) == pids  # nobody died
    assert grown < 50


def test_schemathesis_finds_nothing_in_the_servers_own_openapi(ridge, tmp_path):
    """Every check but one: what fits the signature may still be refused by the model itself (here: missing values), with a 422."""
    pids = workers_of(ridge.pid)
    httpx.post(ridge.uri, json=GOOD)
    before = memory_mb(ridge.pid, *pids)
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{ridge.base}/openapi.json", "--max-examples", str(EXAMPLES)]
    command += ["--checks", "all", "--exclude-checks", "positive_data_acceptance", "--continue-on-failure", "--seed", "20261"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=1800, check=False)
    grown = memory_mb(ridge.pid, *pids) - before
    sent = re.search(r"([\d,]+) generated", done.stdout)
    print(f"\n{sent and sent[0]}; memory grew by {grown:.1f} MB")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    assert int(sent[1].replace(",", "")) > EXAMPLES
    assert workers_of(ridge.pid) == pids
    assert grown < 50


def test_broken_http_does_not_reach_the_application(ridge):
    parts = urlsplit(ridge.uri)
    rng = random.Random(0)
    for junk in (b"\r\n\r\n", b"GET\r\n\r\n", b"POST /score HTTP/1.1\r\ncontent-length: -1\r\n\r\n", b"\x16\x03\x01" + rng.randbytes(200),
                 b"POST /score HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
                 b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n"):  # fmt: skip
        with socket.create_connection((parts.hostname, parts.port), timeout=15) as connection:
            connection.sendall(junk)
            with contextlib.suppress(TimeoutError, ConnectionResetError):
                connection.settimeout(1)
                assert not connection.recv(100).startswith(b"HTTP/1.1 500")
    assert httpx.get(f"{ridge.base}/health").status_code == 200


def test_an_offer_to_upgrade_is_passed_over_and_the_request_answered(ridge):
    """Java's client makes it with its first request, with a body or without."""
    parts = urlsplit(ridge.uri)
    content = json.dumps(GOOD).encode()
    offer = b"connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n"
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as connection:
        for _ in range(2):  # and the connection goes on
            connection.sendall(
                b"POST /score HTTP/1.1\r\nhost: x\r\n%scontent-length: %d\r\n\r\n%s" % (offer, len(content), content)
            )
            answer = connection.recv(65_536)
            assert answer.startswith(b"HTTP/1.1 200")
            assert b'"predictions"' in answer


def test_slow_loris_connections_leave_the_others_alone_and_are_closed(ridge):
    parts = urlsplit(ridge.uri)
    opened = []
    try:
        for _ in range(LORIS):
            connection = socket.create_connection((parts.hostname, parts.port), timeout=10)
            connection.sendall(b"POST /score HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
            opened.append(connection)
        waits = []
        for _ in range(20):
            start = time.monotonic()
            assert httpx.get(f"{ridge.base}/health", timeout=5).status_code == 200
            waits.append(time.monotonic() - start)
        print(f"\n{LORIS} half-requests open: /health took at most {max(waits) * 1e3:.0f} ms")
        assert max(waits) < 2
        deadline = time.monotonic() + 15
        left = list(opened)
        while left and time.monotonic() < deadline:
            time.sleep(0.5)
            left = [c for c in left if not _closed(c)]
        assert not left
    finally:
        for connection in opened:
            connection.close()


def _closed(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return not connection.recv(4096) or _closed(connection)
    except BlockingIOError:
        return False
    except OSError:
        return True
