"""The run on embedded parts: a receiver of its own with a queue of its own, and a local server for the Teams channel.

Its settings are the project's, with the run's rule and channels in place of the alerts; they lie beside the project's
settings for as long as the run takes, since the retrain command reads them from there.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_mlgates.alerts.query import LOOP_RULE
from pytest_mlgates.closed_loop.parts import LoopOpen, Seen
from pytest_mlgates.closed_loop.teams import TeamsServer
from pytest_mlgates.closed_loop.toml import toml_text
from pytest_mlgates.config import AlertRule, Settings, load_settings
from pytest_mlgates.errors import UsageProblem

if TYPE_CHECKING:
    from pytest_mlgates.wiring import Project

FAULTS = ("twice", "receiver-down", "retrain-crashes", "teams-500")
_DOWN_S = 30.0
_TEAMS_ERRORS = 4
# starts the command, and lets its first start be killed half-way
_CRASH_ONCE = (
    "import os, sys\n"
    "marker, command = sys.argv[1], sys.argv[2:]\n"
    "if not os.path.exists(marker):\n"
    "    open(marker, 'w').close()\n"
    "    os.environ['MLGATES_CRASH_AT'] = 'retrain-after-train'\n"
    "os.execvp(command[0], command)\n"
)


class EmbeddedParts:
    """Receiver and Teams channel of one run; ``fault`` is one of `FAULTS` or empty."""

    def __init__(self, project: Project, model: str, rule: AlertRule | None, folder: Path, fault: str = "") -> None:
        self._project, self._folder, self._fault = project, folder, fault
        self._teams = TeamsServer(_TEAMS_ERRORS if fault == "teams-500" else 0)
        self._port = _free_port()
        self.env: Mapping[str, str] = {
            **os.environ, "MLGATES_WEBHOOK_SECRET": secrets.token_hex(32), "MLGATES_LOOP_TEAMS": self._teams.url,
        }  # fmt: skip
        self._receiver: subprocess.Popen[bytes] | None = None
        self._down_until = 0.0
        self._sent_twice = False
        self.settings = self._own_settings(model, rule)

    def start(self) -> None:
        """Start the receiver (or leave it down for half a minute)."""
        self._down_until = time.monotonic() + (_DOWN_S if self._fault == "receiver-down" else 0.0)
        if self._fault != "receiver-down":
            self._start_receiver()

    def close(self) -> None:
        """Stop the receiver and the server; keep the settings and the messages."""
        if self._receiver is not None and self._receiver.poll() is None:
            self._receiver.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._receiver.wait(30)
        self._teams.shutdown()
        self._teams.server_close()
        if self.settings.path is not None:
            self.settings.path.replace(self._folder / "settings.toml")
        (self._folder / "teams.json").write_text(json.dumps(self._teams.messages, indent=1), "utf-8")

    def tick(self) -> None:
        """Bring the receiver up when its time of being down is over."""
        if self._receiver is None and time.monotonic() > self._down_until:
            self._start_receiver()

    def received(self, alert_id: str) -> str:
        """Where the receiver shows the alert; with the fault ``twice``, only after a second delivery."""
        import httpx

        if self._receiver is None:
            return ""
        url = f"http://127.0.0.1:{self._port}/alerts/{alert_id}"
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(url, timeout=5).is_success:
                if self._fault == "twice" and not self._sent_twice:
                    self._deliver_again(alert_id)
                return url
        return ""

    def job(self, alert_id: str) -> Seen | None:
        """The alert's row in the run's queue."""
        from pytest_mlgates.alerts.inbox import Inbox
        from pytest_mlgates.alerts.serve import inbox_path

        job = Inbox(inbox_path(self.settings)).get(alert_id)
        if job is None:
            return None
        return Seen(job.state, " ".join(job.note.split()) or f"start {job.attempts}")

    def told(self, alert_id: str) -> tuple[int, int]:
        """What the server took."""
        del alert_id  # the server is this run's own
        return self._teams.taken("Drift alert"), self._teams.taken("Retrained")

    def _deliver_again(self, alert_id: str) -> None:
        from pytest_mlgates.alerts import ledger
        from pytest_mlgates.alerts.dispatch import notice_of
        from pytest_mlgates.alerts.sinks import deliver

        time.sleep(1.1)  # another second, another signature: a delivery of its own, not a replay
        seen = ledger.read(self._project.lakehouse)
        row = next(r for r in seen.rows if r.event == "fired" and r.alert_id == alert_id)
        channel = self.settings.alerts.groups[LOOP_RULE].channels[0]
        again = deliver(channel, notice_of(self._project.lakehouse, seen, self.settings, row), env=self.env)
        if not again.ok:
            raise LoopOpen(f"the second delivery was not taken: {again.detail}")
        self._sent_twice = True

    def _start_receiver(self) -> None:
        from pytest_mlgates.alerts.serve import start

        self._receiver = start(self.settings, port=self._port, log=self._folder / "receiver.log", env=self.env)

    def _own_settings(self, model: str, rule: AlertRule | None) -> Settings:
        """Write the settings of this run beside the project's and load them."""
        path = self._project.settings.path
        if path is None:
            raise UsageProblem("the loop needs a settings file: run it where mlgates.toml is, or name it by --mlgates-settings")
        raw = tomllib.loads(path.read_text("utf-8"))
        raw = raw.get("tool", {}).get("mlgates", {}) if path.name == "pyproject.toml" else raw
        alerts = raw.get("alerts", {})
        raw["alerts"] = {k: alerts[k] for k in ("links", "run_link") if k in alerts} | self._alerts(rule)
        if self._fault == "retrain-crashes":
            for pattern, own in raw["models"].items():
                command = own.get("retrain", {}).get("command")
                if command and fnmatchcase(model, pattern):
                    python = sys.executable if command[0] in ("python", "python3") else command[0]
                    marker = str(self._folder / "crashed")
                    own["retrain"]["command"] = [sys.executable, "-c", _CRASH_ONCE, marker, python, *command[1:]]
        written = path.parent / f".mlgates-loop-{self._folder.name}.toml"
        written.write_text(toml_text(raw), "utf-8")
        return load_settings(written)

    def _alerts(self, rule: AlertRule | None) -> dict[str, Any]:
        rules = [] if rule is None else [{**rule.model_dump(mode="json", exclude_none=True), "group": LOOP_RULE}]
        webhook = {"kind": "webhook", "url": f"http://127.0.0.1:{self._port}/alerts", "tries": 1, "rounds": 1000}
        teams = {"kind": "teams", "url_env": "MLGATES_LOOP_TEAMS", "tries": 2, "rounds": 1000}
        queue = str((self._folder / "queue.db").relative_to(self._project.folder))
        return {"queue": queue, "rules": rules, "groups": {LOOP_RULE: {"channels": [webhook, teams]}}}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
