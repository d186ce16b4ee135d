"""Fixtures of a gate run: registered only in a run that names a model version or an endpoint."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from pytest_mlgates.errors import UsageProblem
from pytest_mlgates.report.terminal import gate_line
from pytest_mlgates.results import GateResult, Verdict

if TYPE_CHECKING:
    import pandas as pd

    from pytest_mlgates.config import Endpoint, Gates, ModelSettings
    from pytest_mlgates.drift.report import DriftReport
    from pytest_mlgates.services.evaluate import Baseline, Candidate, Holdout
    from pytest_mlgates.services.monitor import MonitorRun
    from pytest_mlgates.session import GateRun, Target
    from pytest_mlgates.wiring import Project


@pytest.fixture(scope="session")
def mlgates_run(pytestconfig: pytest.Config) -> GateRun:
    """The state of this run."""
    recorder: Any = pytestconfig.pluginmanager.get_plugin("mlgates-recorder")  # plugin.py stands above this room
    run: GateRun = recorder.run
    return run


@pytest.fixture(scope="session")
def mlgates_project(mlgates_run: GateRun) -> Project:
    """The project: settings, registry, lakehouse, audit."""
    return mlgates_run.project


@pytest.fixture(scope="session")
def mlgates_target(request: pytest.FixtureRequest) -> Target:
    """Name and version under test."""
    target: Target = request.param
    return target


@pytest.fixture(scope="session")
def candidate(mlgates_run: GateRun, mlgates_target: Target) -> Candidate:
    """The model version under test: ``candidate.predict(frame)``, ``candidate.x(frame)``, ``candidate.settings``."""
    return mlgates_run.candidate(mlgates_target)


@pytest.fixture(scope="session")
def model_settings(candidate: Candidate) -> ModelSettings:
    """The settings of the model under test."""
    return candidate.settings


@pytest.fixture(scope="session")
def thresholds(candidate: Candidate) -> Gates:
    """The thresholds of its five gates."""
    return candidate.settings.gates


@pytest.fixture(scope="session")
def holdout(mlgates_run: GateRun, mlgates_target: Target) -> Holdout:
    """The holdout: ``holdout.frame``, ``holdout.y``, ``holdout.sensitive``."""
    return mlgates_run.holdout(mlgates_target)


@pytest.fixture(scope="session")
def predictions(candidate: Candidate, holdout: Holdout) -> Any:
    """The candidate's answers on the holdout, made once; shape (n,), or (n, classes) for multiclass."""
    return candidate.predictions(holdout)


@pytest.fixture(scope="session")
def baseline(mlgates_run: GateRun, mlgates_target: Target) -> Baseline:
    """The baseline and its answers on the same rows; ``baseline.predictions`` is ``None`` where there is none."""
    return mlgates_run.baseline(mlgates_target)


@pytest.fixture(scope="session")
def looks(mlgates_run: GateRun, mlgates_target: Target) -> int:
    """How many versions of the model were judged on this holdout, this one included."""
    return mlgates_run.looks(mlgates_target)


@pytest.fixture(scope="session")
def limits(candidate: Candidate, looks: int) -> dict[str, dict[str, Any]]:
    """The thresholds as keyword arguments of the checks, by gate: ``checks.performance(…, **limits["performance"])``."""
    from pytest_mlgates.services.thresholds import arguments_of

    return arguments_of(candidate.settings, looks=looks)


@pytest.fixture(scope="session")
def raw_predict(candidate: Candidate) -> Any:
    """The loaded model's own ``predict`` with its signature enforced, and nothing of ours around it."""
    predictor = candidate.predictor
    return getattr(predictor, "pyfunc", predictor).predict


@pytest.fixture(scope="session")
def rows(candidate: Candidate, holdout: Holdout) -> pd.DataFrame:
    """The holdout's rows as the model's signature wants them."""
    return candidate.x(holdout.frame)


@pytest.fixture(scope="session")
def drift_run(mlgates_run: GateRun, mlgates_target: Target) -> MonitorRun:
    """The drift run over the rows of the model under test."""
    return mlgates_run.drift_run(mlgates_target)


@pytest.fixture(scope="session")
def drift_report(drift_run: MonitorRun) -> DriftReport:
    """The inputs' drift: ``drift_report["lag_7_revenue"].psi``, ``.verdict``, ``.drifted``."""
    return drift_run.report


@pytest.fixture(scope="session")
def reference(drift_run: MonitorRun) -> pd.DataFrame:
    """Rows of the reference window."""
    frame: pd.DataFrame = drift_run.windows.reference.rows.to_pandas()
    return frame


@pytest.fixture(scope="session")
def current(drift_run: MonitorRun) -> pd.DataFrame:
    """Rows of the current window."""
    frame: pd.DataFrame = drift_run.windows.current.rows.to_pandas()
    return frame


@pytest.fixture(scope="session")
def endpoint(mlgates_run: GateRun) -> str:
    """The address of the endpoint under test."""
    if not mlgates_run.endpoint_uri:
        raise UsageProblem("no endpoint to test; name one with --mlgates-endpoint-uri URI")
    return mlgates_run.endpoint_uri


@pytest.fixture(scope="session")
def endpoint_limits(pytestconfig: pytest.Config, endpoint: str) -> Endpoint:
    """The settings' ``[models."NAME".endpoint]`` of the model that the endpoint serves; the defaults where there are no settings."""
    from pytest_mlgates.config import Endpoint, find_settings, load_settings
    from pytest_mlgates.services import load_run

    path = pytestconfig.getoption("mlgates_settings") or os.environ.get("MLGATES_SETTINGS")
    if not path and find_settings(Path.cwd()) is None:
        return Endpoint()
    served = load_run.health(endpoint).get("model_name")
    return load_settings(Path(path) if path else None).endpoint(str(served or ""))


class Judge:
    """Records a verdict, then ends the test as the verdict says."""

    def __init__(self, run: GateRun, item: pytest.Item, target: Target | None, *, warn: bool) -> None:
        self._run = run
        self._item = item
        self._target = target
        self._warn = warn

    def __call__(self, result: GateResult) -> None:
        """Record ``result``; fail, skip or go on."""
        __tracebackhide__ = True
        result = self._run.record(self._item, self._target, result)
        if result.verdict is Verdict.SKIP:
            pytest.skip(result.summary or result.hint)
        if result.verdict is Verdict.INCONCLUSIVE and self._warn:
            return
        if result.verdict.blocks:
            pytest.fail(gate_line(result), pytrace=False)

    def skip(self, gate: str, reason: str, how: str) -> NoReturn:
        """Record that a gate does not apply or cannot be judged: why, and how to make it apply."""
        __tracebackhide__ = True
        self(GateResult(gate, Verdict.SKIP, summary=reason, hint=how))
        raise AssertionError("a skip ends the test")


@pytest.fixture
def judge(request: pytest.FixtureRequest, mlgates_run: GateRun) -> Judge:
    """Record a `GateResult` as this test's verdict: ``judge(checks.performance(...))``."""
    item: pytest.Item = request.node
    spec = getattr(item, "callspec", None)
    target = spec.params.get("mlgates_target") if spec is not None else None
    warn = target is not None and mlgates_run.project.settings.model(target[0]).on_inconclusive == "warn"
    return Judge(mlgates_run, item, target, warn=warn)
