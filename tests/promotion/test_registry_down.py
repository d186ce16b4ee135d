"""A real MLflow server that dies, or stalls, in the middle of ``mlgates promote``: one clear line, and nothing lost.

One point; ``MLGATES_PROVE=1`` (``make prove``) does every point, one of them with the shipped patience.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_mlgates.errors import RegistryUnavailable
from pytest_mlgates.registry.store import MlflowRegistry
from pytest_mlgates.services.crash import POINTS
from pytest_mlgates.services.lease import LEASE_S

from .servers import MlflowServer
from .world import MODEL, World

# between them: refused while it asks for the version, or for its evidence; left open; moved without its aliases; not anchored
NOT_BEGUN = ("promote-start", "reconciled", "checked", "before-intent")
UNMOVED = ("after-intent", "lease-held", "before-stage")
HALF = ("after-stage", "before-aliases", "between-aliases", "after-aliases")
MADE = ("before-committed", "after-committed", "before-anchor")
IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "2"}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, empty_registry: Path) -> Iterator[tuple[MlflowServer, World]]:
    """v1 is Production, v2 in Staging."""
    folder = tmp_path_factory.mktemp("outage")
    shutil.copy(empty_registry, folder / "backend.db")
    with MlflowServer(f"sqlite:///{folder / 'backend.db'}", folder) as server:
        world = World.make(folder / "project", Path(), uri=server.uri)
        world.add_version()
        world.promote("1", "Staging")
        world.hotfix("1")
        yield server, world


def promote_until(world: World, version: str, point: str, **env: str) -> subprocess.Popen[str]:
    """Start ``mlgates promote`` and return it stopped at a point."""
    child = subprocess.Popen(
        [
            str(Path(sys.executable).with_name("mlgates")), "promote", MODEL, version, "--to", "Production",
            "--reason", "it is better", "--hotfix", "--approver", "bob",
        ],
        cwd=world.folder,
        env={**os.environ, "GIT_SHA": "abc", "MLGATES_STOP_AT": point, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        assert child.poll() is None, child.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return child


def cases() -> Iterator[object]:
    for how in ("kill", "freeze"):
        for point in POINTS[: POINTS.index("after-anchor")]:
            mark = pytest.mark.slow if (how, point) == ("kill", "between-aliases") else pytest.mark.prove
            yield pytest.param(how, point, marks=mark, id=f"{how}-{point}")


@pytest.mark.parametrize(("how", "point"), cases())
def test_a_server_that_dies_or_stalls_in_mid_promotion(served: tuple[MlflowServer, World], how: str, point: str):
    server, world = served
    shipped = point == "before-stage"
    version = world.add_version().version
    world.promote(version, "Staging")
    champion = next(v for v, stage in world.stages().items() if stage == "Production")
    rows = len(world.audit.rows())
    child = promote_until(world, version, point, **({} if shipped else IMPATIENT))
    server.kill() if how == "kill" else server.freeze()
    began = time.monotonic()
    os.kill(child.pid, signal.SIGCONT)
    said, error = child.communicate(timeout=400)
    took = time.monotonic() - began
    assert child.returncode == 1, (said, error)
    assert took < (150 if shipped else 60)
    assert error.startswith("mlgates: ")
    assert error.count("\n") == 1, error
    assert "is the server running?" in error
    assert server.uri in error
    assert len(error) < 500
    expected = {NOT_BEGUN: "registry at", UNMOVED: "broke off", HALF: "broke off", MADE: "is made (audit row"}
    assert next(words for points, words in expected.items() if point in points) in error
    if point not in NOT_BEGUN:
        assert error.endswith(f"when the registry answers again, run: mlgates reconcile {MODEL}\n")

    if how == "kill":
        server.start()  # on the same database
        settled = world.mlgates("reconcile", MODEL)
        assert settled.returncode == 0, settled.stderr
    else:  # a request that nobody waits for any more may be done now: before the reconciliation, or after it
        server.thaw()
        world.mlgates("reconcile", MODEL)
        time.sleep(0.5)
        world.mlgates("reconcile", MODEL)
    assert world.problems() == []
    assert len(world.audit.rows()) >= rows
    arrived = world.stages()[version] == "Production"
    if how == "kill" or point != "before-stage":
        assert arrived == (point in HALF + MADE)
    again = world.mlgates("promote", MODEL, version, "--to", "Production", "--reason", "r", "--hotfix", "--approver", "bob")
    assert again.returncode == (1 if arrived else 0), again.stderr
    assert world.stages()[version] == "Production"
    assert world.stages()[champion] == "Archived"
    assert world.problems() == []
    verified = world.mlgates("audit", "verify")
    assert verified.returncode == 0, verified.stderr
    assert "1 anchors agree" in verified.stdout


def test_a_server_that_takes_the_call_and_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch):
    """The shipped patience ends before the lease does; the error says how often was tried."""
    assert LEASE_S > 4 * 25 + 2 + 4 + 8  # three retries of 25 seconds, with MLflow's pauses between them
    for name, value in IMPATIENT.items():
        monkeypatch.setenv(name, value.replace("2", "1"))
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        registry = MlflowRegistry(f"http://127.0.0.1:{deaf.getsockname()[1]}")
        with pytest.raises(
            RegistryUnavailable, match=r"^registry at http://127.0.0.1:\d+ did not answer: Read timed out"
        ) as told:
            registry.versions(MODEL)
    assert str(told.value).endswith("(is the server running? tried once)")


def test_the_patience_is_what_is_shipped():
    names = ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT")
    program = f"import os, pytest_mlgates.registry.store; print(*(os.environ[name] for name in {names}))"
    env = {k: v for k, v in os.environ.items() if k not in names}
    assert subprocess.check_output([sys.executable, "-c", program], env=env, text=True).split() == ["3", "25"]
