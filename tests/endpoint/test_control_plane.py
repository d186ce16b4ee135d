"""Endpoints made, changed and taken away through the control plane, in the tutorial's and in Fabric's shapes."""

from __future__ import annotations

import itertools
import json
import os
import signal
import threading
import time
from collections import Counter

import httpx
import pytest

from pytest_mlgates.endpoint import server
from pytest_mlgates.endpoint.client import EndpointClient
from pytest_mlgates.endpoint.control_client import ControlClient
from pytest_mlgates.errors import EndpointError
from pytest_mlgates.lakehouse import Lakehouse
from pytest_mlgates.services import load_drive
from pytest_mlgates.tables import PREDICTION_LOG
from tests.endpoint.conftest import FULL
from tests.endpoint.serving_project import NUMERIC, TUTORIAL_ROW, move, rows

TUTORIAL_BODY = {
    "name": "slot-revenue-prod", "modelVersion": "1", "instanceType": "Standard_DS3_v2", "minInstances": 2, "maxInstances": 10,
    "trafficSplit": {"1": 100},
}  # fmt: skip
NAME = TUTORIAL_BODY["name"]


@pytest.fixture(scope="module")
def plane(settings, tmp_path_factory):
    state = tmp_path_factory.mktemp("plane")
    with server.start_control(settings, state=state) as running:
        client = ControlClient(running.uri, "local", "ridge")
        yield client, running, state
        client.close()


@pytest.fixture(scope="module")
def deployed(plane):
    """The tutorial's endpoint, made once; its description."""
    client, running, _ = plane
    first = httpx.post(f"{running.uri}/v1/workspaces/local/mlmodels/ridge/endpoints", json=TUTORIAL_BODY)
    assert first.status_code == 202
    assert first.headers["location"].startswith("/v1/operations/")
    assert int(first.headers["retry-after"]) >= 1
    seen = [first.json()["status"]]
    deadline = time.monotonic() + 150
    while seen[-1] != "Succeeded" and time.monotonic() < deadline:
        time.sleep(0.2)
        seen.append(client.get(NAME)["status"])
    assert seen[0] == "Provisioning"
    assert seen[-1] == "Succeeded"
    assert httpx.get(running.uri + first.headers["location"]).json()["status"] == "Succeeded"
    return client.get(NAME)


def workers(state) -> dict[int, dict]:
    return {int(p.stem): json.loads(p.read_bytes()) for p in (state / "ridge" / NAME / "workers").glob("*.json")}


def test_the_tutorials_body_makes_an_endpoint_that_scores(deployed):
    assert {key: deployed[key] for key in TUTORIAL_BODY} == TUTORIAL_BODY
    with EndpointClient(deployed["scoringUri"]) as client:
        assert client.score([TUTORIAL_ROW])["model_version"] == "1"


def test_the_same_name_twice_is_a_conflict_and_a_wrong_body_is_named(plane, deployed):
    client, _, _ = plane
    with pytest.raises(EndpointError, match="409"):
        client.create(TUTORIAL_BODY)
    with pytest.raises(EndpointError, match=r"422.*add up to 100"):
        client.create({**TUTORIAL_BODY, "name": "other", "trafficSplit": {"1": 50}})
    with pytest.raises(EndpointError, match=r"422.*minInstances"):
        client.create({**TUTORIAL_BODY, "name": "other", "minInstances": "two"})
    assert [e["name"] for e in client.endpoints()] == [NAME]


def test_a_version_that_is_not_there_fails_and_the_old_one_stays(plane, deployed):
    client, _, _ = plane
    with pytest.raises(EndpointError, match="no version '99'"):
        client.update(NAME, {"modelVersion": "99"}, wait_s=60)
    found = client.get(NAME)
    assert (found["status"], found["servedVersion"]) == ("Failed", "1")
    assert "99" in found["failureDetails"]["message"]
    client.update(NAME, {"modelVersion": "1"}, wait_s=60)


def test_kills_a_rolling_update_and_a_rollback_under_load_fail_no_request(plane, deployed):
    """A worker is killed every 2 s; a client that repeats once on a reset connection sees every answer, each of a live version."""
    client, _, state = plane
    duration_s = 60 if FULL else 10
    rate = 50
    body = json.dumps({"input_data": {"columns": NUMERIC, "data": [list(TUTORIAL_ROW.values())]}})
    driven = load_drive.Load(n=rate * duration_s, concurrency=4, rate_per_s=rate, retry_reset=True)
    outcome = {}

    def load() -> None:
        outcome["samples"], _ = load_drive.drive(deployed["scoringUri"], [body], driven, versions=["1", "2"])

    thread = threading.Thread(target=load)
    thread.start()
    begun = time.monotonic()
    kills, replaced, turned = 0, [], []
    while thread.is_alive():
        time.sleep(2)
        alive = {pid for pid in workers(state) if _alive(pid)}
        if len(alive) == 2 and thread.is_alive():
            victim = min(alive)
            os.kill(victim, signal.SIGKILL)
            kills += 1
            replaced.append(_seconds_until(lambda alive=alive: len({p for p in workers(state) if _alive(p)} - alive) >= 1))
        if not turned and time.monotonic() - begun > duration_s / 3:
            turned.append(client.update(NAME, {"modelVersion": "2"}, wait_s=60)["servedVersion"])
        elif len(turned) == 1 and time.monotonic() - begun > 2 * duration_s / 3:
            turned.append(client.action(NAME, "rollback", wait_s=60)["servedVersion"])
    thread.join()
    if len(turned) == 1:
        turned.append(client.action(NAME, "rollback", wait_s=60)["servedVersion"])
    print(f"\n{kills} kills, replacement serving after {', '.join(f'{s:.2f}' for s in sorted(replaced))} s")
    assert outcome["samples"].n == rate * duration_s
    assert [k for k in outcome["samples"].kinds if k] == []
    assert turned == ["2", "1"]
    assert kills >= duration_s / 4 - 1
    assert max(replaced) < (2.0 if FULL else 8.0)


def test_a_server_whose_supervisor_was_killed_comes_back_at_its_address(plane, deployed):
    client, _, state = plane
    before = json.loads((state / "ridge" / NAME / "server.json").read_bytes())
    os.kill(before["pid"], signal.SIGKILL)
    with EndpointClient(deployed["scoringUri"], retries=0) as scoring:

        def answers() -> bool:
            try:
                return scoring.score([TUTORIAL_ROW])["model_version"] == "1" and not _alive(before["pid"])
            except EndpointError:
                return False

        assert _seconds_until(answers, at_most=60) < 60
    assert _seconds_until(lambda: client.get(NAME)["status"] == "Succeeded") < 20
    assert client.get(NAME)["scoringUri"] == deployed["scoringUri"]


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"version": "2", "steps": [50]}, "rise to 100"), ({"version": "2", "limits": {"min_cals": 3}}, "min_calls"),
        ({}, "version"), ({"version": "2", "step": [100]}, "step"),
    ],
)  # fmt: skip
def test_a_canary_that_does_not_fit_is_refused_at_once(plane, deployed, fields, word):
    client, _, _ = plane
    with pytest.raises(EndpointError, match=f"422.*{word}"):
        client.action(NAME, "canary", fields)


def test_traffic_is_split_by_request_id_the_same_in_every_worker(plane, deployed):
    client, _, _ = plane
    client.update(NAME, {"trafficSplit": {"1": 80, "2": 20}}, wait_s=60)
    with EndpointClient(deployed["scoringUri"]) as scoring:
        answers = {i: scoring.score([TUTORIAL_ROW], request_id=f"split-{i}")["model_version"] for i in range(300)}
        again = {i: scoring.score([TUTORIAL_ROW], request_id=f"split-{i}")["model_version"] for i in range(300)}
    assert answers == again
    assert 30 <= sum(v == "2" for v in answers.values()) <= 95
    assert client.action(NAME, "rollback", wait_s=60)["trafficSplit"] == {"1": 100.0}


def test_a_shadow_scores_unseen_and_its_answers_are_logged_beside_the_champions(plane, deployed, settings):
    client, _, _ = plane
    assert client.action(NAME, "shadow", {"version": "2"}, wait_s=60)["shadowVersion"] == "2"
    with EndpointClient(deployed["scoringUri"]) as scoring:
        own = {scoring.score([TUTORIAL_ROW], request_id=f"shadowed-{i}")["model_version"] for i in range(40)}
        assert own == {"1"}
        time.sleep(0.5)
        scored = [line for line in scoring.metrics().splitlines() if line.startswith("mlgates_endpoint_shadow_scored_total")]
    assert int(scored[0].split()[-1]) >= 40
    client.action(NAME, "shadow", {"version": None}, wait_s=60)
    log = Lakehouse(settings.parent / "lakehouse")
    where = "request_id LIKE '%shadowed-%'"
    deadline = time.monotonic() + 30
    while log.read(PREDICTION_LOG, where=where).num_rows < 80 and time.monotonic() < deadline:
        time.sleep(0.5)
    versions = {r["request_id"]: r["model_version"] for r in log.read(PREDICTION_LOG, where=where).to_pylist()}
    assert versions == {f"shadowed-{i}": "1" for i in range(40)} | {f"shadow:shadowed-{i}": "2" for i in range(40)}


@pytest.mark.parametrize(("version", "action"), [("3", "stop"), ("2", "go")])
def test_a_canary_goes_through_its_steps_or_stops_itself(plane, deployed, version, action):
    """Version 3 answers 300,000 too much: its mean shift stops it, and all traffic is the champion's again."""
    client, _, _ = plane
    fields = {
        "version": version,
        "limits": {"min_calls": 40, "max_mean_shift": 2.0},
        "steps": [20, 50, 100],
        "stepTimeoutSeconds": 40,
    }
    listed = rows(200).to_numpy().tolist()
    bodies = [json.dumps({"input_data": {"columns": NUMERIC, "data": [row]}}) for row in listed]
    stop = threading.Event()
    seen = Counter()

    def traffic() -> None:
        with httpx.Client() as session:
            for body in itertools.cycle(bodies):
                if stop.is_set():
                    return
                answer = session.post(deployed["scoringUri"], content=body)
                seen[answer.status_code] += 1

    thread = threading.Thread(target=traffic)
    thread.start()
    try:
        if action == "go":
            found = client.action(NAME, "canary", fields, wait_s=120)
        else:
            with pytest.raises(EndpointError, match="mean prediction shifted"):
                client.action(NAME, "canary", fields, wait_s=120)
            found = client.get(NAME)
    finally:
        stop.set()
        thread.join()
    assert found["canary"]["action"] == action
    assert found["status"] == "Succeeded"
    if action == "go":  # a rollback undoes the whole canary
        assert client.action(NAME, "rollback", wait_s=60)["trafficSplit"] == {"1": 100.0}
        assert client.action(NAME, "rollback", wait_s=60)["servedVersion"] == "2"
        found = client.get(NAME)
    assert found["trafficSplit"] == {"2" if action == "go" else "1": 100.0}
    assert set(seen) == {200}
    client.update(NAME, {"modelVersion": "1"}, wait_s=60)


@pytest.mark.prove
def test_a_stage_deployment_follows_the_stage(plane, deployed, settings):
    client, _, _ = plane
    client.update(NAME, {"modelVersion": "Production"}, wait_s=60)
    with EndpointClient(deployed["scoringUri"]) as scoring:
        assert scoring.score([TUTORIAL_ROW])["model_version"] == "1"
        move(settings.parent, "ridge", "2", "Production")
        try:
            assert _seconds_until(lambda: scoring.score([TUTORIAL_ROW])["model_version"] == "2", at_most=90) < 90
        finally:
            move(settings.parent, "ridge", "2", "Staging")
            move(settings.parent, "ridge", "1", "Production")
    client.update(NAME, {"modelVersion": "1"}, wait_s=60)


@pytest.mark.prove
def test_pausing_keeps_the_definition_and_updating_brings_it_back(plane, deployed):
    client, _, _ = plane
    paused = client.pause(NAME, wait_s=60)
    assert (paused["minInstances"], paused["maxInstances"], paused["state"]) == (0, 0, "Paused")
    assert "scoringUri" not in paused
    with pytest.raises(httpx.ConnectError):
        httpx.get(deployed["scoringUri"])
    back = client.update(NAME, {"minInstances": 1, "maxInstances": 2}, wait_s=120)
    assert back["warnings"][0].startswith("minInstances: 1")
    with EndpointClient(back["scoringUri"]) as scoring:
        assert scoring.score([TUTORIAL_ROW])["model_version"] == "1"
    client.delete(NAME, wait_s=60)
    assert client.endpoints() == []


@pytest.mark.prove
def test_fabrics_shapes_activate_score_and_deactivate(plane):
    client, _, _ = plane
    assert client.activate("1", wait_s=120)["status"] == "Active"
    assert client.activate("2", wait_s=120)["status"] == "Active"
    assert client.endpoint()["defaultVersionName"] == "1"
    assert [c["name"] for c in client.endpoint()["defaultVersionInfo"]["inputSignature"]] == NUMERIC
    row = list(TUTORIAL_ROW.values())
    default, second = client.score([row]), client.score([row], version="2")
    assert default != second
    assert client.set_default("2")["defaultVersionName"] == "2"
    assert client.score([row]) == second
    assert [(v["versionName"], v["status"]) for v in client.versions()] == [("2", "Active"), ("1", "Active")]
    assert client.deactivate("1", wait_s=60)["status"] == "Deactivated"
    with pytest.raises(EndpointError, match="404"):
        client.score([row], version="1")
    with pytest.raises(EndpointError, match="scaleRule"):
        client._ask("PATCH", "/endpoint/versions/2", json={"scaleRule": "AllowScaleToZero"})


def test_too_many_control_requests_are_429_with_retry_after():
    from pytest_mlgates.endpoint.control import RateLimit

    limit = RateLimit(60)
    waits = [limit.wait_s() for _ in range(12)]
    assert waits[:10] == [0.0] * 10
    assert 0 < waits[-1] <= 1.0


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _seconds_until(condition, at_most: float = 20.0) -> float:
    start = time.monotonic()
    while time.monotonic() - start < at_most:
        if condition():
            return time.monotonic() - start
        time.sleep(0.02)
    return at_most
