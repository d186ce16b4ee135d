"""What must be imported before any `pytester` is made: it puts sys.modules back, and numpy, for one, cannot be imported twice."""

import importlib
import io

import pandas as pd

HEAVY = (
    "pytest_mlgates.checks",
    "pytest_mlgates.evidence",
    "pytest_mlgates.lakehouse",
    "pytest_mlgates.registry.store",
    "pytest_mlgates.services.evaluate",
    "pytest_mlgates.services.evidence_store",
    "mlflow.sklearn",
    "mlflow.store.model_registry.sqlalchemy_store",
    "mlflow.store.tracking.sqlalchemy_store",
    "pytest_mlgates.services.drift_gate",
    "pytest_mlgates.services.monitor",
    "sklearn.ensemble",
    "sklearn.linear_model",
    "sklearn.pipeline",
    "sklearn.preprocessing",
)


def load() -> None:
    """Import all of it."""
    for heavy in HEAVY:
        importlib.import_module(heavy)


load()
pd.DataFrame({"a": [1]}).to_parquet(io.BytesIO())  # registers pandas' Arrow types, which can be done once only
