"""One loaded model version, scored by the cheapest way that gives MLflow's own answers to the last bit.

Three ways, tried in this order when the version is loaded, each compared with ``pyfunc.predict`` on probe rows before it is used:

``kernel``
    single rows through `kernels`, no data frame;
``native``
    the scikit-learn object on a data frame of the signature's types: what pyfunc calls after it has enforced the schema;
``pyfunc``
    MLflow's own way, always right.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import math
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pytest_mlgates.endpoint import kernels
from pytest_mlgates.endpoint.schema import InputSchema, ModelRefused, Rows
from pytest_mlgates.errors import ModelUnusable
from pytest_mlgates.ports import Column, Predictor

log = logging.getLogger("pytest_mlgates.endpoint")

_DTYPES = {"double": "float64", "float": "float32", "long": "int64", "integer": "int32", "boolean": "bool"}
_MOMENTS = "datetime64[ns]"
_PROBES = 64
_FEWEST_PROBES = 6
_FEWEST_IF_PROVEN = 3
_PROBE_BUDGET_S = 0.4
SLOW_CALL_S = 0.004


@dataclasses.dataclass(frozen=True, slots=True)
class Way:
    """How a version is scored, and why nothing faster: for the log, ``/health`` and the tests."""

    single: str
    batch: str
    reason: str
    seconds: float


class Scorer:
    """A model version that answers requests.

    Parameters
    ----------
    predictor
        Loaded model with ``inputs``, ``pyfunc`` and ``native`` (`registry.predictor.MlflowPredictor`), or any `ports.Predictor`.
    name, version
        What the answers say they come from.
    max_rows
        See `InputSchema`.
    """

    def __init__(self, predictor: Predictor, name: str, version: str, *, max_rows: int = 10_000) -> None:
        self.name = name
        self.version = version
        self.inputs: tuple[Column, ...] = tuple(predictor.inputs)
        self.schema = InputSchema(self.inputs, max_rows=max_rows)
        self._pyfunc = getattr(predictor, "pyfunc", predictor)
        self._native = getattr(predictor, "native", None)
        self._tensor = str(getattr(predictor, "tensor_dtype", ""))
        self._dtypes = {c.name: _MOMENTS if c.type == "datetime" else _DTYPES.get(c.type, "object") for c in self.inputs}
        self._narrow = np.array([c.type == "float" for c in self.inputs], dtype=bool)
        self._kernel: kernels.Kernel | None = None
        self._compiled: kernels.Kernel | None = None
        self._use_native = False
        self.without_mlflow = False
        self.way = Way("pyfunc", "pyfunc", "not prepared yet", 0.0)

    def compile(self) -> None:
        """Build the kernel, uncalled, before a fork, so that its arrays are shared; a failure is left to `prepare`."""
        with contextlib.suppress(Exception):
            self._compiled = kernels.compile_kernel(self._native)

    def prepare(self, proven: str = "") -> Way:
        """Choose the way by comparing answers on probe rows; call once, in the process that will score.

        With ``proven`` (``kernel`` or ``native``: what this comparison chose for these files elsewhere) MLflow is not asked again; a
        kernel is still held against the model's own answers.

        At least 6 rows are compared, and up to 64 as long as pyfunc needs no more than 0.4 s for them.

        Raises
        ------
        ModelUnusable
            The model does not answer its own signature with one finite number per row on any probe row.
        """
        if not self.inputs:  # nothing to make probe rows from: MLflow's own way, whatever the rows
            return self._settled("the signature names no columns" if self._tensor else "no signature", math.nan)
        if proven:
            self._pyfunc, self._use_native, self.without_mlflow = self._native, True, True
        probes, truth = [], []
        deadline = time.perf_counter() + _PROBE_BUDGET_S
        for index in range(_PROBES):
            if index >= _FEWEST_PROBES and time.perf_counter() > deadline:
                break
            probes.append(self._probe(index))
            truth.append(_attempt(lambda: self._by_pyfunc([probes[-1]])))
            if proven and len(probes) == _FEWEST_IF_PROVEN:
                break
        if all(answer is None for answer in truth):
            self._by_pyfunc([probes[0]])  # raises, saying what the model said
            raise ModelUnusable(f"{self.name} v{self.version}: no finite answer to any row of its own signature")
        reason = "" if proven else self._choose_native(probes, truth)
        kernel_reason = self._choose_kernel(probes, truth)
        return self._settled(kernel_reason or reason, self._cost(probes, truth))

    def _settled(self, reason: str, seconds: float) -> Way:
        single = "kernel" if self._kernel else ("native" if self._use_native else "pyfunc")
        self.way = Way(single, "native" if self._use_native else "pyfunc", reason, seconds)
        level = logging.INFO if self._kernel else logging.WARNING
        took = "not timed" if math.isnan(seconds) else f"{seconds * 1e3:.2f} ms"
        log.log(
            level, "%s v%s: single rows by %s (%s), batches by %s%s", self.name, self.version, single, took,
            self.way.batch, f"; no fast path: {self.way.reason}" if self.way.reason else "",
        )  # fmt: skip
        return self.way

    @property
    def slow(self) -> bool:
        """Whether a single row takes long enough to be scored off the event loop."""
        return not self.way.seconds <= SLOW_CALL_S  # NaN, not timed, may be slow

    def score(self, rows: Rows) -> list[Any]:
        """Return one prediction per row.

        Raises
        ------
        ModelRefused
            The model refuses these values, or its answer is not finite.
        """
        if self._kernel is not None and len(rows.values) == 1:
            row = np.array(rows.values[0], dtype=np.float64)
            value = self._kernel(self._as_model_sees(row))
            if value is not None and math.isfinite(value):
                return [value]
        try:
            return (
                self._by_native(rows.values, rows.columns) if self._use_native else self._by_pyfunc(rows.values, rows.columns)
            )
        except ModelUnusable as error:
            raise ModelRefused(str(error)) from None

    def _as_model_sees(self, row: Any) -> Any:
        if self._narrow.any():
            row[self._narrow] = row[self._narrow].astype(np.float32)
        return row

    def _choose_native(self, probes: list[list[Any]], truth: list[Any]) -> str:
        if self._native is None:
            return "not a scikit-learn model"
        if any(c.type not in _DTYPES and c.type != "string" for c in self.inputs):
            return "the signature has types other than numbers, booleans and strings"
        differing = self._differing(lambda row: self._by_native([row]), probes, truth)
        if differing:
            return f"scikit-learn's own predict differs from pyfunc on {differing} of {len(probes)} probe rows"
        good = [row for row, answer in zip(probes, truth, strict=True) if answer is not None]
        if self._by_native(good) != self._by_pyfunc(good):
            return "scikit-learn's own predict differs from pyfunc on a batch"
        self._use_native = True
        return ""

    def _choose_kernel(self, probes: list[list[Any]], truth: list[Any]) -> str:
        if not self._use_native:
            return ""
        if any(c.type == "string" for c in self.inputs):
            return "the signature has string columns"
        if np.result_type(*(self._dtypes[c.name] for c in self.inputs)) == np.float32:
            return "the model computes in float32"
        try:
            kernel = self._compiled or kernels.compile_kernel(self._native)
        except Exception as error:  # noqa: BLE001 a model of another scikit-learn version may lack any attribute
            return f"its kernel cannot be built: {type(error).__name__}: {error}"
        if kernel is None:
            return f"{_describe(self._native)} has no kernel"
        found = kernel

        def by_kernel(row: list[Any]) -> list[Any]:
            value = found(self._as_model_sees(np.array(row, dtype=np.float64)))
            return [value] if value is not None else self._by_native([row])

        differing = self._differing(by_kernel, probes, truth)
        if differing:
            return f"the kernel differs from pyfunc on {differing} of {len(probes)} probe rows"
        self._kernel = kernel
        return ""

    def _differing(self, answer: Callable[[list[Any]], list[Any]], probes: list[list[Any]], truth: list[Any]) -> int:
        found = [_attempt(functools.partial(answer, row)) for row in probes]
        return sum(a != b for a, b in zip(found, truth, strict=True))

    def _cost(self, probes: list[list[Any]], truth: list[Any]) -> float:
        good = next(row for row, answer in zip(probes, truth, strict=True) if answer is not None)
        rows = Rows(self.schema.names, [good])
        costs = []
        for _ in range(3):
            start = time.perf_counter()
            self.score(rows)
            costs.append(time.perf_counter() - start)
        return min(costs)

    def _frame(self, values: list[list[Any]], columns: Sequence[str] = ()) -> Any:
        if self._tensor:
            return np.array(values, dtype=self._tensor)
        if not self.inputs:
            return pd.DataFrame(values, columns=list(columns))
        columns_of_values = zip(self.schema.names, zip(*values, strict=True), strict=True)
        return pd.DataFrame({name: _array(column, self._dtypes[name]) for name, column in columns_of_values})

    def _by_native(self, values: list[list[Any]], columns: Sequence[str] = ()) -> list[Any]:
        return self._answers(self._native, values, columns)

    def _by_pyfunc(self, values: list[list[Any]], columns: Sequence[str] = ()) -> list[Any]:
        return self._answers(self._pyfunc, values, columns)

    def _answers(self, model: Any, values: list[list[Any]], columns: Sequence[str]) -> list[Any]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = model.predict(self._frame(values, columns))
        except Exception as error:
            text = " ".join(str(error).split())[:300]
            raise ModelUnusable(f"the model refuses these values: {text}") from error
        out = found.tolist() if hasattr(found, "tolist") else pd.DataFrame(found).to_numpy().tolist()
        if len(out) != len(values):
            raise ModelUnusable(f"the model gave {len(out)} answers to {len(values)} rows")
        for i, value in enumerate(out):
            if isinstance(value, float) and not math.isfinite(value):
                raise ModelUnusable(f"the model's answer to row {i} is not a finite number; check that row's values")
        return out

    def _probe(self, index: int) -> list[Any]:
        """A row of the signature's types: integers, numbers of every size, sometimes missing ones."""
        rng = np.random.default_rng(index)
        out: list[Any] = []
        for column in self.inputs:
            size = 10.0 ** int(rng.integers(-2, 7))
            if column.type in ("long", "integer"):
                out.append(int(rng.integers(-3, max(int(size), 1) + 1)))
            elif column.type == "boolean":
                out.append(bool(rng.integers(0, 2)))
            elif column.type == "string":
                out.append(["a", "b", "unseen before", ""][int(rng.integers(0, 4))])
            elif column.type == "datetime":
                out.append(f"{int(rng.integers(1990, 2035))}-{int(rng.integers(1, 13)):02}-11T08:30:00")
            elif index % 5 == 4 and rng.random() < 0.3:
                out.append(math.nan)
            else:
                value = float(rng.normal() * size)
                out.append(float(np.float32(value)) if column.type == "float" else value)
        return out


def _array(values: Sequence[Any], dtype: str) -> Any:
    if dtype != "object":
        return np.array(values, dtype=dtype)
    out = np.empty(len(values), dtype=object)
    for i, value in enumerate(values):  # one by one: lists of one length would become a matrix
        out[i] = value
    return out


def _attempt(answer: Callable[[], list[Any]]) -> Any:
    """The answer, or ``None`` where the model refuses."""
    try:
        return answer()
    except ModelUnusable:
        return None


def _describe(model: Any) -> str:
    name = type(model).__name__
    if name != "Pipeline":
        return name
    return "Pipeline(" + ", ".join(type(step).__name__ for _, step in model.steps) + ")"
