"""A logged model behind the `ports.Predictor` protocol: its signature, and its answers to frames cast to it."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from pytest_mlgates.errors import ModelUnusable, nearest
from pytest_mlgates.garbage import rare_collections
from pytest_mlgates.ports import Column
from pytest_mlgates.registry.quiet import mlflow, one_line, quiet


class MlflowPredictor:
    """A loaded model.

    ``pyfunc`` is MLflow's own wrapper (it enforces the signature), ``native`` the scikit-learn object inside where the model
    has one, else ``None``.
    """

    def __init__(self, pyfunc: Any, label: str) -> None:
        self.pyfunc = pyfunc
        self.label = label

    @cached_property
    def inputs(self) -> tuple[Column, ...]:
        """Input columns of the signature, in order; empty when the model has none."""
        return signature_columns(self.pyfunc.metadata.signature)

    @cached_property
    def tensor_dtype(self) -> str:
        """Element type of a signature that is one unnamed tensor (a model logged with arrays), else empty."""
        schema = getattr(self.pyfunc.metadata.signature, "inputs", None)
        if schema is None or schema.has_input_names() or not schema.is_tensor_spec():
            return ""
        return str(schema.inputs[0].type)

    @cached_property
    def native(self) -> Any:
        """The scikit-learn object inside, ``None`` for other flavours."""
        if "sklearn" not in self.pyfunc.metadata.flavors:
            return None
        return self.pyfunc.get_raw_model()

    def predict(self, frame: Any) -> Any:
        """Return what the model answers to the signature's columns of ``frame``, cast to the signature's types.

        Raises
        ------
        ModelUnusable
            A column is missing or cannot be cast, or the model raised.
        """
        missing = [c.name for c in self.inputs if c.required and c.name not in frame.columns]
        if missing:
            message = f"{self.label}: the input has no column {missing[0]!r}; {nearest(missing[0], map(str, frame.columns))}"
            raise ModelUnusable(message)
        try:
            given = cast(frame[[c.name for c in self.inputs if c.name in frame.columns]], self.inputs) if self.inputs else frame
            with quiet():
                return self.pyfunc.predict(given)
        except Exception as error:  # a model is somebody else's code: it may raise anything
            raise ModelUnusable(f"{self.label}: predict failed with {type(error).__name__}: {one_line(error)}") from error

    def predict_proba(self, frame: Any) -> Any:
        """Class probabilities, shape (n, classes), where the model has a scikit-learn ``predict_proba``; else ``None``."""
        if not hasattr(self.native, "predict_proba"):
            return None
        columns = [c.name for c in self.inputs]
        return self.native.predict_proba(cast(frame[columns], self.inputs) if columns else frame)


def load_folder(folder: Path, label: str) -> MlflowPredictor:
    """Load a logged model from its folder. Raises ModelUnusable."""
    try:
        with quiet(), rare_collections():
            return MlflowPredictor(mlflow.pyfunc.load_model(str(folder)), label)
    except Exception as error:  # unpickling may raise anything
        raise ModelUnusable(f"{label}: cannot be loaded: {type(error).__name__}: {one_line(error)}") from error


def signature_columns(signature: Any) -> tuple[Column, ...]:
    """Input columns of an MLflow signature; empty for none or for a tensor signature."""
    schema = getattr(signature, "inputs", None)
    if schema is None or not schema.has_input_names():
        return ()
    return tuple(Column(c.name, getattr(c.type, "name", str(c.type)), bool(c.required)) for c in schema.inputs)


_DTYPES = {"double": "float64", "float": "float32", "long": "int64", "integer": "int32", "boolean": "bool"}


def cast(frame: Any, columns: tuple[Column, ...]) -> Any:
    """Return ``frame`` with each column in its signature's type where that loses nothing (int64 to double, say)."""
    kinds = {}
    for column in columns:
        wanted = _DTYPES.get(column.type)
        if wanted is None or column.name not in frame.columns or str(frame[column.name].dtype) == wanted:
            continue
        if frame[column.name].dtype.kind not in "biuf" or (wanted[0] != "f" and frame[column.name].isna().any()):
            continue  # MLflow names a type that does not fit better than a cast would
        if wanted[0] == "f" or (frame[column.name] == frame[column.name].astype(wanted)).all():
            kinds[column.name] = wanted
    return frame.astype(kinds) if kinds else frame
