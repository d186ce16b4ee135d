"""MLflow's registry and tracking store behind the `ports.ModelRegistry` protocol.

Models are loaded from a local copy of the version's own artifact folder, never through ``models:/NAME/VERSION``: that URI
needs MLflow's process-wide tracking URI, and downloading through it writes a file into the logged model.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import logging
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

from pytest_mlgates.errors import ModelNotFound, ModelUnusable, RegistryUnavailable
from pytest_mlgates.garbage import rare_collections
from pytest_mlgates.ports import ModelVersion, RunInfo
from pytest_mlgates.registry.predictor import MlflowPredictor, load_folder
from pytest_mlgates.registry.quiet import MlflowClient, MlflowException, get_artifact_repository, mlflow, one_line, quiet

T = TypeVar("T")

_IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}

EVIDENCE_EXPERIMENT = "/Shared/mlgates-evidence"
RUN_TAG = "mlgates.run_id"
# MLflow writes this file (name and version, nothing it reads back) into a model that is downloaded by its registry URI
_NOT_PART_OF_A_MODEL = frozenset({"registered_model_meta"})
# as MLflow writes it; its tables hold a 32-bit integer, and a database answers more digits with an error of its own
_VERSION = re.compile(r"[1-9][0-9]{0,8}")
_ABSENT = frozenset({"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "NOT_FOUND"})


class MlflowRegistry:
    """One MLflow registry and the tracking store beside it.

    Parameters
    ----------
    uri
        ``sqlite:///…``, ``postgresql+psycopg2://…`` or the address of an MLflow server.
    create
        Whether a SQLite file that is absent may be made; a reader must not make one by looking.

    Raises
    ------
    RegistryUnavailable
        The SQLite file is absent.
    """

    def __init__(self, uri: str, *, create: bool = False) -> None:
        self._uri = uri
        path = Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None
        if path is not None and not create and not path.is_file():
            message = (
                f"no model registry at {path}; train a model first, or set tracking_uri in mlgates.toml or MLFLOW_TRACKING_URI"
            )
            raise RegistryUnavailable(message)
        for name in ("mlflow", "alembic"):  # migrations and per-call notices are not ours to print
            logging.getLogger(name).setLevel(logging.ERROR)
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # what it raises as well, in a page of SQL
        with rare_collections():  # a client imports the stores that its URIs need
            self.client = self._ask(lambda: MlflowClient(tracking_uri=uri, registry_uri=uri))

    @property
    def uri(self) -> str:
        """Where the registry is, with any password taken out."""
        return without_password(self._uri)

    @property
    def tracking_uri(self) -> str:
        """Where the registry is, as MLflow needs it; may hold a password, so it is never printed."""
        return self._uri

    def names(self) -> list[str]:
        """Names of all registered models."""
        found: list[str] = []
        token = None
        while True:
            try:
                page = self._ask(lambda t=token: self.client.search_registered_models(max_results=200, page_token=t))  # type: ignore[misc]
            except MlflowException as error:  # an address that answers, but is no registry
                raise RegistryUnavailable(f"registry at {self.uri} did not answer: {one_line(error)}") from error
            found += [model.name for model in page]
            token = page.token
            if not token:
                return sorted(found)

    def versions(self, name: str) -> list[ModelVersion]:
        """All versions of a model, oldest first."""
        model = self._model(name)
        quoted = name.replace("'", "''")
        rows: list[Any] = []
        token = None
        while True:
            page = self._ask(
                lambda t=token: self.client.search_model_versions(f"name='{quoted}'", max_results=200, page_token=t)  # type: ignore[misc]
            )
            rows += [row for row in page if row.name == name]
            token = page.token
            if not token:
                break
        return sorted((self._version(row, model.aliases) for row in rows), key=lambda v: int(v.version))

    def get(self, name: str, version: str) -> ModelVersion:
        """One version, read now."""
        model, version = self._model(name), str(version)
        try:
            if _VERSION.fullmatch(version):
                return self._version(self._ask(lambda: self.client.get_model_version(name, version)), model.aliases)
        except MlflowException as error:
            if error.error_code not in _ABSENT:
                raise RegistryUnavailable(f"registry at {self.uri}: {one_line(error)}") from error
        known = [v.version for v in self.versions(name)]
        raise ModelNotFound(
            f"model {name!r} has no version {version!r} in the registry at {self.uri}; "
            f"its versions: {', '.join(known) or 'none'}"
        )

    def run_info(self, version: ModelVersion) -> RunInfo | None:
        """What the version's run recorded, ``None`` where there is no run."""
        if not version.run_id:
            return None
        try:
            run = self._ask(lambda: self.client.get_run(version.run_id))
            experiment = self._ask(lambda: self.client.get_experiment(run.info.experiment_id))
        except MlflowException as error:
            if error.error_code in _ABSENT:
                return None
            raise RegistryUnavailable(f"registry at {self.uri}: {one_line(error)}") from error
        data = run.data
        return RunInfo(version.run_id, experiment.name, dict(data.metrics), dict(data.params), dict(data.tags))

    def artifact_folder(self, version: ModelVersion) -> Path:
        """A local copy of the logged model (the store's own folder where that is local)."""
        try:
            uri = self.client.get_model_version_download_uri(version.name, version.version)
            with quiet():
                local = mlflow.artifacts.download_artifacts(artifact_uri=uri, tracking_uri=self._uri)
        except (MlflowException, OSError) as error:
            raise ModelUnusable(
                f"{version.label}: its files cannot be fetched from {version.source}: {one_line(error)}; "
                f"check the artifact store"
            ) from error
        return Path(local)

    def artifact_digest(self, version: ModelVersion) -> str:
        """``sha256:`` over path, size and content of every file of the logged model."""
        return folder_digest(self.artifact_folder(version))

    def artifact_files(self, version: ModelVersion) -> dict[str, str]:
        """Path to ``sha256:`` of the content, for every file of the logged model."""
        folder = self.artifact_folder(version)
        return {path.relative_to(folder).as_posix(): f"sha256:{_content(path)}" for path in _model_files(folder)}

    def read_artifact(self, version: ModelVersion, path: str) -> bytes | None:
        """One artifact of the version's run, ``None`` where it is absent."""
        run_id = self._artifact_run(version)
        if not run_id:
            return None
        parent = path.rpartition("/")[0]
        try:
            # the run's own folder, not client.list_artifacts: that also lists logged models, by way of a registry that MLflow
            # guesses from its surroundings (with pyspark-client installed it ends the process)
            run = self._ask(lambda: self.client.get_run(run_id))
            with quiet():
                repository = get_artifact_repository(run.info.artifact_uri, tracking_uri=self._uri)
                if path not in {item.path for item in repository.list_artifacts(parent or None)}:
                    return None
                with tempfile.TemporaryDirectory(prefix="mlgates-") as folder:
                    return Path(repository.download_artifacts(path, folder)).read_bytes()
        except (MlflowException, OSError) as error:
            if isinstance(error, MlflowException) and error.error_code in _ABSENT:
                return None
            raise RegistryUnavailable(f"{version.label}: artifact {path} cannot be read: {one_line(error)}") from error

    def log_artifact(self, version: ModelVersion, path: str, data: bytes) -> None:
        """Store one artifact with the version's run; a version without a run is given one for its evidence."""
        run_id = self._artifact_run(version) or self._make_run(version)
        folder, _, name = path.rpartition("/")
        try:
            with tempfile.TemporaryDirectory(prefix="mlgates-") as scratch:
                local = Path(scratch) / name
                local.write_bytes(data)
                self.client.log_artifact(run_id, str(local), folder or None)
        except (MlflowException, OSError) as error:
            raise RegistryUnavailable(f"{version.label}: artifact {path} cannot be stored: {one_line(error)}") from error

    def load(self, version: ModelVersion) -> MlflowPredictor:
        """Load the model from its local copy. Raises ModelUnusable."""
        return load_folder(self.artifact_folder(version), version.label)

    def set_stage(self, name: str, version: str, stage: str, *, archive_existing: bool = False) -> None:
        """Move one version to a stage; with ``archive_existing`` the others in it go to Archived in the same transaction."""
        with quiet():
            self._change(
                lambda: self.client.transition_model_version_stage(
                    name, str(version), stage, archive_existing_versions=archive_existing
                )
            )

    def set_alias(self, name: str, alias: str, version: str) -> None:
        """Point an alias at a version."""
        self._change(lambda: self.client.set_registered_model_alias(name, alias, str(version)))

    def delete_alias(self, name: str, alias: str) -> None:
        """Take an alias away; silent where there is none."""
        self._change(lambda: self.client.delete_registered_model_alias(name, alias))

    def set_version_tag(self, name: str, version: str, key: str, value: str) -> None:
        """Set a tag on a version."""
        self._change(lambda: self.client.set_model_version_tag(name, str(version), key, value))

    def set_model_tag(self, name: str, key: str, value: str) -> None:
        """Set a tag on the registered model."""
        self._change(lambda: self.client.set_registered_model_tag(name, key, value))

    def model_tags(self, name: str) -> dict[str, str]:
        """Tags of the registered model."""
        return dict(self._model(name).tags)

    @contextlib.contextmanager
    def impatient(self) -> Iterator[None]:
        """Inside, a server is asked once and waited for a few seconds only: for a question that may go unanswered."""
        before = {name: os.environ.get(name) for name in _IMPATIENT}
        os.environ.update(_IMPATIENT)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value

    def runs_before(self, moment: dt.datetime, *, without_tag: str) -> list[str]:
        """Ids of ended runs of every experiment that began before ``moment`` and lack a tag; at most 50,000."""
        experiments = [e.experiment_id for e in self._ask(self.client.search_experiments)]
        found: list[str] = []
        token = None
        while experiments and len(found) < 50_000:
            asked = {"filter_string": f"attributes.start_time < {int(moment.timestamp() * 1000)}", "page_token": token}
            page = self._ask(lambda a=asked: self.client.search_runs(experiments, max_results=1000, **a))  # type: ignore[misc]
            found += [r.info.run_id for r in page if without_tag not in r.data.tags and r.info.status != "RUNNING"]
            token = page.token
            if not token:
                break
        return found

    def set_run_tag(self, run_id: str, key: str, value: str) -> None:
        """Set a tag on a run."""
        self._change(lambda: self.client.set_tag(run_id, key, value))

    def _model(self, name: str) -> Any:
        try:
            return self._ask(lambda: self.client.get_registered_model(name))
        except MlflowException as error:
            if error.error_code not in _ABSENT:
                raise RegistryUnavailable(f"registry at {self.uri}: {one_line(error)}") from error
        raise ModelNotFound.among("model", name, self.names(), where=self.uri)

    def _version(self, row: Any, aliases: dict[str, str]) -> ModelVersion:
        tags = dict(row.tags)
        return ModelVersion(
            name=row.name,
            version=str(row.version),
            stage=row.current_stage or "None",
            run_id=row.run_id or "",
            aliases=tuple(sorted(a for a, v in aliases.items() if str(v) == str(row.version))),
            tags=tags,
            source=row.source or "",
            created=dt.datetime.fromtimestamp(row.creation_timestamp / 1000, dt.UTC),
        )

    def _artifact_run(self, version: ModelVersion) -> str:
        return version.run_id or version.tags.get(RUN_TAG, "")

    def _make_run(self, version: ModelVersion) -> str:
        fresh = self.get(version.name, version.version)
        if self._artifact_run(fresh):
            return self._artifact_run(fresh)
        experiment = self._ask(lambda: self.client.get_experiment_by_name(EVIDENCE_EXPERIMENT))
        identifier = experiment.experiment_id if experiment else self.client.create_experiment(EVIDENCE_EXPERIMENT)
        run = self.client.create_run(identifier, run_name=f"evidence for {version.label}")
        self.client.set_terminated(run.info.run_id)
        self.set_version_tag(version.name, version.version, RUN_TAG, run.info.run_id)
        return str(run.info.run_id)

    def _ask(self, question: Callable[[], T]) -> T:
        """Read; an MlflowException that names an absent thing is the caller's to judge, any other trouble is ours to name."""
        try:
            with quiet():
                return question()
        except MlflowException as error:
            if error.error_code in _ABSENT:
                raise
            raise RegistryUnavailable(f"registry at {self.uri} did not answer: {one_line(error)}") from error
        except Exception as error:  # requests, SQLAlchemy and sqlite3 errors have no common base
            raise RegistryUnavailable(f"registry at {self.uri} did not answer: {one_line(error)}") from error

    def _change(self, change: Callable[[], Any]) -> None:
        try:
            self._ask(change)
        except MlflowException as error:
            raise RegistryUnavailable(f"registry at {self.uri} refused a change: {one_line(error)}") from error


def folder_digest(folder: Path) -> str:
    """``sha256:`` over path, size and content of every file below a folder, in path order."""
    total = hashlib.sha256()
    for path in _model_files(folder):
        total.update(f"{path.relative_to(folder).as_posix()}\0{path.stat().st_size}\0{_content(path)}\n".encode())
    return "sha256:" + total.hexdigest()


def _model_files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.relative_to(folder).as_posix() not in _NOT_PART_OF_A_MODEL)


def _content(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def without_password(uri: str) -> str:
    """Return a URI with user and password replaced by ``***``."""
    parts = urlsplit(uri)
    if "@" not in parts.netloc:
        return uri
    return urlunsplit(parts._replace(netloc="***@" + parts.netloc.rpartition("@")[2]))
