"""Recording training runs and registering their models in MLflow, behind the `ports.Tracker` protocol.

Models are stored with cloudpickle. MLflow's default for scikit-learn, skops, takes seven times as long to load a forest and
needs its tree types declared as trusted by every reader; it is no security boundary here, where a version's files are
checked against their digest before they are loaded.
"""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_mlgates.errors import RegistryUnavailable
from pytest_mlgates.garbage import rare_collections
from pytest_mlgates.ports import Column
from pytest_mlgates.registry.quiet import MlflowClient, MlflowException, mlflow, quiet  # first: it says how MLflow is imported

with rare_collections():
    import mlflow.sklearn
    from mlflow.entities import Metric, Param, RunStatus
    from mlflow.models import ModelSignature
    from mlflow.tracking import fluent
    from mlflow.types.schema import ColSpec, Schema

_SQLITE = "sqlite:///"


class MlflowTracker:
    """Training runs in one MLflow tracking store and registry.

    Parameters
    ----------
    uri
        Tracking and registry URI. With ``sqlite:///…`` new experiments keep their artifacts in ``mlartifacts`` beside the file,
        not in the directory that the command was started from.
    shown
        What to print of it; give it where the URI holds a password.
    """

    def __init__(self, uri: str, *, shown: str | None = None) -> None:
        for name in ("mlflow", "alembic"):  # migrations and per-call notices are not ours to print
            logging.getLogger(name).setLevel(logging.ERROR)
        self._uri = uri
        self._shown = shown or uri
        with rare_collections():  # a client imports the stores that its URIs need
            self.client = MlflowClient(tracking_uri=uri, registry_uri=uri)

    @property
    def uri(self) -> str:
        """Where the store is, as it may be printed."""
        return self._shown

    @contextlib.contextmanager
    def run(self, experiment: str, run_name: str, *, tags: Mapping[str, str], parent: str | None = None) -> Iterator[MlflowRun]:
        """Open a run, as a nested child of the run ``parent`` where given; it ends as FAILED when the block raises.

        Raises
        ------
        RegistryUnavailable
            The store does not answer or refuses.
        """
        with self._named():
            all_tags = {**tags, "mlflow.runName": run_name} | ({"mlflow.parentRunId": parent} if parent else {})
            run_id = self.client.create_run(self._experiment(experiment), run_name=run_name, tags=all_tags).info.run_id
            status = RunStatus.FAILED
            try:
                yield MlflowRun(self.client, self._uri, run_id)
                status = RunStatus.FINISHED
            finally:
                self.client.set_terminated(run_id, RunStatus.to_string(status))

    def latest(self, name: str) -> tuple[str, Mapping[str, float]] | None:
        """The newest version of a model and its run's metrics; ``None`` where there is no version or no metrics."""
        with self._named():
            quoted = name.replace("'", "''")
            found = self.client.search_model_versions(f"name='{quoted}'", max_results=200)
            versions = sorted((v for v in found if v.name == name and v.run_id), key=lambda v: int(v.version))
            if not versions:
                return None
            metrics = dict(self.client.get_run(versions[-1].run_id).data.metrics)
            return (str(versions[-1].version), metrics) if metrics else None

    def _experiment(self, name: str) -> str:
        known = self.client.get_experiment_by_name(name)
        if known is not None:
            return str(known.experiment_id)
        location = None
        if self._uri.startswith(_SQLITE):
            location = (Path(self._uri.removeprefix(_SQLITE)).resolve().parent / "mlartifacts").as_uri()
        try:
            return str(self.client.create_experiment(name, artifact_location=location))
        except MlflowException:
            known = self.client.get_experiment_by_name(name)  # another process made it between our look and our write
            if known is None:
                raise
            return str(known.experiment_id)

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except MlflowException as error:
            text = " ".join(str(error).split())[:300]
            message = (
                f"tracking store at {self._shown} did not take a run: {text}; check tracking_uri and that the server is up"
            )
            raise RegistryUnavailable(message) from error


class MlflowRun:
    """A run that is being recorded."""

    def __init__(self, client: MlflowClient, uri: str, run_id: str) -> None:
        self._client = client
        self._uri = uri
        self._run_id = run_id

    @property
    def run_id(self) -> str:
        """Identifier of the run."""
        return self._run_id

    def log_params(self, params: Mapping[str, object]) -> None:
        """Record parameters."""
        self._client.log_batch(self._run_id, params=[Param(k, str(v)) for k, v in params.items()])

    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        """Record metrics."""
        self._client.log_batch(self._run_id, metrics=[Metric(k, float(v), 0, 0) for k, v in metrics.items()])

    def log_artifact(self, path: str, data: bytes) -> None:
        """Store one artifact with the run."""
        folder, _, name = path.rpartition("/")
        with tempfile.TemporaryDirectory(prefix="mlgates-") as scratch:
            local = Path(scratch) / name
            local.write_bytes(data)
            self._client.log_artifact(self._run_id, str(local), folder or None)

    def register(
        self,
        model: Any,
        name: str,
        *,
        inputs: Sequence[Column],
        requirements: Sequence[str],
        predict_method: str = "predict",
        tags: Mapping[str, str] | None = None,
    ) -> str:
        """Log a scikit-learn model with its signature, register it under ``name`` and return the new version.

        Parameters
        ----------
        model
            Fitted estimator.
        name
            Registered model.
        inputs
            Signature: the input columns, in order; one double comes out a row (a class a column with ``predict_proba``).
        requirements
            pip requirements; given, because MLflow's own inference starts a process and takes seven CPU seconds.
        predict_method
            What ``mlflow.pyfunc`` calls: ``predict`` or ``predict_proba``.
        tags
            Tags of the version.
        """
        outputs = Schema([ColSpec("double", "prediction")]) if predict_method == "predict" else None
        signature = ModelSignature(Schema([ColSpec(c.type, c.name, required=c.required) for c in inputs]), outputs)
        with quiet(), _fluent(self._uri, self._run_id):  # MLflow asks for a Spark session, whose import warns
            info = mlflow.sklearn.log_model(
                model,
                name="model",
                signature=signature,
                serialization_format=mlflow.sklearn.SERIALIZATION_FORMAT_CLOUDPICKLE,
                pip_requirements=list(requirements),
                pyfunc_predict_fn=predict_method,
            )
            # not log_model's own registration: it prints, and goes to whatever registry the process is pointed at
            with contextlib.suppress(
                MlflowException
            ):  # there already; a registry that does not answer is told by the next call
                self._client.create_registered_model(name)
            # inside, because the client looks up a models:/ source in the process-wide tracking store
            made = self._client.create_model_version(
                name, source=info.model_uri, run_id=self._run_id, model_id=info.model_id, tags=dict(tags or {})
            )
        return str(made.version)


@contextlib.contextmanager
def _fluent(uri: str, run_id: str) -> Iterator[None]:
    """Point MLflow's process-wide state at a run, and put it back: logging a model works on nothing else."""
    variable = "MLFLOW_TRACKING_URI"
    environment = os.environ.get(variable)
    before = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    # a caller's mlflow.set_experiment() would make MLflow refuse a run of ours, and has no public way back
    experiment = getattr(fluent, "_active_experiment_id", None)
    mlflow.set_tracking_uri(uri)
    fluent._active_experiment_id = None
    try:
        with mlflow.start_run(run_id=run_id, nested=True):
            yield
    finally:
        mlflow.set_tracking_uri(before)
        fluent._active_experiment_id = experiment
        if environment is None:
            os.environ.pop(variable, None)  # setting the URI also sets the variable
        else:
            os.environ[variable] = environment
