from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from .world import World

Template = Callable[[str, Callable[[World], None]], World]


@pytest.fixture(scope="session")
def empty_registry(migrated: Path) -> Path:
    """An MLflow database with all its migrations."""
    return migrated


@pytest.fixture(scope="session")
def template(made_once: Callable[..., Path], empty_registry: Path) -> Template:
    """``template(name, fill)``: a world that is filled once a run. To be copied, its model files and evidence left as they are."""

    def make(name: str, fill: Callable[[World], None]) -> World:
        def build(folder: Path) -> None:
            world = World.make(folder / "project", empty_registry)
            fill(world)
            assert world.problems() == []

        folder = made_once(f"world-{name}", build) / "project"
        return World(folder, f"sqlite:///{folder / 'mlflow.db'}")

    return make


@pytest.fixture
def one_up(template: Template, tmp_path: Path) -> World:
    """v1 is Production, v2 in Staging, v3 in no stage; all have evidence."""

    def fill(world: World) -> None:
        for _ in range(3):
            world.add_version()
        world.promote("1", "Staging")
        world.hotfix("1")
        world.promote("2", "Staging")

    return template("one-up", fill).copy(tmp_path / "project")


@pytest.fixture
def make_world(tmp_path: Path, empty_registry: Path) -> Callable[..., World]:
    def make(folder: str = "project", **options: str) -> World:
        return World.make(tmp_path / folder, empty_registry, **options)

    return make


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world()
