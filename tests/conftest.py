"""What all tests share."""

import gc
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import filelock
import pytest

pytest_plugins = ["pytester"]
gc.set_threshold(100_000, 50, 50)  # collections were a sixth of the suite's CPU time


@pytest.fixture(scope="session")
def made_once(tmp_path_factory) -> Callable[[str, Callable[[Path], None]], Path]:
    """``made_once(name, build)``: a folder that ``build(folder)`` fills once a run, for all workers of xdist. To be copied."""

    def make(name: str, build: Callable[[Path], None]) -> Path:
        shared = tmp_path_factory.getbasetemp()
        if os.environ.get("PYTEST_XDIST_WORKER"):
            shared = shared.parent
        folder = shared / f"once-{name}"
        with filelock.FileLock(f"{folder}.lock"):
            if not (folder / ".done").exists():
                shutil.rmtree(folder, ignore_errors=True)  # of a build that failed
                folder.mkdir()
                build(folder)
                (folder / ".done").touch()
        return folder

    return make


@pytest.fixture(scope="session")
def migrated(made_once) -> Path:
    """An MLflow database with all its migrations, which take seconds."""
    from pytest_mlgates.registry.store import MlflowRegistry

    def build(folder: Path) -> None:
        MlflowRegistry(f"sqlite:///{folder / 'mlflow.db'}", create=True).names()

    return made_once("registry", build) / "mlflow.db"


def pytest_collection_modifyitems(items):
    """Long tests first on each worker, so that none ends alone; proofs at full size only under `make prove`."""
    slow = sorted((item for item in items if item.get_closest_marker("slow")), key=_seconds, reverse=True)
    rest = [item for item in items if not item.get_closest_marker("slow")]
    # xdist's worksteal begins with one piece of the list a worker, and steals from the ends
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    left, ordered = len(items), []
    for worker in range(workers):
        size = left // (workers - worker)
        first = slow[worker::workers]
        fill = max(0, size - len(first))
        ordered += [*first, *rest[:fill]]
        rest = rest[fill:]
        left -= size
    items[:] = [*ordered, *rest]
    if os.environ.get("MLGATES_PROVE") == "1":
        return
    for item in items:
        if item.get_closest_marker("prove"):
            item.add_marker(pytest.mark.skip(reason="a proof at full size: make prove"))


def _seconds(item) -> float:
    """What a slow test's marker says that it takes, about."""
    return (item.get_closest_marker("slow").args or (20,))[0]
