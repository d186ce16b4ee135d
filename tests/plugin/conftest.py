"""A small real project: a registry on SQLite with honest and broken versions, a holdout as a Delta table."""

import dataclasses
import io
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from tests import heavy

SETTINGS = """\
tracking_uri = "{uri}"
lakehouse = "{lakehouse}"

[models."demand*"]
task = "regression"
target = "y"
holdout = "lh_gold.demand_holdout"
baseline = "models:/demand-baseline/Production"
domain = "retail"
[models."demand*".gates]
performance = {{ metric = "r2", min_ratio = 0.95, floor = 0.5 }}
latency     = {{ p99_max_ms = 500, calls = 500 }}
"""

# versions of the model `demand`, in order
GOOD, SHUFFLED, NO_SIGNATURE, BARE, EXTRA_COLUMN, ANSWERS_NAN = range(1, 7)


@dataclasses.dataclass(frozen=True)
class DemandProject:
    """Where it is, and the text of its settings."""

    folder: Path

    @property
    def uri(self):
        return f"sqlite:///{self.folder / 'mlflow.db'}"

    @property
    def lakehouse(self):
        return str(self.folder / "lakehouse")

    @property
    def settings(self):
        return SETTINGS.format(uri=self.uri, lakehouse=self.lakehouse)


def rows(n, seed):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"price": rng.normal(10, 2, n), "promo": rng.integers(0, 2, n).astype(float)})
    frame["y"] = 100 - 5 * frame["price"] + 20 * frame["promo"] + rng.normal(0, 6, n)
    return frame


class NaNModel:
    """Answers nothing but NaN."""

    def predict(self, x):
        return np.full(len(x), np.nan)


def build(folder, migrated):
    from sklearn.linear_model import LinearRegression

    from pytest_mlgates import checks
    from pytest_mlgates.lakehouse import Lakehouse
    from pytest_mlgates.registry.store import MlflowRegistry, mlflow
    from pytest_mlgates.rows import row_keys

    project = DemandProject(folder)
    shutil.copy(migrated, folder / "mlflow.db")
    registry = MlflowRegistry(project.uri)
    train, held = rows(2000, 1), rows(1500, 2)
    Lakehouse(project.lakehouse).overwrite("lh_gold.demand_holdout", pa.Table.from_pandas(held, preserve_index=False))
    columns = ["price", "promo"]
    good = LinearRegression().fit(train[columns], train["y"])
    plain = LinearRegression().fit(train[["promo"]], train["y"])
    rng = np.random.default_rng(3)
    shuffled = LinearRegression().fit(train[columns], rng.permutation(train["y"]))
    extra = LinearRegression().fit(train.assign(stock=1.0)[["price", "promo", "stock"]], train["y"])

    mlflow.set_tracking_uri(project.uri)
    experiment = registry.client.create_experiment("/Shared/demand", artifact_location=(folder / "artifacts").as_uri())

    def log(name, model, used, signature=True, stored=True):
        with mlflow.start_run(experiment_id=experiment) as run:
            kinds = mlflow.models.infer_signature(train.assign(stock=1.0)[used], np.zeros(2)) if signature else None
            info = mlflow.sklearn.log_model(
                model, name="model", signature=kinds, pip_requirements=["scikit-learn"], serialization_format="cloudpickle"
            )
            mlflow.log_metric("r2", 0.9)
        if name not in registry.names():
            registry.client.create_registered_model(name)
        made = registry.client.create_model_version(name, info.model_uri, run.info.run_id if stored else None)
        version = registry.get(name, str(made.version))
        if stored and signature and set(used) <= set(held.columns):
            expected = pd.DataFrame({"row_key": row_keys(held), "expected": model.predict(held[used])})
            hashes = pd.DataFrame({"row_hash": checks.row_hashes(train[[*used, "y"]])})
            for path, frame in (("expected_predictions", expected), ("training_rows", hashes)):
                buffer = io.BytesIO()
                frame.to_parquet(buffer)
                registry.log_artifact(version, f"mlgates/{path}.parquet", buffer.getvalue())
        return version

    log("demand-baseline", plain, ["promo"])
    registry.set_stage("demand-baseline", "1", "Production")
    log("demand", good, columns)
    log("demand", shuffled, columns)
    log("demand", good, columns, signature=False)
    log("demand", good, columns, stored=False)
    log("demand", extra, ["price", "promo", "stock"])
    log("demand", NaNModel(), columns, stored=False)
    registry.set_alias("demand", "challenger", str(GOOD))


@pytest.fixture(scope="session")
def demand(made_once, tmp_path_factory, migrated):
    """Built once a run; the worker's own copy of registry and tables, which tests change by storing evidence only."""
    made = made_once("demand", lambda folder: build(folder, migrated))
    folder = tmp_path_factory.mktemp("demand") / "project"
    shutil.copytree(made, folder, ignore=shutil.ignore_patterns("artifacts"))  # where models are, is in the registry
    return DemandProject(folder)


@pytest.fixture
def gates(pytester, demand, monkeypatch, tmp_path):
    """Run pytest in an empty directory with nothing but a settings file.

    In this process, unless told otherwise.
    """
    heavy.load()
    monkeypatch.setenv("MLGATES_CACHE", str(tmp_path / "cache"))
    for name in ("MODEL_NAME", "MODEL_VERSION", "MLFLOW_TRACKING_URI", "GITHUB_STEP_SUMMARY", "PYTEST_ADDOPTS"):
        monkeypatch.delenv(name, raising=False)
    pytester.makefile(".toml", mlgates=demand.settings)

    def run(*args, subprocess=False):
        start = pytester.runpytest_subprocess if subprocess else pytester.runpytest_inprocess
        return start(*map(str, args))

    return run
