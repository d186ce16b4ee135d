"""A scikit-learn model out of its MLflow folder without importing MLflow.

A server's workers need no more than this: MLflow's import alone costs seconds of CPU and over a hundred megabytes in every process tree. It
is used only for folders that MLflow itself loaded and answered from before, with equal answers (`pytest_mlgates.serving`).
"""

from __future__ import annotations

import importlib.metadata
import json
import pickle
from pathlib import Path
from typing import Any

from pytest_mlgates.errors import ModelUnusable
from pytest_mlgates.ports import Column

_PLAIN_TYPES = frozenset({"double", "float", "long", "integer", "boolean", "string"})


class NativePredictor:
    """A scikit-learn model and its signature."""

    pyfunc = None

    def __init__(self, native: Any, inputs: tuple[Column, ...]) -> None:
        self.native = native
        self.inputs = inputs

    def predict(self, frame: Any) -> Any:
        """What the model itself answers."""
        return self.native.predict(frame)


def load_native(folder: Path, label: str) -> NativePredictor:
    """Load the scikit-learn flavour of a logged model.

    Raises
    ------
    ModelUnusable
        The folder has no such flavour, brings code of its own, or cannot be loaded.
    """
    import yaml  # type: ignore[import-untyped]

    try:
        meta = yaml.safe_load((folder / "MLmodel").read_text("utf-8"))
        flavor, wrapper = meta["flavors"]["sklearn"], meta["flavors"].get("python_function", {})
        own_code = flavor.get("code") or wrapper.get("code") or wrapper.get("predict_fn", "predict") != "predict"
        given = json.loads(meta["signature"]["inputs"])
        inputs = tuple(Column(c["name"], c["type"], bool(c.get("required", True))) for c in given)
        native = None if own_code else _read(folder / flavor["pickled_model"], flavor)
    except Exception as error:  # unpickling may raise anything
        raise ModelUnusable(f"{label}: cannot be loaded without MLflow: {type(error).__name__}: {error}") from error
    if native is None:
        raise ModelUnusable(f"{label}: the model brings code or a predict of its own, so MLflow must load it")
    return NativePredictor(native, inputs)


def only_predicts(folder: Path) -> bool:
    """Whether MLflow's own way to score this model is: hold the rows against the signature, call scikit-learn's ``predict``.

    So says the model's description: the scikit-learn flavour of the scikit-learn that is installed, no code or predict of its own, no
    parameters, a signature of numbers, booleans and strings.
    """
    import yaml

    try:
        meta = yaml.safe_load((folder / "MLmodel").read_text("utf-8"))
        flavor, wrapper = meta["flavors"]["sklearn"], meta["flavors"]["python_function"]
        columns = json.loads(meta["signature"]["inputs"])
        return (
            wrapper["loader_module"] == "mlflow.sklearn"
            and wrapper.get("predict_fn", "predict") == "predict"
            and not (wrapper.get("code") or flavor.get("code") or meta["signature"].get("params"))
            and flavor["sklearn_version"] == importlib.metadata.version("scikit-learn")
            and bool(columns)
            and all(c["type"] in _PLAIN_TYPES and c["name"] for c in columns)
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError):
        return False


def _read(path: Path, flavor: dict[str, Any]) -> Any:
    kind = flavor.get("serialization_format", "pickle")
    if kind == "skops":
        import skops.io  # type: ignore[import-untyped]

        return skops.io.load(path, trusted=flavor.get("skops_trusted_types") or [])
    if kind not in ("pickle", "cloudpickle"):
        raise ModelUnusable(f"serialization format {kind!r} is unknown here")
    with path.open("rb") as file:
        return pickle.load(file)  # noqa: S301 the same file that MLflow unpickled before
