"""What a gate judges: the candidate, the holdout, the baseline, and the predictions on it, made once."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import sys
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock
import numpy as np
import numpy.typing as npt
import pandas as pd

from pytest_mlgates import __version__, filedigests
from pytest_mlgates.errors import DataUnusable, ModelNotFound, ModelUnusable, nearest
from pytest_mlgates.rows import row_keys, table_digest
from pytest_mlgates.services.select import version_at
from pytest_mlgates.tables import TABLE_VERSION

if TYPE_CHECKING:
    from pytest_mlgates.config import ModelSettings, Settings
    from pytest_mlgates.ports import Column, ModelRegistry, ModelVersion, TableStore

EXPECTED_PREDICTIONS = "mlgates/expected_predictions.parquet"
TRAINING_ROWS = "mlgates/training_rows.parquet"
TRAINING_METRICS = "mlgates/training_metrics.json"
LOOK_TAG = "mlgates.look."

Scores = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Holdout:
    """The rows that a version is judged on.

    ``source`` is what the settings name; ``version`` the Delta version that was read, ``None`` for a file; ``digest`` covers
    the content, whatever the order of the rows; ``files`` are the digests of a table's data files by name.
    """

    source: str
    frame: pd.DataFrame
    target: str
    sensitive_columns: tuple[str, ...]
    version: int | None
    digest: str
    files: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def y(self) -> npt.NDArray[Any]:
        """Target, shape (n,)."""
        return self.frame[self.target].to_numpy()

    @property
    def sensitive(self) -> pd.DataFrame:
        """Sensitive columns, shape (n, k)."""
        return self.frame[list(self.sensitive_columns)]

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.frame)

    def describe(self) -> dict[str, Any]:
        """What the evidence records of it."""
        found = {"table": self.source, "version": self.version, "digest": self.digest, "rows": self.rows}
        return {**found, "files": dict(self.files)} if self.files else found


def load_holdout(store: TableStore, settings: ModelSettings, folder: Path) -> Holdout:
    """Read the holdout that the settings name: ``schema.table``, ``schema.table@VERSION``, or a .parquet or .csv path.

    Raises
    ------
    DataUnusable
        The file is absent or unreadable, the target or a sensitive column is missing, or there are no rows.
    LakehouseError
        The table is absent.
    """
    source = settings.holdout
    version: int | None = None
    files: dict[str, str] = {}
    if source.endswith((".parquet", ".csv")):
        frame = _read_file(folder / source)
        files = {Path(source).name: filedigests.digest(folder / source)}
    else:
        table, _, pinned = source.partition("@")
        if pinned and not TABLE_VERSION.fullmatch(pinned):
            raise DataUnusable(f"holdout {source!r}: {pinned!r} is not a table version; write {table}@3, say, or {table} alone")
        version = int(pinned) if pinned else store.version(table)
        frame = store.read(table, version=version).to_pandas()
        files = filedigests.of_version(store.folder(table), store.files(table, version), version)
    for column in (settings.target, *settings.sensitive):
        if column not in frame.columns:
            role = "target" if column == settings.target else "sensitive column"
            raise DataUnusable(
                f"holdout {source} has no column {column!r} ({role}); {nearest(column, map(str, frame.columns))}"
            )
    if frame.empty:
        raise DataUnusable(f"holdout {source} has no rows; write it again, or name another in the settings")
    return Holdout(source, frame, settings.target, settings.sensitive, version, table_digest(frame), files)


def _read_file(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise DataUnusable(f"holdout file {path} is not there; check the path in the settings (relative to the settings file)")
    try:
        return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    except Exception as error:  # a data file is untrusted: pyarrow and pandas raise many kinds
        raise DataUnusable(
            f"holdout file {path} cannot be read as {path.suffix[1:]}: {' '.join(str(error).split())[:200]}"
        ) from error


def look_tag(digest: str) -> str:
    """Key of the tag that says that a version was judged on the holdout of this digest; one tag a holdout, so that none is forgotten."""
    return LOOK_TAG + digest.removeprefix("sha256:")[:32]


def looks_at(
    registry: ModelRegistry, version: tuple[str, str], digest: str, names: Iterable[str], beside: Iterable[tuple[str, str]] = ()
) -> int:
    """How many versions have been judged on the holdout of this digest, the given one included.

    Parameters
    ----------
    version
        Name and version.
    names
        Registered models that are judged on the same holdout; a model under another name looks at it too.
    beside
        Names and versions that the same run judges on it: the best of them is chosen when all are known.
    """
    key = look_tag(digest)
    seen = {(v.name, v.version) for name in names for v in registry.versions(name) if key in v.tags}
    return len(seen | set(beside) | {version})


def models_on(registry: ModelRegistry, settings: Settings, name: str) -> list[str]:
    """Names of the registered models whose settings name the same holdout as those of ``name``."""
    source = settings.model(name).holdout.partition("@")[0]
    return [n for n in registry.names() if n == name or settings.holdout_of(n).partition("@")[0] == source]


class Candidate:
    """A model version under test. Nothing is fetched or loaded before it is asked for.

    Parameters
    ----------
    cache
        Folder that predictions are kept in, shared by the workers of one machine; ``None`` keeps them in memory only.
    """

    def __init__(
        self, registry: ModelRegistry, version: ModelVersion, settings: ModelSettings, cache: Path | None = None
    ) -> None:
        self.registry = registry
        self.version = version
        self.settings = settings
        self._cache = cache
        self._memory: dict[str, Scores] = {}

    @property
    def label(self) -> str:
        """``name v2``."""
        return self.version.label

    @cached_property
    def digest(self) -> str:
        """Digest over every file of the logged model."""
        return self.registry.artifact_digest(self.version)

    @cached_property
    def predictor(self) -> Any:
        """The loaded model. Raises ModelUnusable, also for a model without a signature."""
        predictor = self.registry.load(self.version)
        if not predictor.inputs:
            raise ModelUnusable(
                f"{self.label} has no signature with named input columns; log it again with signature="
                f"mlflow.models.infer_signature(X, predictions)"
            )
        return predictor

    @property
    def inputs(self) -> tuple[Column, ...]:
        """Input columns of the signature."""
        columns: tuple[Column, ...] = self.predictor.inputs
        return columns

    def x(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the signature's columns of a frame. Raises DataUnusable where a required one is missing."""
        missing = [c.name for c in self.inputs if c.required and c.name not in frame.columns]
        if missing:
            known = [str(c) for c in frame.columns]
            raise DataUnusable(
                f"{self.label} needs input column {missing[0]!r}, which the holdout {self.settings.holdout} lacks "
                f"({nearest(missing[0], known)}); add the column, or log the model with the signature it really has"
            )
        return frame[[c.name for c in self.inputs if c.name in frame.columns]]

    def predict(self, frame: pd.DataFrame) -> Scores:
        """Score rows: a value per row for a regression, the probability of class 1 for binary, (n, classes) for multiclass.

        Raises
        ------
        ModelUnusable
            The model raised, or did not answer with one finite number per row.
        """
        return as_scores(self.predictor, self.x(frame), self.settings.task, self.label)

    def predictions(self, holdout: Holdout) -> Scores:
        """`predict` on the holdout, made once per model, data and environment, and shared between processes."""
        key = self._key(holdout)
        if key not in self._memory:
            self._memory[key] = self._stored(key, holdout) if self._cache else self.predict(holdout.frame)
        return self._memory[key]

    def expected(self, holdout: Holdout) -> tuple[Scores | None, str]:
        """Predictions stored when the version was made, on the rows of this holdout; else ``None`` with the reason.

        Raises DataUnusable where some rows of the holdout are other than they were, and others are not.

        The artifact `EXPECTED_PREDICTIONS` has a column ``expected`` and either ``row_key`` (`rows.row_keys` of the holdout's
        rows, in any order) or as many rows as the holdout, in its order.
        """
        data = self.registry.read_artifact(self.version, EXPECTED_PREDICTIONS)
        if data is None:
            return None, (
                f"no stored expected predictions ({EXPECTED_PREDICTIONS} is not in the version's run); "
                f"store today's with: mlgates expect {self.version.name} {self.version.version}"
            )
        return _matched(_read_parquet(data, f"{self.label}: {EXPECTED_PREDICTIONS}"), holdout)

    @cached_property
    def _training_table(self) -> pd.DataFrame | None:
        data = self.registry.read_artifact(self.version, TRAINING_ROWS)
        return None if data is None else _read_parquet(data, f"{self.label}: {TRAINING_ROWS}")

    @property
    def training_rows(self) -> npt.NDArray[Any] | None:
        """Row hashes of the training data, ``None`` where the run has none."""
        table = self._training_table
        if table is None:
            return None
        return table["row_hash" if "row_hash" in table.columns else table.columns[0]].to_numpy()

    def training_times(self, column: str) -> npt.NDArray[Any] | None:
        """Time of each training row, where `TRAINING_ROWS` has a column of that name; else ``None``."""
        table = self._training_table
        return None if table is None or column not in table.columns else table[column].to_numpy()

    def hashes(self, holdout: Holdout) -> Any:
        """Row hashes of the holdout over inputs and target, to compare with `training_rows`; ``None`` without those."""
        if self.training_rows is None:
            return None
        from pytest_mlgates import checks

        return checks.row_hashes(self.x(holdout.frame).assign(**{holdout.target: holdout.y}))

    @cached_property
    def training_metrics(self) -> dict[str, dict[str, float]]:
        """Metrics per split as recorded at training; empty where the run has none."""
        data = self.registry.read_artifact(self.version, TRAINING_METRICS)
        if data is None:
            return {}
        try:
            found = json.loads(data)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def _key(self, holdout: Holdout) -> str:
        parts = [self.digest, holdout.digest, self.settings.task, __version__, sys.version, np.__version__, pd.__version__]
        order = hashlib.sha256(row_keys(holdout.frame).tobytes()).hexdigest()
        return hashlib.sha256("\n".join([*parts, order]).encode()).hexdigest()

    def _stored(self, key: str, holdout: Holdout) -> Scores:
        assert self._cache is not None
        self._cache.mkdir(parents=True, exist_ok=True)
        path = self._cache / f"{key}.npy"
        with filelock.FileLock(str(path) + ".lock"):
            if path.is_file():
                try:
                    return np.asarray(np.load(path, allow_pickle=False), dtype=np.float64)
                except (OSError, ValueError):  # cut off by a full disk or a kill: made again below
                    path.unlink(missing_ok=True)
            scores = self.predict(holdout.frame)
            scratch = path.with_suffix(f".{os.getpid()}.tmp")
            with scratch.open("wb") as file:
                np.save(file, scores, allow_pickle=False)
            scratch.replace(path)
        return scores


@dataclasses.dataclass(frozen=True)
class Baseline:
    """What gate 1 compares with. ``predictions`` is ``None`` where there is nothing to compare with; ``reason`` says why."""

    version: ModelVersion | None
    predictions: Scores | None
    reason: str
    digest: str = ""

    def describe(self) -> dict[str, Any]:
        """What the evidence records of it."""
        if self.version is None:
            return {"reason": self.reason}
        return {"model": self.version.name, "version": self.version.version, "digest": self.digest}


def load_baseline(registry: ModelRegistry, settings: ModelSettings, holdout: Holdout, cache: Path | None = None) -> Baseline:
    """Score the holdout with the baseline that the settings name."""
    if not settings.baseline:
        return Baseline(None, None, "no baseline in the settings")
    try:
        version = version_at(registry, settings.baseline)
    except ModelNotFound as error:
        return Baseline(None, None, str(error))
    other = Candidate(registry, version, settings, cache)
    return Baseline(version, other.predictions(holdout), "", other.digest)


def as_scores(predictor: Any, x: pd.DataFrame, task: str, label: str) -> Scores:
    """Score ``x`` and check the answer's shape and finiteness. Raises ModelUnusable."""
    answer = predictor.predict(x)
    scores = np.asarray(answer.to_numpy() if hasattr(answer, "to_numpy") else answer)
    if task != "regression" and scores.ndim == 1 and not _probabilities(scores):
        # a classifier logged with its plain `predict` answers labels; its probabilities are what can be judged
        asked = predictor.predict_proba(x) if hasattr(predictor, "predict_proba") else None
        if asked is not None:
            scores = np.asarray(asked)
    if scores.ndim == 2 and scores.shape[1] == 1:
        scores = scores[:, 0]
    if task == "binary" and scores.ndim == 2 and scores.shape[1] == 2:
        scores = scores[:, 1]
    wanted = 2 if task == "multiclass" else 1
    if scores.ndim != wanted or len(scores) != len(x):
        shape = f"({len(x)}, classes)" if wanted == 2 else f"({len(x)},)"
        raise ModelUnusable(
            f"{label}: predict answered shape {scores.shape} for {len(x)} rows, expected {shape} for task {task}"
        )
    try:
        numbers = scores.astype(np.float64)
    except (TypeError, ValueError):
        raise ModelUnusable(f"{label}: predict answered {scores.dtype}, expected numbers for task {task}") from None
    bad = int(np.count_nonzero(~np.isfinite(numbers)))
    if bad:
        raise ModelUnusable(f"{label}: {bad:,} of {numbers.size:,} predictions are NaN or infinite; no gate can judge them")
    return numbers


def _probabilities(scores: npt.NDArray[Any]) -> bool:
    """Whether answers can be probabilities: numbers, and not just the labels 0 and 1."""
    return scores.dtype.kind == "f" and not np.isin(scores, (0.0, 1.0)).all()


def _read_parquet(data: bytes, what: str) -> pd.DataFrame:
    try:
        return pd.read_parquet(io.BytesIO(data))
    except Exception as error:  # an artifact is untrusted
        raise DataUnusable(f"{what} cannot be read: {' '.join(str(error).split())[:200]}; store it again") from error


def _matched(stored: pd.DataFrame, holdout: Holdout) -> tuple[Scores | None, str]:
    if "expected" not in stored.columns:
        return None, f"{EXPECTED_PREDICTIONS} has no column 'expected'; it has {', '.join(map(str, stored.columns))}"
    values = stored["expected"].to_numpy(dtype=np.float64)
    if "row_key" not in stored.columns:
        if len(values) == holdout.rows:
            return values, ""
        return None, f"{EXPECTED_PREDICTIONS} has {len(values):,} rows, the holdout {holdout.rows:,}; store them again"
    by_key = pd.Series(values, index=stored["row_key"].to_numpy())
    by_key = by_key[~by_key.index.duplicated()]
    found = by_key.reindex(row_keys(holdout.frame)).to_numpy()
    unknown = int(np.count_nonzero(np.isnan(found)))
    if unknown == holdout.rows:
        return None, (
            f"the stored expected predictions are for other rows than the holdout {holdout.source} has; "
            f"store today's on purpose with: mlgates expect NAME VERSION --force"
        )
    if unknown:
        raise DataUnusable(
            f"{unknown:,} of {holdout.rows:,} rows of the holdout {holdout.source} were changed after the version was made "
            f"(they have no stored expected prediction); restore the holdout, or pin its version with table@VERSION"
        )
    return found, ""


def store_expected(candidate: Candidate, holdout: Holdout, *, force: bool = False) -> int:
    """Store the candidate's predictions on the holdout as `EXPECTED_PREDICTIONS` with its run; return their number.

    Raises
    ------
    DataUnusable
        There are some already, and not ``force``: replacing them hides what gate 2 looks for.
    """
    if not force and candidate.registry.read_artifact(candidate.version, EXPECTED_PREDICTIONS) is not None:
        message = f"{candidate.label} has expected predictions already; --force replaces them, and gate 2 forgets the old ones"
        raise DataUnusable(message)
    frame = pd.DataFrame({"row_key": row_keys(holdout.frame), "expected": candidate.predictions(holdout)})
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    candidate.registry.log_artifact(candidate.version, EXPECTED_PREDICTIONS, buffer.getvalue())
    return len(frame)
