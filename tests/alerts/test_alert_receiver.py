"""The receiver's application: what it takes, what it refuses, what it answers."""

from __future__ import annotations

import asyncio
import json

import pytest

from pytest_mlgates.alerts import receiver, serve
from pytest_mlgates.alerts.inbox import job_key
from pytest_mlgates.alerts.receiver import MAX_BODY, Receiver
from pytest_mlgates.alerts.signing import SIGNATURE_HEADER, TIMESTAMP_HEADER, signature, signed_headers
from pytest_mlgates.config import parse_settings
from pytest_mlgates.errors import ConfigError, UsageProblem

from .conftest import MODEL, SECRET, make_settings
from .posting import CLOCK, Harness, azure, body_of


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
