"""A small project for the endpoint's tests: real MLflow models in a SQLite registry, a lakehouse, settings."""

from __future__ import annotations

import os
import shutil
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

import pytest_mlgates.registry  # noqa: F401 before MLflow: it keeps pyspark-client from ending an xdist worker

SEED = 20261
NUMERIC = ["day_of_week", "is_holiday", "promo_active", "lag_7_revenue", "lag_30_revenue"]
TUTORIAL_ROW = {"day_of_week": 5, "is_holiday": 0, "promo_active": 1, "lag_7_revenue": 412900.0, "lag_30_revenue": 405200.0}

SETTINGS = """
tracking_uri = "sqlite:///mlflow.db"
lakehouse = "lakehouse"
[models."*"]
task = "regression"
target = "revenue"
holdout = "lh_gold.slot_revenue_holdout"
"""


def rows(n: int, seed: int = SEED) -> pd.DataFrame:
    """Rows of the reference model's inputs."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "day_of_week": rng.integers(0, 7, n),
            "is_holiday": rng.integers(0, 2, n),
            "promo_active": rng.integers(0, 2, n),
            "lag_7_revenue": rng.normal(4e5, 6e4, n),
            "lag_30_revenue": rng.normal(4e5, 4e4, n),
        }
    )


def mixed_rows(n: int, seed: int = SEED) -> pd.DataFrame:
    """Rows with categories, unseen ones among them, and missing values."""
    rng = np.random.default_rng(seed)
    frame = rows(n, seed)[["lag_7_revenue", "lag_30_revenue"]]
    frame.loc[rng.random(n) < 0.1, "lag_7_revenue"] = np.nan
    frame["region"] = rng.choice(["north", "south", "east", "nowhere"], n)
    return frame


def revenue(frame: pd.DataFrame, seed: int = SEED) -> np.ndarray:
    """A target with an interaction."""
    rng = np.random.default_rng(seed)
    base = 0.5 * frame["lag_7_revenue"].fillna(4e5) + 0.4 * frame["lag_30_revenue"].fillna(4e5)
    return np.asarray(base + rng.normal(0, 1e4, len(frame)))


def models(trees: int = 200) -> dict[str, tuple[object, pd.DataFrame]]:
    """Model and training rows by name."""
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    frame = rows(4000)
    with_gaps = frame.copy()
    with_gaps.loc[np.random.default_rng(1).random(len(frame)) < 0.05, "lag_30_revenue"] = np.nan
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    words = OneHotEncoder(handle_unknown="ignore")
    mixed = make_column_transformer((numbers, ["lag_7_revenue", "lag_30_revenue"]), (words, ["region"]))
    forest = RandomForestRegressor(trees, max_depth=8, min_samples_leaf=5, n_jobs=1, random_state=0)
    return {
        "ridge": (make_pipeline(StandardScaler(), Ridge()), frame),
        "forest": (forest, frame),
        "boosting": (HistGradientBoostingRegressor(max_iter=100, random_state=0), with_gaps),
        "mixed": (make_pipeline(mixed, Ridge()), mixed_rows(4000)),
    }


def register(folder: Path, name: str, model: object, frame: pd.DataFrame, *, stage: str = "", shift: float = 0.0) -> str:
    """Fit, log and register a model; return its version."""
    os.environ.setdefault("MLFLOW_UV_AUTO_DETECT", "false")
    import mlflow
    from mlflow.models import infer_signature

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(frame, revenue(frame) + shift)
        mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
        if mlflow.get_experiment_by_name("tests") is None:
            mlflow.create_experiment("tests", artifact_location=str(folder / "mlartifacts"))
        mlflow.set_experiment("tests")
        with mlflow.start_run():
            info = mlflow.sklearn.log_model(
                model, name="model", signature=infer_signature(frame, model.predict(frame)), pip_requirements=["scikit-learn"],
                serialization_format="cloudpickle", registered_model_name=name,
            )  # fmt: skip
        version = str(info.registered_model_version)
        if stage:
            mlflow.MlflowClient().transition_model_version_stage(name, version, stage, archive_existing_versions=True)
    return version


def move(folder: Path, name: str, version: str, stage: str) -> None:
    """Move a version's stage, archiving what is there."""
    import mlflow

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        uri = f"sqlite:///{folder / 'mlflow.db'}"
        client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
        client.transition_model_version_stage(name, version, stage, archive_existing_versions=True)


def make_project(folder: Path, migrated: Path) -> None:
    """All four models in Production, a second Ridge in Staging, a third that answers 300,000 too much."""
    (folder / "mlgates.toml").write_text(SETTINGS)
    shutil.copy(migrated, folder / "mlflow.db")
    made = models()
    for name, (model, frame) in made.items():
        register(folder, name, model, frame, stage="Production")
    from sklearn.base import clone

    register(folder, "ridge", clone(made["ridge"][0]), rows(3000, 5), stage="Staging")
    register(folder, "ridge", clone(made["ridge"][0]), rows(3000, 6), shift=3e5)
