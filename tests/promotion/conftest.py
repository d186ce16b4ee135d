from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_mlgates.registry.store import MlflowRegistry

from .world import World


@pytest.fixture(scope="session")
def empty_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with all its migrations, made once: they take seconds."""
    path = tmp_path_factory.mktemp("registry") / "mlflow.db"
    MlflowRegistry(f"sqlite:///{path}", create=True).names()
    return path


@pytest.fixture
def make_world(tmp_path: Path, empty_registry: Path) -> Callable[..., World]:
    def make(folder: str = "project", **options: str) -> World:
        return World.make(tmp_path / folder, empty_registry, **options)

    return make


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world()
