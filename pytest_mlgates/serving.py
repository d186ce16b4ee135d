"""A project's endpoint, put together: registry and lakehouse behind the server's own protocols.

The registry is never touched by the process that forks: a short-lived child asks it which version to serve, so no database
connection or HTTP session is shared between workers; a worker that follows the registry opens its own.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from pytest_mlgates.endpoint import workers
from pytest_mlgates.endpoint.app import EndpointApp
from pytest_mlgates.endpoint.metrics import Metrics
from pytest_mlgates.endpoint.predictionlog import PredictionLog
from pytest_mlgates.endpoint.routes import RoutesFile
from pytest_mlgates.endpoint.service import ScoringService, only
from pytest_mlgates.errors import MlgatesError, ModelNotFound
from pytest_mlgates.ports import ModelRegistry, Predictor
from pytest_mlgates.registry import store
from pytest_mlgates.wiring import Project

STAGES = ("None", "Staging", "Production", "Archived")


class RegistrySource:
    """`endpoint.service.ModelSource` over a project's registry, opened on first use in the process that uses it."""

    def __init__(self, project: Project) -> None:
        self._project = project

    def resolve(self, model: str, selector: str) -> str:
        """Version that a stage, ``@alias`` or version means now."""
        return resolve(self._project.registry, model, selector)

    def fetch(self, model: str, version: str) -> Path:
        """Folder with the version's files."""
        registry = self._project.registry
        return registry.artifact_folder(registry.get(model, version))

    def load(self, folder: Path, label: str) -> Predictor:
        """Load the model in a folder; asks the registry nothing."""
        return store.load_folder(folder, label)


def resolve(registry: ModelRegistry, model: str, selector: str) -> str:
    """Return the version that a stage (the newest in it), an ``@alias`` or a version means now. Raises ModelNotFound."""
    versions = registry.versions(model)
    if selector.startswith("@"):
        found = [v for v in versions if selector[1:] in v.aliases]
    elif selector in STAGES:
        found = [v for v in versions if v.stage == selector]
    else:
        found = [v for v in versions if v.version == selector]
    if not found:
        listed = ", ".join(f"v{v.version} ({v.stage})" for v in versions) or "none"
        raise ModelNotFound(
            f"model {model!r} has no version {selector!r} in the registry at {registry.uri}; versions: {listed}"
        )
    return found[-1].version


def write_first_routes(project: Project, state: RoutesFile, model: str, selector: str) -> None:
    """Ask the registry, in a child process, what to serve, and write the first generation of the routes.

    Raises
    ------
    MlgatesError
        As the registry said it in the child, with the same exit code.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            source = RegistrySource(project)
            version = source.resolve(model, selector)
            folder = source.fetch(model, version)
            generation = 1
            with contextlib.suppress(MlgatesError):
                generation = state.read().generation + 1
            state.write(only(model, selector, version, folder, generation=generation))
            code = 0
        except MlgatesError as error:
            os.write(writer, str(error).encode())
            code = error.exit_code
        except BaseException:  # noqa: BLE001 the child must never return into the parent's code
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        message = pipe.read().decode()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code != 0:
        failure = MlgatesError(message or "the registry could not be read; see the trace above")
        failure.exit_code = code
        raise failure


def serve(
    project: Project,
    options: workers.ServerOptions,
    *,
    token: str,
    follow_every_s: float = 5.0,
    log_predictions: bool = True,
    hash_columns: tuple[str, ...] = (),
    max_rows: int = 10_000,
    max_body: int = 1_048_576,
) -> None:
    """Serve what the routes in ``options.state`` name, until the process is told to stop."""
    logging.basicConfig(level=options.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("pytest_mlgates.endpoint").setLevel(logging.INFO)
    metrics = Metrics()

    def make_app() -> Any:
        source = RegistrySource(project)
        state = RoutesFile(options.state)
        routes = state.read()
        named = [*routes.targets, *([routes.shadow] if routes.shadow else [])]
        # loaded before the fork: shared memory, and a replacement worker is ready at once
        preloaded = {t.folder: source.load(Path(t.folder), f"{routes.model} v{t.version}") for t in named}
        service = ScoringService(source, state, metrics, preloaded=preloaded, follow_every_s=follow_every_s, max_rows=max_rows)
        prediction_log = None
        if log_predictions:
            salt = os.environ.get("MLGATES_LOG_SALT", "")
            spool = options.state / "spool"
            prediction_log = PredictionLog(project.lakehouse, spool, metrics, hash_columns=hash_columns, salt=salt)
        return EndpointApp(service, metrics, prediction_log=prediction_log, token=token, max_body=max_body)

    workers.run(options, metrics, make_app)


def control(project: Project, options: workers.ServerOptions, *, folder: Path, token: str, per_minute: float = 600.0) -> None:
    """Serve the control plane; the endpoints lie below ``folder``, each served by processes of its own."""
    from pytest_mlgates.endpoint import server
    from pytest_mlgates.endpoint.control import ControlApp
    from pytest_mlgates.endpoint.manager import EndpointManager
    from pytest_mlgates.endpoint.server import RunningEndpoint

    logging.basicConfig(level=options.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s")

    def launch(model: str, state: Path, count: int) -> RunningEndpoint:
        settings = project.settings.path
        return server.start(settings, model=model, state=state, workers=count, token=token, routes=True)

    def make_app() -> Any:
        return ControlApp(EndpointManager(folder, RegistrySource(project), launch), token=token, per_minute=per_minute)

    workers.run(options, Metrics(), make_app)
