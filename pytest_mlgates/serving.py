"""A project's endpoint, put together: registry and lakehouse behind the server's own protocols.

The registry is never touched by the process that forks: a short-lived child asks it which version to serve, so no database
connection or HTTP session is shared between workers; a worker that follows the registry opens its own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import logging
import os
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from pytest_mlgates import cost
from pytest_mlgates.config import Endpoint
from pytest_mlgates.endpoint import workers
from pytest_mlgates.endpoint.app import EndpointApp
from pytest_mlgates.endpoint.lookup import STAGES, look_up
from pytest_mlgates.endpoint.metrics import Metrics
from pytest_mlgates.endpoint.native import load_native, only_predicts
from pytest_mlgates.endpoint.predictionlog import PredictionLog
from pytest_mlgates.endpoint.routes import Routes, RoutesFile, Target
from pytest_mlgates.endpoint.scorer import Scorer
from pytest_mlgates.endpoint.service import ScoringService
from pytest_mlgates.errors import MlgatesError, ModelNotFound, ModelUnusable, RegistryUnavailable, nearest
from pytest_mlgates.ports import ModelRegistry, Predictor
from pytest_mlgates.wiring import Project

log = logging.getLogger("pytest_mlgates.endpoint")

REMOTE_LOOK_EVERY_S = 60.0


class RegistrySource:
    """`endpoint.service.ModelSource` over a project's registry.

    MLflow is imported where a version is looked up and proven, which is a process that ends soon; a server's own processes load a
    proven version without it.
    """

    def __init__(self, project: Project) -> None:
        self._project = project
        self._looked: tuple[float, float] | None = None

    def mark(self) -> None:
        """Take the registry as it is now for looked at: call before the first version is looked up."""
        self._looked = self._stamp()

    def target(self, model: str, selector: str, percent: float = 100.0) -> Target:
        """What a selector means now, with its files fetched and its way proven against MLflow's own answers."""
        registry = self._project.registry
        version = resolve(registry, model, selector)
        folder = registry.artifact_folder(registry.get(model, version))
        return Target(version, str(folder), percent, _prove(folder, model, version))

    def at_once(self, model: str, selector: str) -> Target | None:
        """As `target`, without importing MLflow: nothing is fetched, and the comparison with MLflow is left to `prove`.

        ``None`` where that will not do: a registry that is not a SQLite file, a model that is more than scikit-learn's ``predict``.
        """
        found = look_up(self._project.settings.tracking_uri, model, selector)
        if found is None or not only_predicts(found[1]):
            return None
        return Target(found[0], str(found[1]), proven="native", assumed=True)

    def prove(self, state: RoutesFile) -> None:
        """Have what is assumed compared with MLflow's answers, in a process of its own that makes way for the others."""
        self._ask("prove", state)

    def load(self, target: Target, label: str) -> Predictor:
        """Load the model of a target."""
        if target.proven:
            return load_native(Path(target.folder), label)
        from pytest_mlgates.registry.predictor import load_folder

        return load_folder(Path(target.folder), label)

    def follow(self, state: RoutesFile) -> None:
        """Look at the registry; where it may have moved, in a process of its own that imports MLflow.

        A SQLite registry is looked at when its file has changed (gates, runs and other models change it too), others every minute.
        """
        looked = self._stamp()
        if looked == self._looked:
            return
        routes = state.read()
        found = look_up(self._project.settings.tracking_uri, routes.model, routes.selector)
        if found is None or [t.version for t in routes.targets] != [found[0]]:
            self._ask("advance", state)
        self._looked = looked

    def _ask(self, question: str, state: RoutesFile) -> None:
        """Run ``mlgates endpoint QUESTION``: MLflow is imported there, not in a worker."""
        command = [sys.executable, "-c", "import sys; from pytest_mlgates.cli import main; sys.exit(main())"]
        command += ["--settings", str(self._project.settings.path)] if self._project.settings.path else []
        command += ["endpoint", question, "--state", str(state.folder)]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        if found.returncode != 0:
            raise RegistryUnavailable(" ".join(found.stderr.split())[-300:] or f"code {found.returncode}")

    def _stamp(self) -> tuple[float, float]:
        uri = self._project.settings.tracking_uri
        if not uri.startswith("sqlite:///"):
            return (time.monotonic() // REMOTE_LOOK_EVERY_S, 0.0)
        newest = [p.stat().st_mtime for p in (Path(uri.removeprefix("sqlite:///") + end) for end in ("", "-wal")) if p.exists()]
        return (max(newest, default=0.0), 1.0)


def _prove(folder: Path, model: str, version: str) -> str:
    """Compare the ways to score with MLflow's answers, the model loaded without MLflow among them; ``""``: only MLflow will do."""
    from pytest_mlgates.registry.predictor import load_folder

    label = f"{model} v{version}"
    predictor = load_folder(folder, label)
    way = Scorer(predictor, model, version).prepare()
    if way.batch != "native":
        return ""
    try:
        alone = load_native(folder, label)
    except ModelUnusable as error:
        log.warning("%s", error)
        return ""
    if alone.inputs != predictor.inputs or type(alone.native) is not type(predictor.native):
        return ""
    return way.single


def prove_assumed(state: RoutesFile) -> list[str]:
    """Compare what the routes take for granted with MLflow's answers; return the versions that only MLflow can score.

    Those are routed anew, so that every worker loads them through MLflow.
    """
    routes = state.read()
    named = [*routes.targets, *([routes.shadow] if routes.shadow else [])]
    ways = {t.folder: _prove(Path(t.folder), routes.model, t.version) for t in named if t.assumed}

    def settled(target: Target) -> Target:
        if not target.assumed or target.folder not in ways:
            return target
        return dataclasses.replace(target, proven=ways[target.folder], assumed=False)

    now = state.read()  # whoever changed the routes meanwhile wins
    wrong = [t.version for t in named if ways.get(t.folder) == ""]
    state.write(
        dataclasses.replace(
            now,
            generation=now.generation + bool(wrong),
            targets=tuple(map(settled, now.targets)),
            shadow=settled(now.shadow) if now.shadow else None,
        )
    )
    return wrong


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


def write_first_routes(source: RegistrySource, state: RoutesFile, model: str, selector: str) -> None:
    """Ask the registry what to serve, in a child process where that needs MLflow, and write the next generation of the routes.

    Raises
    ------
    MlgatesError
        As the registry said it in the child, with the same exit code.
    """
    source.mark()
    target = source.at_once(model, selector)
    if target is not None:
        _write_next(state, model, selector, target)
        return
    with contextlib.suppress(ImportError):  # the child and the server both need it: imported once, before they part
        importlib.import_module("sklearn.pipeline")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            _write_next(state, model, selector, source.target(model, selector))
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


def _write_next(state: RoutesFile, model: str, selector: str, target: Target) -> None:
    generation = 1
    with contextlib.suppress(MlgatesError):
        generation = state.read().generation + 1
    state.write(Routes(generation, model, selector, (target,)))


def serve(
    project: Project,
    source: RegistrySource,
    options: workers.ServerOptions,
    *,
    token: str,
    follow_every_s: float = 5.0,
    log_predictions: bool = True,
    limits: Endpoint | None = None,
) -> None:
    """Serve what the routes in ``options.state`` name, until the process is told to stop.

    ``limits`` stands for the settings' ``[models."NAME".endpoint]``.
    """
    logging.basicConfig(level=options.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("pytest_mlgates.endpoint").setLevel(logging.INFO)
    metrics = Metrics()
    name = RoutesFile(options.state).read().model
    limits = limits or project.settings.endpoint(name)

    def make_app() -> Any:
        state = RoutesFile(options.state)
        routes = state.read()
        named = [*routes.targets, *([routes.shadow] if routes.shadow else [])]
        # loaded before the fork: shared memory, and a replacement worker is ready at once
        preloaded = {}
        for target in named:
            predictor = source.load(target, f"{routes.model} v{target.version}")
            scorer = Scorer(predictor, routes.model, target.version, max_rows=limits.max_rows)
            if target.proven:
                scorer.compile()
            preloaded[target.folder, target.proven != ""] = scorer
            for column in set(limits.hash_columns) - set(scorer.schema.names):
                log.warning(
                    "%s v%s has no input %r to hash in the prediction log; %s",
                    name, target.version, column, nearest(column, scorer.schema.names),
                )  # fmt: skip
        service = ScoringService(
            source, state, metrics, preloaded=preloaded, follow_every_s=follow_every_s, max_rows=limits.max_rows
        )
        prediction_log = None
        if log_predictions:
            importlib.import_module(
                "deltalake"
            )  # before the fork: its pages are shared, and the first append need not wait for it
            salt = os.environ.get("MLGATES_LOG_SALT", "")
            spool = options.state / "spool"
            prediction_log = PredictionLog(project.lakehouse, spool, metrics, hash_columns=limits.hash_columns, salt=salt)
        return EndpointApp(service, metrics, prediction_log=prediction_log, token=token, max_body=limits.max_body_bytes)

    with cost.metered(project.lakehouse, "endpoint", name, cost_center=project.settings.cost.center(name)) as meter:
        try:
            workers.run(options, metrics, make_app)
        finally:
            answered = metrics.requests()
            meter.calls = sum(answered.values())
            meter.errors = sum(count for status, count in answered.items() if status >= 500)


def control(project: Project, options: workers.ServerOptions, *, folder: Path, token: str, per_minute: float = 600.0) -> None:
    """Serve the control plane; the endpoints lie below ``folder``, each served by processes of its own."""
    from pytest_mlgates.endpoint import server
    from pytest_mlgates.endpoint.control import ControlApp
    from pytest_mlgates.endpoint.manager import EndpointManager
    from pytest_mlgates.endpoint.server import RunningEndpoint

    logging.basicConfig(level=options.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s")

    def launch(model: str, state: Path, count: int, port: int) -> RunningEndpoint:
        settings = project.settings.path
        return server.start(settings, model=model, state=state, workers=count, port=port, token=token, routes=True)

    def make_app() -> Any:
        return ControlApp(EndpointManager(folder, RegistrySource(project), launch), token=token, per_minute=per_minute)

    workers.run(options, Metrics(), make_app)
