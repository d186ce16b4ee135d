from __future__ import annotations

import os
import shutil

import pytest

from pytest_mlgates.endpoint import server
from tests.endpoint.serving_project import make_project

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

FULL = os.environ.get("MLGATES_PROVE") == "1"


@pytest.fixture(scope="session")
def settings(made_once, tmp_path_factory, migrated):
    """A project with real models, made once a run; the worker's own copy."""
    folder = tmp_path_factory.mktemp("serving") / "project"
    shutil.copytree(made_once("serving", lambda folder: make_project(folder, migrated)), folder)
    return folder / "mlgates.toml"


@pytest.fixture(scope="session")
def ridge(settings, tmp_path_factory):
    """An endpoint over the Ridge model, two workers, stage not followed."""
    state = tmp_path_factory.mktemp("ridge-endpoint")
    with server.start(settings, model="ridge", state=state, follow_every_s=0.3) as running:
        yield running
