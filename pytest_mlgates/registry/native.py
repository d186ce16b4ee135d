"""A scikit-learn model out of its MLflow folder without importing MLflow.

A server's workers need no more than this: MLflow's import alone costs seconds of CPU and over a hundred megabytes in every process tree. It
is used only for folders that MLflow itself loaded and answered from before, with equal answers (`pytest_mlgates.serving`).
"""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

from pytest_mlgates.errors import ModelUnusable
from pytest_mlgates.ports import Column


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


def _read(path: Path, flavor: dict[str, Any]) -> Any:
    kind = flavor.get("serialization_format", "pickle")
    if kind == "skops":
        import skops.io  # type: ignore[import-untyped]

        return skops.io.load(path, trusted=flavor.get("skops_trusted_types") or [])
    if kind not in ("pickle", "cloudpickle"):
        raise ModelUnusable(f"serialization format {kind!r} is unknown here")
    with path.open("rb") as file:
        return pickle.load(file)  # noqa: S301 the same file that MLflow unpickled before
