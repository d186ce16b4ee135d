"""What all tests share."""

import os
from pathlib import Path

import filelock
import pytest

pytest_plugins = ["pytester"]


@pytest.fixture(scope="session")
def migrated(tmp_path_factory) -> Path:
    """An MLflow database with all its migrations, made once a run, also under xdist: they take seconds. To be copied."""
    from pytest_mlgates.registry.store import MlflowRegistry

    shared = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        shared = shared.parent
    path = shared / "migrated.db"
    with filelock.FileLock(f"{path}.lock"):
        if not path.is_file():
            making = shared / "migrating.db"
            making.unlink(missing_ok=True)
            MlflowRegistry(f"sqlite:///{making}", create=True).names()
            making.rename(path)
    return path


def pytest_collection_modifyitems(items):
    """Long tests first, so that no worker ends alone; proofs at full size only under `make prove`."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    if os.environ.get("MLGATES_PROVE") == "1":
        return
    for item in items:
        if item.get_closest_marker("prove"):
            item.add_marker(pytest.mark.skip(reason="a proof at full size: make prove"))
