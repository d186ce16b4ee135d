"""The receiver: the application itself, and the real server under attack."""

from __future__ import annotations

import asyncio
import collections
import itertools
import json
import os
import socket
import sys
import time
import urllib.parse

import httpx
import pytest

from pytest_mlgates.alerts import receiver, serve
from pytest_mlgates.alerts.inbox import Inbox, job_key
from pytest_mlgates.alerts.messages import Notice, common_alert_schema
from pytest_mlgates.alerts.receiver import MAX_BODY, Receiver
from pytest_mlgates.alerts.signing import SIGNATURE_HEADER, TIMESTAMP_HEADER, signature, signed_headers
from pytest_mlgates.config import parse_settings
from pytest_mlgates.errors import ConfigError, UsageProblem

from .conftest import MODEL, NOW, SECRET, free_port, make_settings

CLOCK = 1_790_000_000


def notice(alert_id: str = "alert-1", **more) -> Notice:
    given = {
        "about": "fired", "rule": "drift", "model": MODEL, "severity": "P2", "headline": "drift", "fired_at": NOW,
        "value": 0.3, "threshold": 0.2, "metric": "psi_overall", "retrain": "start", "reason": "drift_alert",
    }  # fmt: skip
    return Notice(alert_id=alert_id, **{**given, **more})


def body_of(alert_id: str = "alert-1", **more) -> bytes:
    return json.dumps(common_alert_schema(notice(alert_id, **more))).encode()


class Harness:
    def __init__(self, tmp_path, **settings) -> None:
        self.inbox = Inbox(tmp_path / "q.db")
        self.now = float(CLOCK)
        self.app = Receiver(self.inbox, make_settings(tmp_path, **settings), secret=SECRET, clock=lambda: self.now)

    def send(self, body: bytes, headers: dict[str, str] | None = None, *, method="POST", path="/alerts") -> httpx.Response:
        if headers is None:
            headers = signed_headers(SECRET, int(self.now), body)

        async def go() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://receiver") as client:
                return await client.request(method, path, content=body, headers=headers)

        return asyncio.run(go())


@pytest.fixture
def harness(tmp_path) -> Harness:
    return Harness(tmp_path)


def test_a_signed_alert_is_queued_and_its_status_can_be_asked_for(harness) -> None:
    answer = harness.send(body_of())
    assert answer.status_code == 202
    assert answer.headers["location"] == answer.json()["status_url"] == "/alerts/alert-1"
    status = harness.send(b"", {}, method="GET", path="/alerts/alert-1").json()
    assert (status["state"], status["model"], status["reason"], status["severity"]) == ("queued", MODEL, "drift_alert", "Sev2")


def headers_with(**more: str) -> dict[str, str]:
    good = signed_headers(SECRET, CLOCK, body_of())
    return {k: v for k, v in {**good, **{name.replace("_", "-"): v for name, v in more.items()}}.items() if v}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        headers_with(X_Mlgates_Signature=""),
        headers_with(X_Mlgates_Timestamp=""),
        headers_with(X_Mlgates_Signature=signature("another-secret", CLOCK, body_of())),
        headers_with(X_Mlgates_Signature=signature(SECRET, CLOCK, body_of()).removeprefix("v1=")),
        headers_with(X_Mlgates_Signature=signature(SECRET, CLOCK, body_of()).upper()),
        headers_with(X_Mlgates_Signature="v1=" + "é" * 64),
        headers_with(X_Mlgates_Timestamp=str(CLOCK + 1)),
        headers_with(X_Mlgates_Timestamp=f"0{CLOCK}"),
        headers_with(X_Mlgates_Timestamp=f"{CLOCK}.0"),
        headers_with(X_Mlgates_Timestamp="-1"),
        headers_with(X_Mlgates_Timestamp="١٧٩"),
        headers_with(X_Mlgates_Timestamp="9" * 4000),
        signed_headers(SECRET, CLOCK - 301, body_of()),
        signed_headers(SECRET, CLOCK + 301, body_of()),
    ],
    ids=range(15),
)
def test_unsigned_wrongly_signed_and_stale_are_401_and_change_nothing(harness, headers) -> None:
    encoded = {k: v.encode("utf-8") for k, v in headers.items()}
    assert harness.send(body_of(), encoded).status_code == 401
    assert harness.inbox.jobs() == []


def test_any_changed_byte_of_the_body_is_401(harness) -> None:
    good = body_of()
    headers = signed_headers(SECRET, CLOCK, good)
    for place in range(0, len(good), 37):
        changed = good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :]
        assert harness.send(changed, headers).status_code == 401
    assert harness.inbox.jobs() == []


@pytest.mark.parametrize("late", [-300, 300])
def test_the_window_is_five_minutes_either_way(harness, late) -> None:
    body = body_of()
    assert harness.send(body, signed_headers(SECRET, CLOCK + late, body)).status_code == 202


def test_a_replay_is_409_and_the_same_alert_signed_anew_is_the_same_job(harness) -> None:
    body = body_of()
    headers = signed_headers(SECRET, CLOCK, body)
    assert harness.send(body, headers).status_code == 202
    assert harness.send(body, headers).status_code == 409
    harness.now += 250
    assert harness.send(body, headers).status_code == 409
    again = harness.send(body)
    assert (again.status_code, again.json()["duplicate"]) == (202, True)
    assert len(harness.inbox.jobs()) == 1
    assert harness.inbox.get("alert-1").deliveries == 2


def test_a_replay_is_refused_after_a_restart_and_by_a_second_receiver(tmp_path) -> None:
    first, body = Harness(tmp_path), body_of()
    headers = signed_headers(SECRET, CLOCK, body)
    assert first.send(body, headers).status_code == 202
    assert Harness(tmp_path).send(body, headers).status_code == 409


def test_too_large_is_413_whatever_the_headers_promise(harness) -> None:
    large = b" " * (MAX_BODY + 1)
    assert harness.send(large).status_code == 413
    assert harness.send(body_of(), {"content-length": "99999999"}).status_code == 413
    for promised in ("-1", "9" * 5000, "²".encode("latin-1")):
        assert harness.send(body_of(), {"content-length": promised}).status_code == 413
    asked = []

    async def endless() -> dict:
        asked.append(1)
        return {"type": "http.request", "body": b"x" * 65536, "more_body": True}

    sent = []

    async def take(event) -> None:
        sent.append(event)

    scope = {"type": "http", "method": "POST", "path": "/alerts", "headers": []}
    asyncio.run(harness.app(scope, endless, take))
    assert sent[0]["status"] == 413
    assert len(asked) <= receiver.DRAINED // 65536 + 1


def test_a_body_that_does_not_come_is_408_and_the_connection_is_closed(harness, monkeypatch) -> None:
    monkeypatch.setattr(receiver, "BODY_S", 0.05)
    sent = []

    async def never() -> dict:
        await asyncio.sleep(60)
        return {}

    async def take(event) -> None:
        sent.append(event)

    asyncio.run(harness.app({"type": "http", "method": "POST", "path": "/alerts", "headers": []}, never, take))
    assert sent[0]["status"] == 408
    assert (b"connection", b"close") in sent[0]["headers"]


def test_concept_drift_waits_for_a_person_whatever_the_models_mode(harness) -> None:
    assert harness.send(body_of(reason="concept_alert")).json()["state"] == "waiting"


def azure(**essentials) -> dict:
    """The common alert schema as Azure's documentation shows it for a log alert, without our properties."""
    return {
        "schemaId": "azureMonitorCommonAlertSchema",
        "data": {
            "essentials": {
                "alertId": "/subscriptions/11111111-1111-1111-1111-111111111111/providers/Microsoft.AlertsManagement/alerts/25151fd4",
                "alertRule": "drift", "severity": "Sev2", "signalType": "Log", "monitorCondition": "Fired",
                "monitoringService": "Log Alerts V2", "alertTargetIDs": [], "configurationItems": [], "originAlertId": "x",
                "firedDateTime": "2026-11-20T12:00:00.0000000Z", "description": "", "essentialsVersion": "1.0",
                "alertContextVersion": "1.0", **essentials,
            },
            "alertContext": {
                "properties": {},
                "conditionType": "LogQueryCriteria",
                "condition": {
                    "windowSize": "PT1H",
                    "allOf": [{"dimensions": [{"name": "ModelName", "value": MODEL}], "threshold": "0.2", "metricValue": 0.3}],
                },
            },
        },
    }  # fmt: skip


def broken(change) -> bytes:
    document = azure()
    change(document)
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b"\xff\xfe",
        b'{"schemaId": "azureMonitorCommonAlertSchema"}',
        b"[" * 100_000,
        broken(lambda d: d.update(schemaId="AzureMonitorMetricAlert")),
        broken(lambda d: d["data"]["essentials"].pop("alertId")),
        broken(lambda d: d["data"]["essentials"].update(alertId="")),
        broken(lambda d: d["data"]["essentials"].update(alertId="a" * 513)),
        broken(lambda d: d["data"]["essentials"].update(alertId=7)),
        broken(lambda d: d["data"]["essentials"].update(severity="P1")),
        broken(lambda d: d["data"]["essentials"].update(monitorCondition="Exploded")),
        broken(lambda d: d["data"].update(alertContext=None)),
        broken(lambda d: d["data"].update(alertContext={"condition": {"allOf": "x"}})),
        broken(lambda d: d["data"].update(customProperties={"model_name": "nobody-knows-me"})),
        broken(lambda d: d["data"].update(customProperties={"model_name": "casino-slot-revenue-forecast-\x00"})),
        broken(lambda d: d["data"].update(customProperties={"model_name": "casino-slot-revenue-forecast-" + "a" * 600})),
        broken(lambda d: d["data"].update(customProperties=[1])),
        broken(lambda d: d["data"]["essentials"].update(alertId=" \t ")),
        json.dumps(azure()).replace("25151fd4", "\\ud800").encode(),
    ],
    ids=range(22),
)
def test_signed_but_not_the_common_alert_schema_is_422_and_changes_nothing(harness, body) -> None:
    answer = harness.send(body)
    assert answer.status_code == 422, answer.text
    assert harness.inbox.jobs() == []


@pytest.mark.parametrize("first", [True, False])
def test_a_header_that_stands_there_twice_is_401_whichever_of_them_is_right(harness, first) -> None:
    body = body_of()
    good = signed_headers(SECRET, CLOCK, body)
    for name, other in ((SIGNATURE_HEADER, "v1=" + "0" * 64), (TIMESTAMP_HEADER, str(CLOCK - 9))):
        pair = [(name, good[name]), (name, other)] if first else [(name, other), (name, good[name])]
        rest = [(k, v) for k, v in good.items() if k != name]
        assert harness.send(body, [*rest, *pair]).status_code == 401
    assert harness.inbox.jobs() == []
    assert harness.send(body, good).status_code == 202


def without_a_name(**essentials) -> bytes:
    document = azure(**essentials)
    document["data"]["alertContext"] = None
    return json.dumps(document).encode()


ONE_MODEL = {"task": "regression", "target": "y", "holdout": "lh_gold.h", "retrain": {"command": ["true"]}}


@pytest.mark.parametrize(
    ("models", "rules", "essentials", "found"),
    [
        # what it is on: as our own evaluator says it, among resources of Azure that are no models
        ({"slots": ONE_MODEL, "loans": ONE_MODEL}, [], {"configurationItems": ["law-prod", "loans"]}, "loans"),
        ({"slots": ONE_MODEL, "loans": ONE_MODEL}, [], {"alertTargetIDs": ["/models/slots"]}, "slots"),
        # its rule is of one model
        ({"slots": ONE_MODEL, "loans": ONE_MODEL}, [{"name": "drift", "model": "slots"}], {}, "slots"),
        # there is no other that could be retrained
        ({"slots": ONE_MODEL, "loans": {**ONE_MODEL, "retrain": {}}}, [], {}, "slots"),
        # nothing says which
        ({"slots": ONE_MODEL, "loans": ONE_MODEL}, [{"name": "drift", "model": "*"}], {}, None),
        ({"slots": ONE_MODEL, "loans": ONE_MODEL}, [], {"configurationItems": ["loans", "slots"]}, None),
        ({"*": ONE_MODEL}, [], {"configurationItems": ["law-prod"]}, None),
    ],
    ids=range(7),
)
def test_an_alert_of_azures_own_that_names_no_model_is_of_the_one_that_is_meant(
    tmp_path, models, rules, essentials, found
) -> None:
    settings = parse_settings({"models": models, "alerts": {"rules": rules}}, tmp_path / "mlgates.toml")
    harness = Harness(tmp_path)
    harness.app = Receiver(harness.inbox, settings, secret=SECRET, clock=lambda: harness.now)
    answer = harness.send(without_a_name(**essentials))
    assert answer.status_code == (202 if found else 422), answer.text
    assert [j.model for j in harness.inbox.jobs()] == ([found] if found else [])


def test_azures_own_alert_names_its_model_by_a_dimension_and_keeps_to_the_cool_down_where_the_model_has_one(tmp_path) -> None:
    harness = Harness(tmp_path, retrain={"command": ["true"], "cooldown_days": 7.0})
    first = json.dumps(azure()).encode()
    answer = harness.send(first)
    assert answer.status_code == 202
    assert harness.inbox.get(job_key(azure()["data"]["essentials"]["alertId"])).model == MODEL
    assert harness.send(b"", {}, method="GET", path=answer.json()["status_url"]).status_code == 200
    job = harness.inbox.jobs()[0]
    harness.inbox.change(job.key, when="queued", now=harness.now, state="succeeded", started=harness.now)
    harness.now += 6 * 86_400
    assert harness.send(json.dumps(azure(alertId="second")).encode()).json()["state"] == "suppressed"
    harness.now += 2 * 86_400
    assert harness.send(json.dumps(azure(alertId="third")).encode()).json()["state"] == "queued"


@pytest.mark.parametrize(
    ("more", "state"),
    [
        ({"retrain": "suppressed"}, "suppressed"),
        ({"retrain": "none"}, "noted"),
        ({"about": "test", "retrain": "start"}, "noted"),
    ],
)
def test_an_alert_that_asks_for_no_retraining_starts_none(harness, more, state) -> None:
    assert harness.send(body_of(**more)).json()["state"] == state


def test_a_resolution_is_noted_on_its_alert_and_starts_nothing(harness) -> None:
    harness.send(body_of())
    harness.now += 1
    assert harness.send(body_of(about="resolved")).status_code == 202
    assert harness.inbox.get("alert-1").resolved == 1
    assert len(harness.inbox.jobs()) == 1


def test_a_resolution_that_comes_first_has_a_status_page_and_does_not_swallow_its_alert(harness) -> None:
    early = harness.send(body_of(about="resolved"))
    assert (early.status_code, early.json()["state"]) == (202, "over")
    assert harness.send(b"", {}, method="GET", path=early.json()["status_url"]).json()["resolved"] is True
    harness.now += 1
    late = harness.send(body_of()).json()
    assert (late["state"], late["duplicate"]) == ("queued", False)


def test_alerts_of_one_model_from_somebody_else_queue_up_unless_a_cool_down_is_asked_for(harness) -> None:
    states = []
    for number in range(3):
        states.append(harness.send(json.dumps(azure(alertId=f"a-{number}")).encode()).json()["state"])
        harness.inbox.change(f"a-{number}", when="queued", now=harness.now, state="succeeded", started=harness.now)
    assert states == ["queued"] * 3


@pytest.mark.parametrize(
    "alert_id", [".", "..", "../../etc/passwd", "a\x00b", "<img onerror=1>", "';DROP TABLE jobs;--", "\u202e"]
)
def test_whatever_an_id_is_its_status_page_answers(harness, alert_id) -> None:
    answer = harness.send(json.dumps(azure(alertId=alert_id)).encode())
    assert answer.status_code == 202
    assert harness.send(b"", {}, method="GET", path=answer.json()["status_url"]).status_code == 200


def test_a_manual_model_waits_until_somebody_approves(tmp_path) -> None:
    harness = Harness(tmp_path, retrain={"mode": "manual", "command": ["true"]})
    assert harness.send(body_of()).json()["state"] == "waiting"
    with pytest.raises(UsageProblem, match="did you mean 'alert-1'"):
        harness.inbox.approve("alert-2", actor="me", now=1)
    harness.inbox.approve("alert-1", actor="me", now=1)
    assert harness.inbox.get("alert-1").state == "queued"
    with pytest.raises(UsageProblem, match="is queued, not waiting"):
        harness.inbox.approve("alert-1", actor="me", now=1)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/alerts", 405),
        ("GET", "/", 404),
        ("POST", "/alerts/x", 404),
        ("GET", "/alerts/../../etc", 404),
        ("GET", "/health", 200),
    ],
)
def test_other_pages(harness, method, path, status) -> None:
    assert harness.send(b"", {}, method=method, path=path).status_code == status


def test_no_receiver_without_a_signing_key(tmp_path) -> None:
    with pytest.raises(ConfigError, match="MLGATES_WEBHOOK_SECRET"):
        serve.create_app(make_settings(tmp_path), env={})


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


ONCE = "import os, json; f = open('starts', 'a'); f.write(os.environ['MLGATES_ALERT_ID'] + chr(10)); f.close(); " + (
    "json.dump({'outcome': 'succeeded', 'message': os.environ['MLGATES_TRIGGER_REASON']}, open(os.environ['MLGATES_RETRAIN_RESULT'], 'w'))"
)


def wait_for(inbox: Inbox, *states: str, within: float = 60) -> list:
    until = time.monotonic() + within
    while time.monotonic() < until:
        jobs = inbox.jobs()
        if jobs and all(j.state in states for j in jobs):
            return jobs
        time.sleep(0.05)
    raise AssertionError([(j.alert_id, j.state, j.note) for j in inbox.jobs()])


async def post_at_once(url: str, content: bytes, headers: dict[str, str]) -> int:
    """Send head and body in one write: a busy machine must not come between them for longer than the receiver waits."""
    at = urllib.parse.urlsplit(url)
    reader, writer = await asyncio.open_connection(at.hostname, at.port)
    lines = {"Host": at.netloc, "Content-Length": str(len(content)), "Connection": "close", **headers}
    head = f"POST {at.path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in lines.items()) + "\r\n"
    writer.write(head.encode() + content)
    status = int((await reader.readline()).split()[1])
    writer.close()
    return status


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
