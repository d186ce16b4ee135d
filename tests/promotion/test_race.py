"""Eight processes promote eight versions of one model to Production at once.

One round on SQLite and one on a PostgreSQL-backed MLflow server; ``MLGATES_PROVE=1`` (``make prove``) does 25 of each.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_mlgates.services.lease import open_intent

from .children import fork_server, start_together
from .conftest import Template
from .servers import MlflowServer, Postgres
from .world import MODEL, World

PROVE = os.environ.get("MLGATES_PROVE") == "1"
VERSIONS = [str(number) for number in range(1, 9)]


def staged(world: World, name: str = MODEL, versions: list[str] = VERSIONS) -> None:
    for version in versions:
        world.add_version(name)
        world.promote(version, "Staging", name)


def race(world: World, name: str = MODEL, versions: list[str] = VERSIONS) -> None:
    """One round: never two Production versions while it runs, exactly one after it, and every promotion in the chain."""
    before = len(world.audit.rows(name))
    children, _barrier = start_together(fork_server(), world.folder, world.uri, versions, name)
    while any(child.is_alive() for child in children):
        assert sum(stage == "Production" for stage in world.stages(name).values()) <= 1
        time.sleep(0.05)
    assert [child.exitcode for child in children] == [0] * len(versions)
    for _ in range(3):
        assert sorted(world.stages(name).values()) == ["Archived"] * (len(versions) - 1) + ["Production"]
    rows = world.audit.rows(name)[before:]
    won = [r.event.version for r in rows if r.event.state == "committed" and r.event.to_stage == "Production"]
    made_way = [r.event.version for r in rows if r.event.state == "committed" and r.event.to_stage == "Archived"]
    assert sorted(won) == sorted(versions)
    assert made_way == won[:-1]
    # on a machine that stands still for a while a lease runs out: its intent is settled by the next, and its owner begins again
    states = [r.event.state for r in rows]
    assert states.count("intent") == len(versions) + states.count("aborted")
    assert world.stages(name)[won[-1]] == "Production"
    assert world.problems(name) == []


@pytest.fixture(scope="session")
def eight_staged(template: Template) -> World:
    return template("eight-staged", staged)


def test_eight_at_once_leave_one_production_version_on_sqlite(eight_staged: World, tmp_path: Path):
    for number in range(25 if PROVE else 1):
        race(eight_staged.copy(tmp_path / str(number)))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    if Postgres.binaries() is None:
        pytest.skip("no PostgreSQL server binaries; install them with: apt-get install postgresql")
    with Postgres() as database, MlflowServer(database.uri, tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.mark.postgres
@pytest.mark.slow
def test_eight_at_once_leave_one_production_version_on_a_postgresql_server(server: MlflowServer, tmp_path: Path):
    world = World.make(tmp_path / "project", Path(), uri=server.uri)
    text = (world.folder / "mlgates.toml").read_text().replace(f'[models."{MODEL}"]', f'[models."{MODEL}*"]')
    (world.folder / "mlgates.toml").write_text(text)
    versions = VERSIONS if PROVE else VERSIONS[:4]
    for number in range(25 if PROVE else 1):
        staged(world, f"{MODEL}-{number}", versions)
        race(world, f"{MODEL}-{number}", versions)
    assert world.audit.verify().ok


def test_a_stopped_process_loses_its_lease_and_its_late_write_is_undone(eight_staged: World, tmp_path: Path):
    """SIGSTOP just before the move; another takes the lease over; SIGCONT; the late write does not stay."""
    world = eight_staged.copy(tmp_path / "late")
    world.hotfix("1")
    child = fork_server().Process(target=promote_stopped, args=(world.folder,))
    child.start()
    while (intent := open_intent(world.audit.rows(MODEL))) is None or not _stopped(child.pid or 0):
        time.sleep(0.05)
    done = world.hotfix("3", lease_s=0.3)
    assert done.found.settled == ("v2 Staging -> Production: aborted",)
    os.kill(child.pid or 0, signal.SIGCONT)
    child.join(60)
    assert child.exitcode == 5
    assert world.stages()["2"] == "Production"
    found = world.reconcile()
    assert any(f"late write of the lease of row {intent.seq}" in alarm for alarm in found.alarms)
    assert world.stages()["3"] == "Production"
    assert world.stages()["2"] == "Staging"
    assert world.problems() == []


def promote_stopped(folder: Path) -> None:
    """Promote v2, stopping oneself between the last look at the lease and the write to the registry."""
    import sys

    from pytest_mlgates.errors import WriteConflict

    world = World(folder, f"sqlite:///{folder / 'mlflow.db'}")
    move = world.registry.set_stage

    def stop_first(*arguments: str, **options: bool) -> None:
        os.kill(os.getpid(), signal.SIGSTOP)
        move(*arguments, **options)

    world.registry.set_stage = stop_first  # type: ignore[method-assign]
    try:
        world.hotfix("2")
    except WriteConflict:
        sys.exit(5)


def _stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


@pytest.mark.prove
def test_a_living_holder_is_waited_for_and_named(eight_staged: World, tmp_path: Path):
    from pytest_mlgates.errors import WriteConflict

    world = eight_staged.copy(tmp_path / "living")
    child = fork_server().Process(target=promote_stopped, args=(world.folder,))
    child.start()
    while open_intent(world.audit.rows(MODEL)) is None or not _stopped(child.pid or 0):
        time.sleep(0.05)
    with pytest.raises(WriteConflict, match=r"ann \(on .*\) has been moving revenue since audit row"):
        world.hotfix("3", wait_s=0.3)
    child.kill()
    child.join()
    assert world.hotfix("3").found.settled == ("v2 Staging -> Production: aborted",)
