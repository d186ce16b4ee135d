from __future__ import annotations

import pytest

from tests.promotion.conftest import make_world, world  # noqa: F401 fixtures
from tests.promotion.world import World

from .ready import Ready


@pytest.fixture(scope="session")
def empty_registry(migrated):
    """What `make_world` copies."""
    return migrated


@pytest.fixture(scope="session")
def ready_once(tmp_path_factory, empty_registry):
    """Built once a worker; tests take a copy (`ready`) or only look."""
    found = Ready.build(World.make(tmp_path_factory.mktemp("ready") / "project", empty_registry))
    yield found
    found.close()


@pytest.fixture
def ready(ready_once, tmp_path):
    """A project in which all twelve readiness items hold, with a health page that answers."""
    found = ready_once.copy(tmp_path / "project")
    yield found
    found.close()
