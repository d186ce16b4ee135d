"""One small lakehouse and one real registry on SQLite for the training tests of a session."""

import dataclasses
import shutil
from pathlib import Path

import pytest

from pytest_mlgates.lakehouse import Lakehouse
from pytest_mlgates.reference.synthesise import Scale, synthesise
from pytest_mlgates.reference.train import ForestParams, TrainingOutcome, train
from pytest_mlgates.registry.store import MlflowRegistry
from pytest_mlgates.registry.tracking import MlflowTracker

SMALL_FOREST = ForestParams(n_estimators=10, max_depth=6, min_samples_leaf=5)
ENVIRON = {"GIT_SHA": "abc123", "GIT_BRANCH": "main", "GITHUB_ACTOR": "ada"}


@dataclasses.dataclass(frozen=True)
class Trained:
    folder: Path
    store: Lakehouse
    tracker: MlflowTracker
    registry: MlflowRegistry
    outcome: TrainingOutcome


@pytest.fixture(scope="session")
def trained(tmp_path_factory, migrated):
    """Both models trained once on a year of five properties."""
    folder = tmp_path_factory.mktemp("reference")
    store = Lakehouse(folder / "lakehouse")
    synthesise(store, Scale(properties=5, machines=2))
    uri = f"sqlite:///{folder}/mlflow.db"
    shutil.copy(migrated, folder / "mlflow.db")
    tracker = MlflowTracker(uri)
    outcome = train(tracker, store, params=SMALL_FOREST, intent="baseline", environ=ENVIRON)
    return Trained(folder, store, tracker, MlflowRegistry(uri), outcome)
