"""The closed loop on real parts: inject, alert, receive, retrain, register, audit, tell, drift back below 0.10.

One `ClosedLoop` is one run. It takes the project's own alert rule for the model (threshold, metrics, window) under a name of
this run, so that the rows it injects are seen by this run's rule and by no other, and leaves the project's own incidents
alone. Receiver, retraining, gates, promotion and audit are the project's; the Teams channel is a local HTTP server that
records what it gets. Everything it made stays in ``mlgates-loop/RUN`` of the project.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import http.server
import json
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
import tomllib
import uuid
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from typing import Any

import pytest

from pytest_mlgates.alerts.query import LOOP_RULE
from pytest_mlgates.config import AlertRule, Settings, load_settings
from pytest_mlgates.errors import MlgatesError
from pytest_mlgates.wiring import Project

FAULTS = ("twice", "receiver-down", "retrain-crashes", "teams-500")
INJECTIONS: dict[str, dict[str, float]] = {
    "data": {"psi_overall": 0.30},
    "prediction": {"psi_overall": 0.05, "prediction_psi": 0.30},
    "performance": {"psi_overall": 0.30, "performance_rmse_delta_pct": 0.30},
    # performance down while the inputs are where they were
    "concept": {"psi_overall": 0.05, "performance_rmse_delta_pct": 0.30},
}
"""Rows of the drift table that each kind of drift leaves, by metric."""
RULE_PREFIX = LOOP_RULE
PSI_MAX = 0.10
_DOWN_S = 30.0
_TEAMS_ERRORS = 4
_POLL_S = 0.5
# starts the command, and lets its first start be killed half-way
_CRASH_ONCE = (
    "import os, sys\n"
    "marker, command = sys.argv[1], sys.argv[2:]\n"
    "if not os.path.exists(marker):\n"
    "    open(marker, 'w').close()\n"
    "    os.environ['MLGATES_CRASH_AT'] = 'retrain-after-train'\n"
    "os.execvp(command[0], command)\n"
)


class LoopOpen(MlgatesError):
    """A step of the loop did not happen."""


class ClosedLoop:
    """One run of the loop.

    Parameters
    ----------
    project
        The project; its settings name the model, the rule and the retrain command.
    model
        Name of the model.
    deadline_s
        Seconds that each step may take.
    fault
        One of `FAULTS`, or empty.
    kind
        Key of `INJECTIONS`.
    """

    def __init__(self, project: Project, model: str, *, deadline_s: float, fault: str = "", kind: str = "data") -> None:
        self.project, self.model, self.deadline_s, self.fault, self.kind = project, model, deadline_s, fault, kind
        self.run = uuid.uuid4().hex[:12]
        self.failed = ""
        self.folder = project.folder / "mlgates-loop" / self.run
        self.alert_id = ""
        self.version = ""
        self._before = {v.version for v in project.registry.versions(model)}
        self._secret = secrets.token_hex(32)
        self._teams = _Teams(_TEAMS_ERRORS if fault == "teams-500" else 0)
        self._port = _free_port()
        self._env = {**os.environ, "MLGATES_WEBHOOK_SECRET": self._secret, "MLGATES_LOOP_TEAMS": self._teams.url}
        self._receiver: subprocess.Popen[bytes] | None = None
        self._down_until = 0.0
        self.settings = self._own_settings()

    def start(self) -> None:
        """Start the receiver (or leave it down for half a minute)."""
        self._down_until = time.monotonic() + (_DOWN_S if self.fault == "receiver-down" else 0.0)
        if self.fault != "receiver-down":
            self._start_receiver()

    def close(self) -> None:
        """Stop what was started."""
        if self._receiver is not None and self._receiver.poll() is None:
            self._receiver.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._receiver.wait(30)
        self._teams.shutdown()
        self._teams.server_close()
        if self.settings.path is not None:
            self.settings.path.replace(self.folder / "settings.toml")
        (self.folder / "teams.json").write_text(json.dumps(self._teams.messages, indent=1), "utf-8")

    def inject(self) -> str:
        """Step 1: write marked drift metrics."""
        import pyarrow as pa

        from pytest_mlgates import tables

        store = self.project.lakehouse
        store.create(tables.DRIFT_METRICS, tables.SCHEMAS[tables.DRIFT_METRICS], append_only=True)
        watched = self.project.settings.model(self.model).drift
        rows = [
            {
                "run_id": f"injected-loop-{self.run}", "run_timestamp": dt.datetime.now(dt.UTC), "model_name": self.model,
                "model_version": max(self._before, key=int), "feature_name": "__overall__", "metric_type": metric, "value": value,
                "threshold": 0.20, "status": "injected", "severity": "P1", "reference_days": watched.reference_days,
                "current_days": watched.current_days,
            }
            for metric, value in INJECTIONS[self.kind].items()
        ]  # fmt: skip
        store.append(tables.DRIFT_METRICS, pa.Table.from_pylist(rows, schema=tables.SCHEMAS[tables.DRIFT_METRICS]))
        found = store.read(tables.DRIFT_METRICS, where=f"run_id = 'injected-loop-{self.run}'")
        _expect(found.num_rows == len(rows), f"{found.num_rows} of {len(rows)} rows can be read back")
        return ", ".join(f"{metric} = {value:g}" for metric, value in INJECTIONS[self.kind].items())

    def fires(self) -> str:
        """Step 2: an evaluation fires."""
        if not self.settings.alerts.rules:
            self._wait(lambda: "", f"no enabled alert rule of the settings is for {self.model}")
        return self._wait(self._evaluate, "the alert rule did not fire")

    def received(self) -> str:
        """Step 3: the receiver has the alert."""
        return self._wait(self._status_url, "the receiver did not get the alert")

    def pipeline_ran(self) -> str:
        """Step 4: the receiver started the retraining."""
        return self._wait(lambda: self._job_state("running", "succeeded"), "the retraining did not start")

    def registered(self) -> str:
        """Step 5: a new version carries this alert's id, and the retraining succeeded."""
        self._wait(lambda: self._job_state("succeeded"), "the retraining did not succeed")
        made = [v for v in self.project.registry.versions(self.model) if v.tags.get("alert_id") == self.alert_id]
        _expect(len(made) == 1, f"{len(made)} versions carry alert {self.alert_id}, not one")
        self.version = made[0].version
        _expect(self.version not in self._before, f"version {self.version} is not new")
        return f"v{self.version}"

    def audited(self) -> str:
        """Step 6: one audit row moves it to Staging, for this alert."""
        rows = [
            r.event
            for r in self.project.audit.rows(self.model)
            if r.event.version == self.version and r.event.to_stage == "Staging" and r.event.state == "committed"
        ]
        _expect(len(rows) == 1, f"{len(rows)} audit rows move v{self.version} to Staging, not one")
        said = rows[0].rationale
        _expect("drift" in said and self.alert_id in said, f"the audit row does not name the alert: {said!r}")
        return said

    def told(self) -> str:
        """Step 7: the Teams channel got the alert, and the summary once."""
        self._wait(self._summary, "the Teams channel did not get both the alert and the summary")
        count = self._teams.taken("Retrained")
        _expect(count == 1, f"the summary came {count} times")
        return "one summary"

    def quiet(self) -> str:
        """Step 8: drift on the fresh challenger is below 0.10."""
        from pytest_mlgates.services.monitor import run_drift

        project = self.project
        run = run_drift(project.registry, project.lakehouse, project.settings, self.model, version=self.version, write=False)
        psi = run.report.psi_overall
        if psi is None:
            raise LoopOpen(f"there is too little data to judge the drift of v{self.version}: {run.decision.sentence}")
        _expect(psi < PSI_MAX, f"PSI on v{self.version} is {psi:.3f}, not below {PSI_MAX}")
        return f"PSI {psi:.3f}"

    def step(self, number: int, action: Callable[[], str]) -> None:
        """Run one step; one that fails is why those after it are skipped."""
        __tracebackhide__ = True
        if self.failed:
            pytest.skip(self.failed)
        began = time.monotonic()
        problem = ""
        try:
            figure = action()
        except MlgatesError as error:
            problem = str(error)
        if problem:
            self.failed = f"step {number} failed: {problem}"
            self._log(number, f"FAILED {problem}", began)
            pytest.fail(f"{problem}; what it left is in {self.folder}", pytrace=False)
        self._log(number, figure, began)

    def _log(self, number: int, text: str, began: float) -> None:
        with (self.folder / "loop.log").open("a", encoding="utf-8") as file:
            file.write(f"{dt.datetime.now(dt.UTC):%H:%M:%S} step {number} ({time.monotonic() - began:.1f} s): {text}\n")

    def _wait(self, look: Callable[[], str], otherwise: str) -> str:
        until = time.monotonic() + self.deadline_s
        while True:
            found = look()
            if found:
                return found
            if time.monotonic() > until:
                raise LoopOpen(f"{otherwise} within {self.deadline_s:g} s")
            time.sleep(_POLL_S)

    def _evaluate(self) -> str:
        from pytest_mlgates.alerts import ledger
        from pytest_mlgates.alerts.evaluate import evaluate

        if self._receiver is None and time.monotonic() > self._down_until:
            self._start_receiver()
        evaluate(self.project.lakehouse, self.settings, env=self._env)
        rows = ledger.read(self.project.lakehouse).rows
        self.alert_id = next((r.alert_id for r in rows if r.event == "fired" and r.rule == RULE_PREFIX + self.run), "")
        return self.alert_id

    def _status_url(self) -> str:
        import httpx

        self._evaluate()  # delivers what could not be delivered before
        if self._receiver is None:
            return ""
        url = f"http://127.0.0.1:{self._port}/alerts/{self.alert_id}"
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(url, timeout=5).is_success:
                if self.fault == "twice":
                    self._deliver_again()
                return url
        return ""

    def _deliver_again(self) -> None:
        from pytest_mlgates.alerts import ledger
        from pytest_mlgates.alerts.dispatch import notice_of
        from pytest_mlgates.alerts.sinks import deliver

        time.sleep(1.1)  # another second, another signature: a delivery of its own, not a replay
        seen = ledger.read(self.project.lakehouse)
        row = next(r for r in seen.rows if r.event == "fired" and r.alert_id == self.alert_id)
        channel = self.settings.alerts.groups[RULE_PREFIX].channels[0]
        again = deliver(channel, notice_of(self.project.lakehouse, seen, self.settings, row), env=self._env)
        if not again.ok:
            raise LoopOpen(f"the second delivery was not taken: {again.detail}")

    def _job_state(self, *wanted: str) -> str:
        from pytest_mlgates.alerts.inbox import Inbox
        from pytest_mlgates.alerts.serve import inbox_path

        job = Inbox(inbox_path(self.settings)).get(self.alert_id)
        if job is not None and job.state in ("failed", "suppressed", "waiting", "noted"):
            raise LoopOpen(f"the retraining is {job.state}: {' '.join(job.note.split())}")
        return f"{job.state}, start {job.attempts}" if job is not None and job.state in wanted else ""

    def _summary(self) -> str:
        if not self._all_told():
            self._evaluate()  # delivers what the channel did not take before
        return "taken" if self._all_told() else ""

    def _all_told(self) -> bool:
        return self._teams.taken("Drift alert") > 0 and self._teams.taken("Retrained") > 0

    def _start_receiver(self) -> None:
        from pytest_mlgates.alerts.serve import start

        self._receiver = start(self.settings, port=self._port, log=self.folder / "receiver.log", env=self._env)

    def _own_settings(self) -> Settings:
        """Write the settings of this run beside the project's and load them."""
        path = self.project.settings.path
        if path is None:
            raise LoopOpen("the loop needs a settings file")
        raw = tomllib.loads(path.read_text("utf-8"))
        raw = raw.get("tool", {}).get("mlgates", {}) if path.name == "pyproject.toml" else raw
        rule = next((r for r in self.project.settings.alerts.rules if r.enabled and fnmatchcase(self.model, r.model)), None)
        self.folder.mkdir(parents=True)
        raw["alerts"] = self._alerts(rule)
        if self.fault == "retrain-crashes":
            for pattern, own in raw["models"].items():
                command = own.get("retrain", {}).get("command")
                if command and fnmatchcase(self.model, pattern):
                    python = sys.executable if command[0] in ("python", "python3") else command[0]
                    marker = str(self.folder / "crashed")
                    own["retrain"]["command"] = [sys.executable, "-c", _CRASH_ONCE, marker, python, *command[1:]]
        written = path.parent / f".mlgates-loop-{self.run}.toml"
        written.write_text("".join(f"{_key(k)} = {_value(v)}\n" for k, v in raw.items()), "utf-8")
        return load_settings(written)

    def _alerts(self, rule: AlertRule | None) -> dict[str, Any]:
        rules: list[dict[str, Any]] = []
        if rule is not None:
            own = rule.model_dump(mode="json", exclude_none=True)
            extra = [m for m in INJECTIONS[self.kind] if m not in own["metrics"] and m != "psi_overall"]
            mine = {"name": RULE_PREFIX + self.run, "model": self.model, "group": RULE_PREFIX, "cooldown_days": 0.0}
            rules = [{**own, **mine, "metrics": [*own["metrics"], *extra]}]
        webhook = {"kind": "webhook", "url": f"http://127.0.0.1:{self._port}/alerts", "tries": 1, "rounds": 1000}
        teams = {"kind": "teams", "url_env": "MLGATES_LOOP_TEAMS", "tries": 2, "rounds": 1000}
        queue = str((self.folder / "queue.db").relative_to(self.project.folder))
        return {"queue": queue, "rules": rules, "groups": {RULE_PREFIX: {"channels": [webhook, teams]}}}


class _Teams(http.server.ThreadingHTTPServer):
    """Stands for the Teams channel: takes messages, after answering 500 to the first few where told to."""

    daemon_threads = True

    def __init__(self, errors: int) -> None:
        self.errors = errors
        self.messages: list[dict[str, Any]] = []
        super().__init__(("127.0.0.1", 0), _TeamsHandler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/teams?sig={secrets.token_hex(8)}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def taken(self, word: str) -> int:
        """How many taken messages begin their headline with ``word``."""
        return sum(m["attachments"][0]["content"]["body"][0]["text"].startswith(word) for m in self.messages)


class _TeamsHandler(http.server.BaseHTTPRequestHandler):
    server: _Teams

    def do_POST(self) -> None:
        """Take one message."""
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        broken = self.server.errors > 0
        self.server.errors -= broken
        if not broken:
            self.server.messages.append(message)
        self.send_response(500 if broken else 202)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 the name is http.server's
        """Say nothing."""


@pytest.fixture(scope="module")
def closed_loop(pytestconfig: pytest.Config) -> Iterator[ClosedLoop]:
    """The run of the loop that ``--mlgates-loop`` asked for."""
    options = pytestconfig.option
    loop = ClosedLoop(
        Project.open(options.mlgates_settings),
        (options.model_name or [os.environ.get("MODEL_NAME", "")])[0],
        deadline_s=options.mlgates_loop_deadline,
        fault=options.mlgates_loop_fault or "",
        kind=options.mlgates_loop_inject,
    )
    loop.start()
    yield loop
    loop.close()


def _expect(condition: bool, otherwise: str) -> None:
    if not condition:
        raise LoopOpen(otherwise)


def _key(name: str) -> str:
    return json.dumps(name)


def _value(value: Any) -> str:
    """One TOML value on one line; JSON's strings, numbers, booleans and lists are TOML's."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_value(v) for v in value) + "]"
    if isinstance(value, str | bool | int | float):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value)  # dates and times


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
