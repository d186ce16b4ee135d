"""The whole ring once, on embedded parts, in one folder: what ``mlgates quickstart`` runs.

Every step does the real thing: tables on disk, models in a registry, gates in a pytest process of their own, an endpoint
and a webhook receiver that listen on 127.0.0.1 and are stopped again. A step that does not do what it should ends the run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_mlgates import suite
from pytest_mlgates.errors import MlgatesError, UsageProblem
from pytest_mlgates.provenance import actor, git_state
from pytest_mlgates.reference.settings import BASELINE, CHALLENGER, settings_text
from pytest_mlgates.results import Verdict
from pytest_mlgates.wiring import Project

if TYPE_CHECKING:
    from pytest_mlgates.reference.train import ForestParams

MARKER = ".mlgates-quickstart"
SECRET = "MLGATES_WEBHOOK_SECRET"  # noqa: S105 the name of a variable, not its value
RETRAIN_WAIT_S = 300.0
LOAD_TRIES = 4


@dataclasses.dataclass(frozen=True, slots=True)
class Scale:
    """How much the quickstart does: machines per property, sizes of the two forests, days of the race, calls of the load test."""

    machines: int
    first: tuple[int, int, int]
    stronger: tuple[int, int, int]
    calls: int


SCALES = {
    # property-day figures are the same at both scales; 400 trees make each single-row gate call four times as dear
    "small": Scale(machines=10, first=(30, 8, 5), stronger=(50, 12, 2), calls=1000),
    "full": Scale(machines=140, first=(200, 8, 5), stronger=(400, 12, 2), calls=1000),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What one step did: whether it did what it should, the figure that shows it, and the seconds it took."""

    step: str
    ok: bool
    figure: str
    seconds: float


class StepFailed(MlgatesError):
    """A step did not do what it should."""


class Quickstart:
    """The steps, in order, over one folder.

    Parameters
    ----------
    folder
        Made where it is absent; must be empty otherwise.
    scale
        Key of `SCALES`.
    """

    def __init__(self, folder: Path, scale: str = "small") -> None:
        self.folder = folder.resolve()
        self.scale = SCALES[scale]
        self.port = _free_port()
        self.secret = secrets.token_hex(32)
        self.pages: tuple[Path, ...] = ()

    @property
    def steps(self) -> tuple[tuple[str, Callable[[], str]], ...]:
        """Title and action of each step; an action returns its figure, or raises."""
        return (
            ("synthesise a year of slot revenue", self.synthesise),
            ("train baseline v1, challenger v1 and v2", self.train),
            ("gates on the baseline, then Production", self.first_champion),
            ("gates on challenger v2", self.gate_challenger),
            ("promote challenger v2 to Staging", self.stage_challenger),
            ("champion/challenger over past days", self.race),
            ("promote challenger v2 to Production", self.promote_challenger),
            ("endpoint up, smoke test, load test", self.serve),
            ("drift run on unshifted data: quiet", self.quiet_drift),
            ("inject drift, drift run: alarm", self.inject_drift),
            ("alert, retrain, gates, Staging", self.alert_and_retrain),
            ("drift run after the retrain: quiet", self.quiet_again),
            ("audit chain verified", self.verify_audit),
            ("pages written", self.write_pages),
        )

    @cached_property
    def project(self) -> Project:
        """The project in the folder."""
        return Project.open(self.folder / "mlgates.toml", create=True)

    def prepare(self, *, fresh: bool = False) -> None:
        """Make the folder with its settings and pipelines.

        Raises
        ------
        UsageProblem
            It holds something already; with ``fresh`` only what is not an earlier quickstart's.
        """
        if self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
            ours = (self.folder / MARKER).is_file()
            if not (fresh and ours):
                how = "--fresh replaces it" if ours else "it is not an earlier quickstart, so nothing is removed"
                raise UsageProblem(f"{self.folder} is not empty; choose another --dir ({how})")
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / MARKER).write_text("made by mlgates quickstart; --fresh may remove this folder\n", "utf-8")
        shutil.copytree(
            suite.folder("pipelines"), self.folder / "pipelines", ignore=shutil.ignore_patterns("__pycache__", "azure")
        )
        (self.folder / "mlgates.toml").write_text(
            settings_text(
                tracking_uri=f"sqlite:///{self.folder}/mlflow.db",
                lakehouse=str(self.folder / "lakehouse"),
                port=self.port,
                retrain=self._retrain_command(),
            ),
            "utf-8",
        )

    def synthesise(self) -> str:
        """Write the fact table and the model's rows."""
        from pytest_mlgates.reference import features, synthesise

        written = synthesise.synthesise(self.project.lakehouse, synthesise.Scale(machines=self.scale.machines))
        frame, _ = features.property_days(self.project.lakehouse)
        features.write_features(self.project.lakehouse, frame)
        return f"{written.rows:,} machine-days, {len(frame):,} property-days, {frame.play_date.nunique()} dates"

    def train(self) -> str:
        """Train and register both models, then a stronger challenger."""
        first = self._train(self._forest(self.scale.first), only=None)
        stronger = self._train(self._forest(self.scale.stronger), only="challenger")
        baseline, v1 = first.metrics[BASELINE], first.metrics[CHALLENGER]
        v2 = stronger.metrics[CHALLENGER]
        _expect(v2["r2"] > baseline["r2"], f"R² of the challenger is {v2['r2']:.3f}, of the baseline {baseline['r2']:.3f}")
        return f"R² baseline {baseline['r2']:.3f}, challenger v1 {v1['r2']:.3f}, v2 {v2['r2']:.3f}"

    def first_champion(self) -> str:
        """Gate the baseline and make it the first Production version: there is no champion yet that it could beat."""
        passed = self._gates(BASELINE, "1")
        self._promote(BASELINE, "1", "Staging", "gates passed")
        self._promote(BASELINE, "1", "Production", "first version: there is no champion yet", hotfix=True)
        return passed

    def gate_challenger(self) -> str:
        """Gate the challenger against the baseline in Production."""
        return self._gates(CHALLENGER, "2")

    def stage_challenger(self) -> str:
        """Promote on the evidence that the gates stored."""
        return self._promote(CHALLENGER, "2", "Staging", "gates passed")

    def race(self) -> str:
        """Score the days of the holdout period with champion and challenger, one day after the other."""
        from pytest_mlgates.services import challenge
        from pytest_mlgates.tables import HOLDOUT

        project = self.project
        champion, challenger = challenge.find_pair(project.registry, project.settings, BASELINE, CHALLENGER)
        days = sorted(set(project.lakehouse.read(HOLDOUT, columns=["play_date"]).column("play_date").to_pylist()))
        done = challenge.evaluate(
            project.registry,
            project.lakehouse,
            project.settings,
            champion,
            challenger,
            today=days[-1] + dt.timedelta(days=1),
            since=days[0],
        )
        _expect(done.race.agrees, done.race.summary)
        return done.race.summary

    def promote_challenger(self) -> str:
        """Promote without a hotfix: evidence and race agree."""
        return self._promote(CHALLENGER, "2", "Production", "7 consecutive wins, e-value above 20")

    def serve(self) -> str:
        """Serve Production, ask it once as the tutorial's curl does, then load-test it."""
        from pytest_mlgates.endpoint import client, server
        from pytest_mlgates.services import load_run

        row = [5, 0, 1, 412900.0, 405200.0]
        columns = ["day_of_week", "is_holiday", "promo_active", "lag_7_revenue", "lag_30_revenue"]
        with server.start(self.folder / "mlgates.toml", model=CHALLENGER, state=self.folder / "endpoint") as running:
            with client.EndpointClient(running.uri) as asked:
                answer = asked.score([row], columns=columns)
            _expect(answer["model_version"] == "2", f"the endpoint answered with version {answer['model_version']}, not 2")
            for attempt in range(1, LOAD_TRIES + 1):
                summary = load_run.run(running.uri, n=attempt * self.scale.calls, concurrency=8, objective_ms=200.0)
                if summary.verdict in (Verdict.PASS, Verdict.FAIL):  # a busy machine settles nothing: ask again, for longer
                    break
        load_run.store(self.project.registry, summary)
        (self.folder / "loadtest.json").write_text(json.dumps(summary.to_dict(), indent=2) + "\n", "utf-8")
        figure = (
            f"v{answer['model_version']} answers ${answer['predictions'][0]:,.0f}; p99 {summary.quantiles['p99'].value:.0f} ms"
        )
        figure += f", {summary.errors} errors in {summary.n:,} calls"
        _expect(str(summary.verdict) == "pass", f"{figure}: {summary.verdict}")
        return figure

    def quiet_drift(self) -> str:
        """Compare the last week with the quarter before it; nothing was shifted, so nothing may alarm."""
        run = self._drift()
        _expect(run.exit_code == 0, f"drift was reported on unshifted data: {run.decision.sentence}")
        return str(run.decision.sentence)

    def inject_drift(self) -> str:
        """Shift a real input of the last week; the drift run must see it."""
        from pytest_mlgates.services import drift_records

        project = self.project
        own = project.settings.model(CHALLENGER).drift
        drift_records.inject_rows(
            project.lakehouse, own, CHALLENGER, feature="lag_7_revenue", factor=1.6, now=dt.datetime.now(dt.UTC)
        )
        run = self._drift()
        _expect(run.exit_code != 0, f"the injected shift was not seen: {run.decision.sentence}")
        return str(run.decision.sentence)

    def alert_and_retrain(self) -> str:
        """Evaluate the alert rule with a receiver up, and wait until the retrained version is in Staging."""
        from pytest_mlgates.alerts.evaluate import evaluate
        from pytest_mlgates.services.select import versions_of

        environment = {**os.environ, SECRET: self.secret}
        with self._receiver(environment):
            report = evaluate(self.project.lakehouse, self.project.settings, env=environment)
            _expect(bool(report.fired), "no alert fired")
            _expect(not report.failed, f"the alert was not delivered: {report.failed[0].detail if report.failed else ''}")
            deadline = time.monotonic() + RETRAIN_WAIT_S
            while time.monotonic() < deadline:
                latest = versions_of(self.project.registry, CHALLENGER, "latest")[-1]
                if latest.version != "2" and latest.stage == "Staging":
                    break
                time.sleep(1.0)
            else:
                raise StepFailed(
                    f"no new version reached Staging within {RETRAIN_WAIT_S:.0f} s; see {self.folder / 'receiver.log'}"
                )
        row = next(r for r in reversed(self.project.audit.rows(model=CHALLENGER)) if r.event.to_stage == "Staging")
        _expect("drift_alert" in row.event.rationale, f"the audit row does not name the alert: {row.event.rationale!r}")
        fired = report.fired[0]
        return f"{fired.metric} {fired.value:.2f} > {fired.threshold:.2f} fired; v{latest.version} in Staging, audited as drift_alert"

    def quiet_again(self) -> str:
        """The injected shift is gone with the fresh rows: the new version's inputs are quiet."""
        run = self._drift("Staging")
        _expect(run.exit_code == 0, f"drift on the fresh challenger: {run.decision.sentence}")
        return str(run.decision.sentence)

    def verify_audit(self) -> str:
        """Walk the chain and compare it with its anchors in the registry."""
        project = self.project
        anchors = {name: project.registry.model_tags(name).get("mlgates.audit_head", "") for name in (BASELINE, CHALLENGER)}
        report = project.audit.verify({name: text for name, text in anchors.items() if text})
        _expect(report.ok, report.problem)
        return f"{report.rows} rows, {report.anchors} anchors agree"

    def write_pages(self) -> str:
        """Write the evidence of the version in Production and the operations page."""
        from pytest_mlgates.pages import operations
        from pytest_mlgates.report import html, page
        from pytest_mlgates.services import evidence_store

        self.pages = (page.write(self.folder / "operations.html", operations(self.project)),)
        registry = self.project.registry
        document = evidence_store.latest(registry, registry.get(CHALLENGER, "2"))
        self.pages = (page.write(self.folder / "evidence.html", html.evidence_report(document)), *self.pages)
        return " and ".join(path.name for path in self.pages)

    def _forest(self, sizes: tuple[int, int, int]) -> ForestParams:
        from pytest_mlgates.reference.train import ForestParams

        return ForestParams(*sizes)

    def _train(self, params: ForestParams, only: str | None) -> Any:
        from pytest_mlgates.reference.train import train
        from pytest_mlgates.registry.tracking import MlflowTracker

        registry = self.project.registry
        tracker = MlflowTracker(registry.tracking_uri, shown=registry.uri)
        return train(tracker, self.project.lakehouse, params=params, only=only, intent="production-candidate")

    def _gates(self, name: str, version: str) -> str:
        """Run the shipped suite in a process of its own, as a user would; the exit code decides."""
        report = self.folder / f"gates-{name.rpartition('-')[2]}-v{version}.json"
        command = [sys.executable, "-m", "pytest", "--model-name", name, "--model-version", version]
        command += [
            "--mlgates-settings",
            str(self.folder / "mlgates.toml"),
            "--mlgates-json",
            str(report),
            "-p",
            "no:cacheprovider",
        ]
        environment = {k: v for k, v in os.environ.items() if k not in ("PYTEST_ADDOPTS", "MODEL_NAME", "MODEL_VERSION")}
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            (self.folder / "gates.log").write_text(done.stdout + done.stderr, "utf-8")
            said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
            raise StepFailed(
                f"pytest ended with {done.returncode}: {said[-2] if len(said) > 1 else said}; see {self.folder}/gates.log"
            )
        results = json.loads(report.read_text("utf-8"))["results"]
        counts = {v: sum(r["verdict"] == v for r in results) for v in ("pass", "skip")}
        first = next(r for r in results if r["gate"] == "performance")
        return f"{counts['pass']} passed, {counts['skip']} skipped; {first['summary']}"

    def _promote(self, name: str, version: str, stage: str, reason: str, *, hotfix: bool = False) -> str:
        from pytest_mlgates.services.promote import promote

        done = promote(
            self.project.registry,
            self.project.audit,
            self.project.settings,
            name,
            version,
            stage,
            actor=actor(),
            reason=reason,
            git_sha=git_state(self.folder)["sha"],
            hotfix=hotfix,
            approver=actor() if hotfix else None,
        )
        return f"{done.from_stage} → {done.to_stage} on evidence {done.evidence_id}, audit row {done.seq}"

    def _drift(self, version: str | None = None) -> Any:
        from pytest_mlgates.services.monitor import run_drift

        return run_drift(self.project.registry, self.project.lakehouse, self.project.settings, CHALLENGER, version=version)

    def _retrain_command(self) -> list[str]:
        trees, depth, leaf = self.scale.stronger
        return [sys.executable, "pipelines/retrain.py", "--trees", str(trees), "--depth", str(depth), "--leaf", str(leaf)]

    @contextlib.contextmanager
    def _receiver(self, environment: dict[str, str]) -> Iterator[None]:
        """Run ``mlgates alerts serve`` and stop it by its process id."""
        command = [sys.executable, "-c", "import sys; from pytest_mlgates.cli import main; sys.exit(main())"]
        command += ["--settings", str(self.folder / "mlgates.toml"), "alerts", "serve", "--port", str(self.port)]
        log = self.folder / "receiver.log"
        with log.open("ab") as output:
            process = subprocess.Popen(command, cwd=self.folder, env=environment, stdout=output, stderr=output)
        try:
            _wait_for_port(self.port, process, log)
            yield
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)


def run(quickstart: Quickstart, told: Callable[[str, str], None]) -> list[Outcome]:
    """Run every step; ``told(title, state)`` is called with ``"start"`` and with the figure at the end.

    A step that fails ends the run; the steps after it are reported as not run, but for the pages, which show how far it came.
    """
    outcomes: list[Outcome] = []
    for title, action in quickstart.steps:
        if action != quickstart.write_pages and not all(o.ok for o in outcomes):
            outcomes.append(Outcome(title, ok=False, figure="not run", seconds=0.0))
            continue
        told(title, "start")
        begin = time.monotonic()
        try:
            figure, ok = action(), True
        except MlgatesError as error:
            figure, ok = str(error), False
        outcomes.append(Outcome(title, ok, figure, time.monotonic() - begin))
        told(title, f"{'ok' if ok else 'FAILED'}  {figure}")
    return outcomes


def _expect(condition: bool, otherwise: str) -> None:
    if not condition:
        raise StepFailed(otherwise)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path, wait_s: float = 90.0) -> None:
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1.0):
            return
        time.sleep(0.2)
    raise StepFailed(f"the alert receiver does not answer on 127.0.0.1:{port}; see {log}")
