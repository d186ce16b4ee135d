"""A lakehouse of 20 properties and a real registry with both reference models, made once."""

import dataclasses
import shutil
import warnings
from pathlib import Path

import pytest

from pytest_mlgates.lakehouse import Lakehouse
from pytest_mlgates.reference.synthesise import Scale, synthesise
from pytest_mlgates.reference.train import CHALLENGER, ForestParams, train
from pytest_mlgates.registry.tracking import MlflowTracker
from pytest_mlgates.wiring import Project
from tests import heavy  # noqa: F401 before any `pytester`

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # MLflow warns of its own type hints when it is first imported
    import mlflow.pyfunc
    import mlflow.sklearn  # noqa: F401

SETTINGS = """
tracking_uri = "sqlite:///mlflow.db"
lakehouse = "lakehouse"

[models."casino-slot-revenue-forecast-*"]
task = "regression"
target = "revenue"
holdout = "lh_gold.slot_revenue_holdout"

[models."casino-slot-revenue-forecast-*".drift]
table = "lh_gold.slot_revenue_features"
time_column = "play_date"
"""


@dataclasses.dataclass(frozen=True)
class Ring:
    """A project folder whose challenger v1 is in Production."""

    folder: Path
    project: Project
    model: str = CHALLENGER

    @property
    def store(self):
        return self.project.lakehouse

    @property
    def registry(self):
        return self.project.registry


@pytest.fixture(scope="session")
def trained_folder(made_once, tmp_path_factory, migrated):
    folder = tmp_path_factory.mktemp("drift-ring") / "project"
    shutil.copytree(made_once("drift-ring", lambda folder: _build(folder, migrated)), folder)
    return folder


def _build(folder, migrated):
    (folder / "mlgates.toml").write_text(SETTINGS)
    synthesise(Lakehouse(folder / "lakehouse"), Scale(properties=20, machines=1, days=260))
    shutil.copy(migrated, folder / "mlflow.db")
    project = Project.open(folder / "mlgates.toml")
    train(
        MlflowTracker(project.settings.tracking_uri), project.lakehouse, params=ForestParams(20, 8, 5), intent="baseline",
        only="challenger", environ={"GIT_SHA": "abc123"},
    )  # fmt: skip
    project.registry.set_stage(CHALLENGER, "1", "Production")


@pytest.fixture
def ring(trained_folder, tmp_path):
    """The trained project with a lakehouse of this test's own."""
    shutil.copytree(trained_folder / "lakehouse", tmp_path / "lakehouse")
    text = SETTINGS.replace("sqlite:///mlflow.db", f"sqlite:///{trained_folder}/mlflow.db")
    (tmp_path / "mlgates.toml").write_text(text)
    return Ring(tmp_path, Project.open(tmp_path / "mlgates.toml"))


@pytest.fixture(scope="session")
def quiet_ring(trained_folder):
    """The trained project itself; for tests that write nothing."""
    return Ring(trained_folder, Project.open(trained_folder / "mlgates.toml"))
