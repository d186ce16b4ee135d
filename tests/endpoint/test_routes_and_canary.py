"""Pure parts: which version answers, and when a canary must stop."""

from __future__ import annotations

import os
from types import SimpleNamespace

import numpy as np
import pytest

from pytest_mlgates.endpoint.canary import CanaryLimits, VersionStats, check_steps, decide, merged, since
from pytest_mlgates.endpoint.definition import changed, checked, parse
from pytest_mlgates.endpoint.routes import Routes, RoutesFile, Target
from pytest_mlgates.endpoint.schema import BadRequest
from pytest_mlgates.errors import EndpointError


def stats(calls=500, errors=0, mean=100.0, sd=10.0, latency_ms=5.0, slow=0) -> VersionStats:
    out = VersionStats()
    rng = np.random.default_rng(calls)
    for i in range(calls - errors):
        out.answered([float(rng.normal(mean, sd))], 900.0 if i < slow else latency_ms)
    for _ in range(errors):
        out.failed()
    return out


@pytest.mark.parametrize(
    ("canary", "action"),
    [
        (stats(), "go"),
        (stats(calls=50), "wait"),
        (stats(errors=2), "go"),
        (stats(errors=40), "stop"),
        (stats(calls=20, errors=1), "wait"),
        (stats(slow=3), "go"),
        (stats(slow=40), "stop"),
        (stats(mean=104.0), "go"),
        (stats(mean=120.0), "stop"),
        (VersionStats(), "wait"),
    ],
)
def test_a_canary_is_stopped_by_bounds_not_by_bad_luck(canary, action):
    assert decide(canary, stats(calls=2000), CanaryLimits()).action == action


def test_stats_of_workers_add_up_and_earlier_ones_can_be_taken_off():
    import dataclasses

    one, two = stats(calls=30), stats(calls=50, errors=3)
    both = merged([{"1": dataclasses.asdict(one)}, {"1": dataclasses.asdict(two)}])["1"]
    assert (both.calls, both.errors) == (80, 3)
    assert (both - one).calls == 50
    assert both.mean == pytest.approx((one.total + two.total) / (one.predictions + two.predictions))


def test_a_worker_that_died_takes_its_counts_along_and_leaves_no_debt():
    before = {1: {"2": stats(calls=100)}, 7: {"2": stats(calls=40)}}
    now = {1: {"2": stats(calls=130)}, 9: {"2": stats(calls=5), "1": stats(calls=50)}}  # 7 was killed, 9 came in its place
    assert since(before, now, "2").calls == 35
    assert since({}, now, "1").calls == 50
    assert since(before, {}, "2") == VersionStats()


@pytest.mark.parametrize("steps", [(), (5.0, 50.0), (0.0, 100.0), (50.0, 5.0, 100.0), (100.0, 100.0), (50.0, 150.0)])
def test_steps_that_do_not_rise_to_100_are_refused(steps):
    with pytest.raises(EndpointError, match="rise to 100"):
        check_steps(steps)
    check_steps((5.0, 50.0, 100.0))


def test_no_two_living_workers_count_in_one_row():
    from pytest_mlgates.endpoint.metrics import MAX_WORKERS, Metrics
    from pytest_mlgates.endpoint.workers import ServerOptions, _Application

    application = _Application.__new__(_Application)
    application._options, application._metrics = ServerOptions(state=None), Metrics()
    alive: dict[int, SimpleNamespace] = {}
    for age in range(3 * MAX_WORKERS):  # two workers live at a time, the older one is killed
        worker = SimpleNamespace(age=age)
        application._pre_fork(SimpleNamespace(WORKERS=alive), worker)
        alive = {a: w for a, w in alive.items() if a == age - 1} | {age: worker}
        assert len({w.metrics_row for w in alive.values()}) == len(alive)


def test_a_models_name_is_quoted_in_the_metrics():
    from pytest_mlgates.endpoint.metrics import Metrics

    metrics = Metrics()
    metrics.answered(200, 1.0)
    assert r'{model="a\"b\\c",status="200"} 1' in metrics.text('a"b\\c')


def test_the_split_follows_the_shares_and_the_same_id_meets_the_same_version():
    routes = Routes(1, "m", "", (Target("1", "/a", 95.0), Target("2", "/b", 5.0)))
    picked = [routes.pick(f"id-{i}") for i in range(20_000)]
    assert picked == [routes.pick(f"id-{i}") for i in range(20_000)]
    assert picked.count("2") / 20_000 == pytest.approx(0.05, abs=0.006)


def test_a_version_with_no_share_is_never_picked():
    routes = Routes(1, "m", "", (Target("1", "/a", 100.0), Target("2", "/b", 0.0)))
    assert {routes.pick(f"id-{i}") for i in range(2000)} == {"1"}


@pytest.mark.parametrize("shares", [(50.0, 49.0), (-1.0, 101.0)])
def test_shares_that_are_no_split_are_refused(shares):
    with pytest.raises(EndpointError):
        Routes(1, "m", "", tuple(Target(str(i), "/", s) for i, s in enumerate(shares)))


def test_routes_survive_the_file_and_dead_workers_do_not_count(tmp_path):
    state = RoutesFile(tmp_path)
    with pytest.raises(EndpointError, match="no endpoint state"):
        state.read()
    routes = Routes(3, "m", "Production", (Target("1", "/a"),), Target("2", "/b", 0.0))
    state.write(routes)
    assert state.read() == routes
    before = state.stamp()
    state.write(routes)
    assert state.stamp() != before
    state.acknowledge(3)
    (tmp_path / "workers" / "999999999.json").write_text('{"generation": 1, "error": ""}')
    assert list(state.workers()) == [os.getpid()]


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"{", "JSON"), (b"[]", "object"), (b'{"name": "a"}', "modelVersion"), (b'{"name": "a b", "modelVersion": "1"}', "name"),
        (b'{"name": "a", "modelVersion": ""}', "modelVersion"), (b'{"name": "a", "modelVersion": "1", "minInstance": 2}', "minInstance"),
        (b'{"name": "a", "modelVersion": "1", "minInstances": 3, "maxInstances": 2}', "maxInstances"),
        (b'{"name": "a", "modelVersion": "1", "trafficSplit": {"1": 90}}', "trafficSplit"),
    ],
)  # fmt: skip
def test_a_wrong_definition_names_the_field(body, word):
    with pytest.raises(BadRequest, match=word):
        parse(body)


def test_a_stage_is_followed_a_version_and_a_split_are_pinned():
    assert parse(b'{"name": "a", "modelVersion": "Production"}').follows == "Production"
    assert parse(b'{"name": "a", "modelVersion": "@champion"}').follows == "@champion"
    pinned = parse(b'{"name": "a", "modelVersion": "2"}')
    assert pinned.follows == ""
    assert changed(pinned, b'{"modelVersion": "Production", "trafficSplit": {"1": 50, "2": 50}}').follows == ""
    assert checked(changed(pinned, b'{"minInstances": 0, "maxInstances": 0}')).paused
