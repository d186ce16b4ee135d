"""Options, markers and hooks; everything else is imported when a run asks for gates.

At module level only the standard library and pytest: this module is loaded in every pytest run of its environment.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_mlgates import suite

if TYPE_CHECKING:
    from pytest_mlgates.session import GateRun

RUN: pytest.StashKey[GateRun] = pytest.StashKey()
SUITE_SELECTED: pytest.StashKey[bool] = pytest.StashKey()
LOOP: pytest.StashKey[bool] = pytest.StashKey()
_RUNS_OF_THEIR_OWN = {
    "test_closed_loop.py": "mlgates_loop",
    "test_drift.py": "mlgates_drift",
    "test_proving.py": "mlgates_prove",
}

_FLAGS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("--model-name", {"action": "append", "metavar": "NAME", "help": "model to judge; a glob; may repeat (or MODEL_NAME)"}),
    (
        "--model-version",
        {
            "action": "append",
            "metavar": "V",
            "help": "2 | 1,2 | latest | all | a stage (Staging) | an alias (challenger, or =@challenger) (or MODEL_VERSION)",
        },
    ),
    ("--mlgates-settings", {"metavar": "PATH", "help": "mlgates.toml to use (default: nearest, upwards from here)"}),
    ("--mlgates-json", {"metavar": "PATH", "help": "write every verdict as JSON"}),
    ("--mlgates-html", {"metavar": "PATH", "help": "write the evidence as one self-contained page"}),
    ("--mlgates-no-evidence", {"action": "store_true", "help": "judge, but store no evidence with the version's run"}),
    (
        "--mlgates-drift",
        {"action": "store_true", "help": "judge the drift of the model's rows: one item per input and drift type"},
    ),
    (
        "--mlgates-prove",
        {"action": "store_true", "help": "also run the gates on known-bad mutants of the model: do the thresholds have teeth?"},
    ),
    ("--mlgates-endpoint-uri", {"metavar": "URI", "help": "load-test this endpoint as a gate"}),
    (
        "--mlgates-loop",
        {"action": "store_true", "help": "test the closed loop of --model-name: inject, alert, retrain, Staging"},
    ),
    ("--mlgates-loop-deadline", {"type": float, "default": 300.0, "metavar": "S", "help": "seconds for each step (300)"}),
    (
        "--mlgates-loop-fault",
        {"choices": ["twice", "receiver-down", "retrain-crashes", "teams-500"], "help": "break one part; the loop must close"},
    ),
    (
        "--mlgates-loop-inject",
        {"choices": ["data", "prediction", "performance", "concept"], "default": "data", "help": "kind of drift (data)"},
    ),
    (
        "--mlgates-loop-live",
        {"action": "store_true", "help": "the deployed receiver and channels of the settings, not embedded ones"},
    ),
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add our options: two short ones that the specification fixes, all others prefixed."""
    group = parser.getgroup("mlgates", "model release gates (pytest-mlgates)")
    for name, how in _FLAGS:
        group.addoption(name, **how)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare our hooks."""
    from pytest_mlgates import hookspecs

    pluginmanager.add_hookspecs(hookspecs)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config, parser: pytest.Parser, args: list[str]) -> None:
    """Collect the shipped suite where a model is named and no path is: explicit paths win, the option beats testpaths."""
    del parser
    known = early_config.known_args_namespace
    options = vars(known)
    asked = _asked(options, os.environ)
    if not asked:
        return
    from pytest_mlgates.wiring import limit_threads

    limit_threads()
    if not known.file_or_dir:
        if options.get("mlgates_endpoint_uri"):
            args.append(str(suite.folder("loadtest")))
        if _names(options, os.environ) or options.get("mlgates_loop"):
            args.append(str(suite.folder("gates")))
        early_config.stash[SUITE_SELECTED] = True


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker; where a model or an endpoint is named, resolve it and register the fixtures."""
    config.addinivalue_line("markers", "mlgate(name): this test is the gate NAME of a model version")
    options = vars(config.option)
    if options.get("model_version") and not _names(options, os.environ):
        raise pytest.UsageError("--model-version needs --model-name NAME (or MODEL_NAME in the environment)")
    if options.get("mlgates_loop"):
        _configure_loop(config, options)
        return
    if not _asked(options, os.environ):
        return
    from pytest_mlgates import fixtures
    from pytest_mlgates.errors import MlgatesError
    from pytest_mlgates.garbage import rare_collections
    from pytest_mlgates.session import GateRun

    try:
        with rare_collections():
            config.stash[RUN] = GateRun.start(
                names=_names(options, os.environ),
                specs=options.get("model_version") or [v for v in [os.environ.get("MODEL_VERSION", "")] if v],
                settings_path=options.get("mlgates_settings"),
                endpoint_uri=options.get("mlgates_endpoint_uri") or "",
                resolved=getattr(config, "workerinput", {}).get("mlgates_targets"),
            )
    except MlgatesError as error:
        raise _usage(error) from None
    config.stash[RUN].drift = bool(options.get("mlgates_drift"))
    config.pluginmanager.register(fixtures, "mlgates-fixtures")
    config.pluginmanager.register(_Recorder(config, config.stash[RUN]), "mlgates-recorder")


def _configure_loop(config: pytest.Config, options: Mapping[str, Any]) -> None:
    """Check the model of a closed-loop run and register its fixture; nothing is judged, so no gates are collected."""
    from pytest_mlgates import closed_loop
    from pytest_mlgates.errors import MlgatesError
    from pytest_mlgates.wiring import Project

    names = _names(options, os.environ)
    if len(names) != 1:
        raise pytest.UsageError("--mlgates-loop needs --model-name NAME, one model by its name")
    if options.get("numprocesses") or hasattr(config, "workerinput"):
        raise pytest.UsageError("--mlgates-loop is one run of eight steps in order; add -n 0")
    if options["mlgates_loop_deadline"] <= 0:
        raise pytest.UsageError("--mlgates-loop-deadline must be above 0 seconds")
    if options["mlgates_loop_live"] and options["mlgates_loop_fault"]:
        raise pytest.UsageError("--mlgates-loop-fault breaks embedded parts only; leave out --mlgates-loop-live or the fault")
    try:
        project = Project.open(options.get("mlgates_settings"))
        project.settings.model(names[0])
        project.registry.versions(names[0])
    except MlgatesError as error:
        raise _usage(error) from None
    config.stash[LOOP] = True
    config.pluginmanager.register(closed_loop, "mlgates-closed-loop")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One item per gate and version; ids end in ``[v2]``, or ``[name-v2]`` where several models are judged."""
    if "mlgates_target" in metafunc.fixturenames and RUN in metafunc.config.stash:
        run = metafunc.config.stash[RUN]
        if not run.targets:
            raise pytest.UsageError("this test judges a model version; name one with --model-name NAME --model-version V")
        if "drift_item" in metafunc.fixturenames:
            pairs = [(target, item) for target in run.targets for item in run.drift_items(target)]
            labels = dict(zip(run.targets, run.ids(), strict=True))
            ids = [f"{item}-{labels[target]}" for target, item in pairs]
            metafunc.parametrize(("mlgates_target", "drift_item"), pairs, ids=ids, indirect=["mlgates_target"], scope="session")
            return
        metafunc.parametrize("mlgates_target", run.targets, ids=run.ids(), indirect=True, scope="session")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Of the shipped suite, collect what was asked for: the gates, their proof, the drift of the rows, or the loop."""
    if collection_path.parent != suite.folder("gates") or not collection_path.name.startswith("test_"):
        return None
    options = vars(config.option)
    own_run = _RUNS_OF_THEIR_OWN.get(collection_path.name)
    if own_run is not None:
        return None if options.get(own_run) else True
    return True if options.get("mlgates_drift") or options.get("mlgates_loop") else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the gates first, leave out further checks that do not apply, and keep the steps of the loop in order."""
    if LOOP in config.stash:
        items.sort(key=lambda item: item.nodeid)
    if RUN in config.stash and config.stash.get(SUITE_SELECTED, False):
        items[:] = config.stash[RUN].arrange(items)


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """Collect the shipped suite even where a project's own ``python_files`` does not match it."""
    if (
        (RUN not in parent.config.stash and LOOP not in parent.config.stash)
        or file_path.suffix != ".py"
        or not file_path.name.startswith("test_")
    ):
        return None
    if file_path.parent not in (suite.folder("gates"), suite.folder("loadtest")):
        return None
    if any(file_path.match(pattern) for pattern in parent.config.getini("python_files")):
        return None  # pytest collects it itself
    module: pytest.Module = pytest.Module.from_parent(parent, path=file_path)
    return module


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn our own errors into one line and a verdict ``error``, never a traceback."""
    report = yield
    if RUN in item.config.stash and call.excinfo is not None:
        from pytest_mlgates.errors import MlgatesError

        if isinstance(call.excinfo.value, MlgatesError):
            line = item.config.stash[RUN].record_error(item, str(call.excinfo.value))
            report.longrepr = line
            report.user_properties = list(item.user_properties)
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(report: pytest.CollectReport | pytest.TestReport) -> tuple[str, str, Any] | None:
    """Show the gate's numbers where pytest shows PASSED."""
    if not isinstance(report, pytest.TestReport) or not any(k == "mlgates" for k, _ in report.user_properties):
        return None
    from pytest_mlgates.session import status_of

    return status_of(report)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Hand the resolved versions to an xdist worker: ``latest`` means the same on every one of them."""
    if RUN in node.config.stash:
        node.workerinput["mlgates_targets"] = [list(t) for t in node.config.stash[RUN].targets]


class _Recorder:
    """Collects results where they are reported and writes evidence once, at the end."""

    def __init__(self, config: pytest.Config, run: GateRun) -> None:
        self.config = config
        self.run = run
        self.is_worker = hasattr(config, "workerinput")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take the verdicts out of a report; on xdist they come here from the workers."""
        if not self.is_worker:
            for result in self.run.take(report):
                self.config.hook.pytest_mlgates_verdict(config=self.config, result=result)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Store the evidence; the exit code says no where a required gate did not report."""
        if self.is_worker:
            return
        options = self.config.option
        store = not (options.mlgates_no_evidence or options.collectonly or self.run.drift)
        self.run.finish(
            store=store, json_path=options.mlgates_json, html_path=None if options.collectonly else options.mlgates_html
        )
        for report in self.run.reports:
            self.config.hook.pytest_mlgates_report(config=self.config, report=report)
        selected = self.config.stash.get(SUITE_SELECTED, False) and not options.collectonly
        if selected and exitstatus in (0, int(pytest.ExitCode.NO_TESTS_COLLECTED)) and self.run.blocks:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(self, terminalreporter: Any) -> Generator[None, None, None]:
        """Print the closing table, and the one thing to do next, after everything that pytest and others print."""
        yield
        if self.run.reports and not self.config.option.collectonly:
            terminalreporter.section("model release gates")
            for line, how in self.run.closing_lines(terminalreporter._tw.fullwidth):
                terminalreporter.write_line(line, **how)


def _usage(error: Exception) -> pytest.UsageError:
    """One of our errors as pytest's own, without secrets and control characters."""
    from pytest_mlgates.redaction import cleaned, redacted

    lines = str(error).splitlines() if getattr(error, "problems", None) else [" ".join(str(error).splitlines())]
    return pytest.UsageError(*(cleaned(redacted(line)) for line in lines))


def _names(options: Mapping[str, Any], env: Mapping[str, str]) -> list[str]:
    """Models named on the command line; else in the environment, where a settings file says that this is a project of ours."""
    given: list[str] = options.get("model_name") or []
    if given or not env.get("MODEL_NAME"):
        return given
    if (options.get("model_version") or env.get("MODEL_VERSION")) and _is_project(options, env):
        return [env["MODEL_NAME"]]
    return []


def _asked(options: Mapping[str, Any], env: Mapping[str, str]) -> bool:
    return bool(_names(options, env) or options.get("mlgates_endpoint_uri") or options.get("mlgates_loop"))


def _is_project(options: Mapping[str, Any], env: Mapping[str, str]) -> bool:
    """Whether settings can be found, without reading more than file names and a ``pyproject.toml``."""
    if options.get("mlgates_settings") or env.get("MLGATES_SETTINGS"):
        return True
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "mlgates.toml").is_file():
            return True
        shared = folder / "pyproject.toml"
        if shared.is_file() and b"[tool.mlgates" in shared.read_bytes():
            return True
    return False
