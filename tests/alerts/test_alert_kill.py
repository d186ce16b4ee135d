"""SIGKILL at every point: after a restart nothing is lost and nothing happens twice.

By default every third point or so is tried; with ``MLGATES_PROVE=1`` all of them.
"""

from __future__ import annotations

import collections
import json
import multiprocessing
import os
import random
import signal
import sys
import time

import httpx
import pytest

from pytest_mlgates.alerts import ledger
from pytest_mlgates.alerts.inbox import Inbox
from pytest_mlgates.alerts.signing import signed_headers
from pytest_mlgates.lakehouse import Lakehouse
from pytest_mlgates.services.retrain import CRASH_POINTS
from tests.promotion.world import MODEL as REVENUE
from tests.promotion.world import World

from . import children
from .conftest import MODEL, NOW, SECRET, free_port, inject
from .posting import ONCE, body_of, wait_for

PROVE = bool(os.environ.get("MLGATES_PROVE"))
KILLED = -signal.SIGKILL
context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["tests.alerts.children"])


def some(points, chosen):
    return points if PROVE else [points[i] for i in chosen]


def child(target, *arguments):
    process = context.Process(target=target, args=arguments)
    process.start()
    return process


def finish(target, *arguments) -> int:
    process = child(target, *arguments)
    process.join(120)
    return process.exitcode


def toml(*, teams: bool = False, url: str = "", command: list[str] | None = None) -> str:
    channel = 'kind = "teams"\nurl_env = "TEAMS"' if teams else f'kind = "webhook"\nurl = "{url}/alerts"'
    return f"""
[models."casino-*"]
task = "regression"
target = "revenue"
holdout = "lh_gold.h"
[models."casino-*".retrain]
command = {json.dumps(command or [])}
[[alerts.rules]]
name = "drift"
group = "mlops"
[[alerts.groups.mlops.channels]]
{channel}
"""


# one evaluation that fires makes 14 operations on the tables: 5 to read, 1 to claim, 7 to build the message, 1 to record
@pytest.mark.parametrize("at", some(list(range(14)), [4, 5, 13]))
def test_a_killed_evaluator_loses_nothing_and_fires_once(tmp_path, sink, at) -> None:
    (tmp_path / "mlgates.toml").write_text(toml(url=sink.url))
    store = Lakehouse(tmp_path / "lakehouse")
    inject(store, 0.30)
    env = {"MLGATES_WEBHOOK_SECRET": SECRET}
    exits = [finish(children.evaluate_and_die, tmp_path, env, NOW, at)]
    exits += [finish(children.evaluate_and_die, tmp_path, env, NOW, -1) for _ in range(2)]
    assert exits in ([KILLED, 0, 0], [0, 0, 0])
    assert (exits[0] == KILLED) == (at < OPERATIONS), "the number of operations changed: mend OPERATIONS"
    assert collections.Counter(r.event for r in ledger.read(store).rows) == {"fired": 1, "delivered": 1}
    ids = [b["data"]["essentials"]["alertId"] for b in sink.bodies]
    assert len(set(ids)) == 1
    # killed between the sending and the row that says so, it sends again under the same id: the receiver takes that as one
    assert len(ids) == (2 if at == OPERATIONS - 1 else 1)


OPERATIONS = 14

RECEIVER_POINTS = [
    ("used", 1, "before"), ("used", 1, "after"), ("take", 1, "before"), ("take", 1, "after"), ("change", 1, "before"),
    ("change", 1, "after"), ("change", 2, "before"), ("change", 2, "after"), ("change", 3, "before"), ("change", 3, "after"),
]  # fmt: skip


PLAIN = "import os; f = open('starts', 'a'); f.write(os.environ['MLGATES_ALERT_ID'] + chr(10)); f.close()"
"""A command of a user's own, that knows nothing of a result file: its exit code is all it says."""


@pytest.mark.parametrize("command", [PLAIN, ONCE] if PROVE else [PLAIN], ids=["plain", "says"][: 1 + PROVE])
@pytest.mark.parametrize("point", some(RECEIVER_POINTS, [3, 6, 8]), ids=str)
def test_a_killed_receiver_loses_no_alert_and_starts_one_retraining(tmp_path, point, command) -> None:
    (tmp_path / "mlgates.toml").write_text(
        toml(url="http://unused", command=[sys.executable, "-c", "import time; time.sleep(0.5); " + command])
    )
    port, env = free_port(), {"MLGATES_WEBHOOK_SECRET": SECRET}
    doomed = child(children.serve_and_die, tmp_path, port, env, point)
    accepted = post(port)
    if accepted is None:  # it died before it could answer: no promise was made
        doomed.join(60)
    doomed.join(60)
    assert doomed.exitcode == KILLED
    again = child(children.serve_and_die, tmp_path, port, env, None)
    try:
        if accepted is None:
            accepted = post(port)  # the evaluator sends again what was not confirmed
        assert accepted in (202, 409)
        jobs = wait_for(Inbox(tmp_path / "mlgates-alerts.db"), "succeeded")
        assert [j.alert_id for j in jobs] == ["alert-1"]
        assert (tmp_path / "starts").read_text() == "alert-1\n"
    finally:
        again.terminate()
        again.join(20)


@pytest.mark.parametrize("seed", range(20 if PROVE else 2))
def test_an_evaluator_killed_at_any_moment_fires_once(tmp_path, sink, seed) -> None:
    (tmp_path / "mlgates.toml").write_text(toml(url=sink.url))
    inject(Lakehouse(tmp_path / "lakehouse"), 0.30)
    env, chance = {"MLGATES_WEBHOOK_SECRET": SECRET}, random.Random(seed)
    for _ in range(4):
        doomed = child(children.evaluate_and_die, tmp_path, env, NOW, -1)
        doomed.join(chance.uniform(0.0, 0.6))
        doomed.kill()
        doomed.join(60)
    assert finish(children.evaluate_and_die, tmp_path, env, NOW, -1) == 0
    rows = ledger.read(Lakehouse(tmp_path / "lakehouse")).rows
    assert collections.Counter(r.event for r in rows) == {"fired": 1, "delivered": 1}
    assert len({b["data"]["essentials"]["alertId"] for b in sink.bodies}) == 1


@pytest.mark.parametrize("seed", range(10 if PROVE else 1))
def test_receivers_killed_at_any_moment_start_each_alert_that_they_confirmed_once(tmp_path, seed) -> None:
    """Alerts of two models come in while the receiver dies again and again, and a command outlives it."""
    (tmp_path / "mlgates.toml").write_text(toml(url="http://unused", command=["sh", "-c", 'echo "$MLGATES_ALERT_ID" >>starts']))
    port, env, chance = free_port(), {"MLGATES_WEBHOOK_SECRET": SECRET}, random.Random(seed)
    wanted = [f"alert-{n}" for n in range(12)]
    left = list(wanted)
    for _ in range(4):
        doomed = child(children.serve_and_die, tmp_path, port, env, None)
        until = time.monotonic() + chance.uniform(0.3, 1.5)
        while left and time.monotonic() < until:
            if post(port, left[0], model=f"casino-{len(left) % 2}") != 202:
                break
            left.pop(0)
            if chance.random() < 0.2:
                break
        doomed.kill()
        doomed.join(60)
    last = child(children.serve_and_die, tmp_path, port, env, None)
    try:
        for alert_id in left:
            assert post(port, alert_id, model="casino-0") == 202
        jobs = wait_for(Inbox(tmp_path / "mlgates-alerts.db"), "succeeded")
        assert sorted(j.alert_id for j in jobs) == sorted(wanted)
        assert sorted((tmp_path / "starts").read_text().split()) == sorted(wanted)
    finally:
        last.terminate()
        last.join(20)


def post(port: int, alert_id: str = "alert-1", model: str = MODEL) -> int | None:
    """Send the alert as soon as the server listens; ``None`` when it died without an answer."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        body = body_of(alert_id, model=model)
        try:
            return httpx.post(
                f"http://127.0.0.1:{port}/alerts",
                content=body,
                headers=signed_headers(SECRET, int(time.time()), body),
                timeout=30,
            ).status_code
        except httpx.ConnectError:
            time.sleep(0.05)
        except httpx.HTTPError:
            return None
    raise AssertionError("nothing listens")


ALERTS = (
    '[[alerts.rules]]\nname = "drift"\ngroup = "mlops"\n[[alerts.groups.mlops.channels]]\nkind = "teams"\nurl_env = "TEAMS"'
)


@pytest.mark.parametrize("seed", range(20 if PROVE else 2))
def test_a_retraining_killed_at_any_moment_ends_as_one(tmp_path, migrated, sink, seed) -> None:
    world = World.make(tmp_path / "project", migrated, policy=ALERTS)
    world.add_version()
    chance = random.Random(seed)
    for _ in range(3):
        doomed = child(children.retrain_and_die, world.folder, "alert-1", sink.url, "")
        doomed.join(chance.uniform(0.0, 2.5))
        doomed.kill()
        doomed.join(60)
    assert finish(children.retrain_and_die, world.folder, "alert-1", sink.url, "") == 0
    # a version that a killed training registered before its tags are on it is nobody's: it stays where it is, unjudged
    stages = world.stages()
    assert collections.Counter(stages.values())["Staging"] == 1
    committed = [r.event for r in world.audit.rows(REVENUE) if r.event.state == "committed"]
    assert len(committed) == 1
    assert stages[committed[0].version] == "Staging"
    assert 1 <= len(sink.requests) <= 2  # twice only where it died between sending and the row that says so
    assert len({r["body"] for r in sink.requests}) == 1


PROMOTION_POINTS = ("after-intent", "lease-held", "before-stage", "after-stage", "before-committed", "after-committed")
"""Of the promotion within it: killed past ``after-stage`` the version is in Staging, and the audit does not say so yet."""


@pytest.mark.parametrize("point", some([*CRASH_POINTS, *PROMOTION_POINTS], [2, 6, 13]))
def test_a_killed_retraining_makes_one_version_one_promotion_and_one_message(tmp_path, migrated, sink, point) -> None:
    world = World.make(tmp_path / "project", migrated, policy=ALERTS)
    world.add_version()
    exits = [finish(children.retrain_and_die, world.folder, "alert-1", sink.url, p) for p in (point, "", "")]
    assert exits == [KILLED, 0, 0]
    assert world.stages() == {"1": "None", "2": "Staging"}
    assert (world.folder / "trained").read_text() == "x"
    committed = [r.event for r in world.audit.rows(REVENUE) if r.event.state == "committed"]
    assert [(e.version, e.to_stage) for e in committed] == [("2", "Staging")]
    assert "drift_alert" in committed[0].rationale
    assert "alert-1" in committed[0].rationale
    assert len(sink.requests) == 1
    assert "passed all gates" in sink.requests[0]["body"].decode()
    assert json.loads((world.folder / "result.json").read_text())["outcome"] == "succeeded"
