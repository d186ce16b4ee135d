"""A promoting process is killed with SIGKILL at every named point: nothing is lost, nothing stays half done.

Each point once; ``MLGATES_PROVE=1`` (``make prove``) does each 20 times.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_mlgates.services.crash import POINTS, RECOVERY_POINTS

from .children import fork_server, promote_and_die, reconcile_and_die, run
from .conftest import Template
from .world import World

PROVE = os.environ.get("MLGATES_PROVE") == "1"
TIMES = int(os.environ.get("MLGATES_PROVE_TIMES", "20")) if PROVE else 1
BEFORE_THE_MOVE = POINTS[: POINTS.index("after-stage")]


@pytest.fixture(scope="session")
def half_way(template: Template) -> World:
    """v1 is Production, v2 and v3 are in Staging (v3 holds the alias), v4 is in no stage."""

    def fill(world: World) -> None:
        for _ in range(4):
            world.add_version()
        world.promote("1", "Staging")
        world.hotfix("1")
        world.promote("2", "Staging")
        world.promote("3", "Staging")

    return template("half-way", fill)


@pytest.mark.parametrize("point", [pytest.param(p, marks=pytest.mark.prove if i % 3 else ()) for i, p in enumerate(POINTS)])
def test_killed_at_any_point_registry_and_audit_agree_again(half_way: World, tmp_path: Path, point: str):
    assert len(POINTS) >= 12
    context = fork_server()
    for number in range(TIMES):
        world = half_way.copy(tmp_path / str(number))
        moves = {"Production": "3", "Staging": "4"}
        to = "Production" if number % 4 < 3 else "Staging"
        if to == "Staging" and point == "between-aliases":  # that move has one alias to put right
            to = "Production"
        assert run(context, promote_and_die, world.folder, point, moves[to], to) == -signal.SIGKILL
        world.reconcile()
        assert world.problems() == [], point
        arrived = world.stages()[moves[to]] == to
        assert arrived == (point not in BEFORE_THE_MOVE)
        if to == "Production":
            assert world.stages()["1"] == ("Archived" if arrived else "Production")
        if not arrived:
            world.hotfix(moves[to], to)
        assert world.stages()[moves[to]] == to
        assert world.problems() == []


@pytest.mark.parametrize("second", RECOVERY_POINTS)
@pytest.mark.parametrize(
    "first",
    ["after-stage", *(pytest.param(p, marks=pytest.mark.prove) for p in ("between-aliases", "before-committed"))],
)
def test_killed_while_settling_a_crash_it_is_settled_by_the_next(half_way: World, tmp_path: Path, first: str, second: str):
    context = fork_server()
    for number in range(TIMES):
        world = half_way.copy(tmp_path / str(number))
        assert run(context, promote_and_die, world.folder, first, "3", "Production") == -signal.SIGKILL
        assert run(context, reconcile_and_die, world.folder, second) == -signal.SIGKILL
        world.reconcile()
        assert world.problems() == []
        assert world.stages() == {"1": "Archived", "2": "Staging", "3": "Production", "4": "None"}


def test_killed_at_a_random_moment_registry_and_audit_agree_again(half_way: World, tmp_path: Path):
    context = fork_server()
    killed = 0
    for number in range(40 if PROVE else 6):
        world = half_way.copy(tmp_path / str(number))
        child = context.Process(target=promote_and_die, args=(world.folder, "", "3", "Production"))
        child.start()
        time.sleep(random.Random(number).uniform(0.0, 1.5))
        child.kill()
        child.join()
        killed += child.exitcode == -signal.SIGKILL
        world.reconcile()
        assert world.problems() == []
    assert killed > 0


def test_a_second_try_after_a_crash_finds_its_move_made(half_way: World, tmp_path: Path):
    world = half_way.copy(tmp_path / "again")
    run(fork_server(), promote_and_die, world.folder, "after-stage", "3", "Production")
    done = world.hotfix("3")
    assert done.already
    assert done.found.settled == ("v3 Staging -> Production: committed",)
    assert world.problems() == []


def test_what_a_crash_left_is_settled_by_the_next_promotion_of_another_version(
    half_way: World, tmp_path: Path, make_world: Callable[..., World]
):
    world = half_way.copy(tmp_path / "next")
    run(fork_server(), promote_and_die, world.folder, "before-stage", "3", "Production")
    done = world.hotfix("2")
    assert done.found.settled == ("v3 Staging -> Production: aborted",)
    assert world.stages() == {"1": "Archived", "2": "Production", "3": "Staging", "4": "None"}
    assert world.problems() == []
