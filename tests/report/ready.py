"""A project where everything holds: tables filled as the parts fill them, an endpoint that answers, documents in place."""

from __future__ import annotations

import dataclasses
import datetime as dt
import http.server
import json
import os
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from pytest_mlgates import checks
from pytest_mlgates.audit import AuditLog
from pytest_mlgates.ports import AuditEvent, ModelVersion
from pytest_mlgates.services.load_run import LOAD_TAG
from pytest_mlgates.services.moves import HEAD_TAG
from pytest_mlgates.services.readiness import judge
from pytest_mlgates.services.readiness_facts import ENDPOINTS, look
from pytest_mlgates.tables import (
    ALERTS,
    APPEND_ONLY,
    CHALLENGER,
    COST,
    DRIFT_METRICS,
    FORECASTS,
    PREDICTION_LOG,
    RETRAIN_TRIGGERS,
    SCHEMAS,
)  # fmt: skip
from tests.promotion.world import World

ALERT = "alert-1"
SETTINGS = """
tracking_uri = "{uri}"
lakehouse = "lakehouse"

[models."*"]
task = "regression"
target = "revenue"
holdout = "lh_gold.revenue_holdout"

[[alerts.rules]]
name = "drift"
group = "g"

[alerts.groups.g]
channels = [
  {{ kind = "email", to = ["a@example.org"] }},
  {{ kind = "teams", url = "http://127.0.0.1:9/teams?sig={secret}" }},
  {{ kind = "webhook", url = "http://127.0.0.1:9/alerts" }},
]

[cost]
centers = {{ "*" = "cc-1" }}

[readiness]
runbook = "runbook.md"
postmortem = "postmortem.md"
"""


def _serving() -> http.server.ThreadingHTTPServer:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Health)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    return server


class _Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"status": "ok", "model_version": "1"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: Any) -> None:
        pass


def rich_results(rng, label="segment") -> tuple:
    """Results of real checks over made-up rows, with ``label`` in the names of groups and slices."""
    n = 4000
    x = rng.normal(size=n)
    p = 1 / (1 + np.exp(-x))
    y = rng.random(n) < p
    groups = pd.Series(rng.integers(0, 4, n)).map(lambda v: f"{label} {v}")
    frame = pd.DataFrame({f"{label} a": groups, "b": rng.integers(0, 3, n)})
    return (
        checks.performance(y, p, p**1.5, metric="auc", task="binary"),
        dataclasses.replace(checks.fairness(y, p, pd.DataFrame({f"{label} race": groups}), task="binary", min_parity_ratio=0.5)),
        checks.latency(rng.lognormal(-5, 0.4, 1000)),
        checks.calibration(y, p, task="binary", slices=pd.DataFrame({label: groups})),
        checks.weak_slices(y, p, frame, task="binary"),
        checks.holdout(p, p),
    )  # fmt: skip


@dataclasses.dataclass
class Ready:
    world: World
    name: str
    now: dt.datetime
    server: http.server.ThreadingHTTPServer

    @classmethod
    def build(cls, world: World, name: str = "revenue", *, label: str = "segment", secret: str = "not-a-secret") -> Ready:
        folder = world.folder
        (folder / "mlgates.toml").write_text(SETTINGS.format(uri=world.uri, secret=secret))
        world.__dict__.pop("settings", None)
        found = cls(world, name, dt.datetime.now(dt.UTC), _serving())
        found._versions(label)
        found._documents()
        found._endpoint()
        found._drift(label)
        found._alerts(label)
        found._race()
        found._scores()
        found.cost()
        return found

    def copy(self, folder: Path) -> Ready:
        """The same once more, with a server of its own; artifacts of runs are shared, so a test adds some and changes none."""
        world = self.world.copy(folder)
        for name in ("runbook.md", "postmortem.md"):
            shutil.copy(self.world.folder / name, folder / name)
        shutil.copytree(self.world.folder / ".git", folder / ".git")
        found = Ready(world, self.name, self.now, _serving())
        found.sha, found.champion = self.sha, self.champion
        found._endpoint()
        return found

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    @property
    def items(self) -> dict[int, str]:
        """Verdict by number, read now."""
        return {i.number: i.verdict for i in self.judged()}

    def judged(self):
        w = self.world
        facts = look(w.registry, w.lake, w.audit, w.settings, self.name, now=self.now)
        return judge(facts, w.settings)

    def add(self, table: str, rows: list[dict[str, Any]]) -> None:
        lake = self.world.lake
        lake.create(table, SCHEMAS[table], append_only=table in APPEND_ONLY)
        lake.append(table, pa.Table.from_pylist(rows, schema=SCHEMAS[table]))

    def _git(self, *words: str) -> str:
        environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        done = subprocess.run(
            ["git", *identity, *words], cwd=self.world.folder, env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def _versions(self, label: str) -> None:
        world = self.world
        self._git("init", "-q")
        self._git("add", "mlgates.toml")
        self._git("commit", "-qm", "start")
        self.sha = self._git("rev-parse", "HEAD")
        world.add_version(self.name, judged=False)
        champion = world.add_version(self.name, judged=False)
        results = (*rich_results(np.random.default_rng(1), label),)
        extra = tuple(r for r in self._passing() if r.gate not in {f.gate for f in results})
        world.judge(champion, results=(*results, *extra), git={"sha": self.sha, "dirty": False})
        world.registry.client.set_tag(champion.run_id, "git_sha", self.sha)
        world.registry.set_version_tag(self.name, champion.version, "alert_id", ALERT)
        load = {"p99_ms": 12.5, "errors": 0, "verdict": "pass", "n": 1000}
        world.registry.log_artifact(champion, "mlgates/load/x.json", json.dumps(load).encode())
        world.registry.set_version_tag(self.name, champion.version, LOAD_TAG, "mlgates/load/x.json")
        self.champion: ModelVersion = champion
        self.first_move()

    @staticmethod
    def _passing():
        from tests.promotion.world import ALL_PASS

        return ALL_PASS

    def first_move(self) -> None:
        """Production by the registry and the audit, as promotion leaves them."""
        world, version = self.world, self.champion.version
        log = AuditLog(world.lake)
        for start, stage in (("None", "Staging"), ("Staging", "Production")):
            log.append(
                AuditEvent(
                    self.name, version, start, stage, "ann", "committed", f"drift_alert {ALERT} <script>alert(1)</script>"
                )
            )
            world.registry.set_stage(self.name, version, stage)
        self.anchor()

    def anchor(self) -> None:
        from pytest_mlgates.audit import anchor

        self.world.registry.set_model_tag(self.name, HEAD_TAG, anchor(*self.world.audit.head()))

    def _documents(self) -> None:
        (self.world.folder / "runbook.md").write_text("# Runbook\nWhen drift alarms, ...\n")
        (self.world.folder / "postmortem.md").write_text("# Postmortem of ...\n")

    def _endpoint(self, instances: int = 2) -> None:
        state = self.world.folder / ENDPOINTS / "m" / "prod"
        state.mkdir(parents=True, exist_ok=True)
        definition = {"name": "prod", "modelVersion": "Production", "minInstances": instances, "maxInstances": 2}
        (state / "endpoint.json").write_text(json.dumps({"model": self.name, "definition": definition}))
        host, port = self.server.server_address[:2]
        (state / "server.json").write_text(json.dumps({"pid": 1, "host": host, "port": port}))

    def _drift(self, label: str) -> None:
        rows = []
        rng = np.random.default_rng(5)
        for day in range(8):
            common = {
                "run_id": f"run-{day}", "run_timestamp": self.now - dt.timedelta(days=7 - day, minutes=5), "model_name": self.name,
                "model_version": "2", "severity": "", "reference_days": 90, "current_days": 7, "status": "stable",
            }  # fmt: skip
            for i in range(5):
                psi = float(rng.gamma(1, 0.1))
                state = "drift" if (day, i) == (7, 2) else "stable"
                feature = {"feature_name": f"{label} {i}", "status": state}
                rows.append({**common, **feature, "metric_type": "psi", "value": psi, "threshold": 0.1})
                rows.append({**common, **feature, "metric_type": "q", "value": 0.5, "threshold": 0.01})
            rows.append(
                {**common, "feature_name": "__overall__", "metric_type": "psi_overall", "value": 0.31, "threshold": 0.2}
            )
        self.add(DRIFT_METRICS, rows)
        trigger = {
            "trigger_id": "t",
            "triggered_at": self.now - dt.timedelta(days=3),
            "model_name": self.name,
            "model_version": "1",
        }
        self.add(
            RETRAIN_TRIGGERS, [{**trigger, "severity": "P2", "reasons": "drift", "drift_run_id": "run-7", "status": "open"}]
        )

    def _alerts(self, label: str) -> None:
        at = self.now - dt.timedelta(days=2)
        row = {
            "alert_id": ALERT, "event_time": at, "event": "fired", "rule": f"drift {label}", "model_name": self.name, "severity": "P2",
            "value": 0.31, "threshold": 0.2, "message": label, "drift_run_id": "run-x", "about": "", "metric": "psi_overall",
        }  # fmt: skip
        rows = [row]
        for i, channel in enumerate(("email", "teams", "webhook")):
            rows.append({**row, "event": "delivered", "channel": channel, "event_time": at + dt.timedelta(seconds=i + 1)})
        self.add(ALERTS, rows)

    def _race(self) -> None:
        rng = np.random.default_rng(6)
        rows = []
        for day in range(30):
            date = (self.now - dt.timedelta(days=30 - day)).date()
            for stage, loss in (("Production", 10 + rng.random()), ("Staging", 9 + rng.random())):
                rows.append(
                    {
                        "eval_date": date,
                        "model_name": self.name,
                        "stage": stage,
                        "rmse": loss,
                        "pair": f"{self.name} v1 vs {self.name} v2",
                    }
                )
        self.add(CHALLENGER, rows)

    def _scores(self) -> None:
        rng = np.random.default_rng(7)
        log = [
            {"request_id": str(i), "logged_at": self.now - dt.timedelta(minutes=i), "model_name": self.name, "model_version": "2",
             "inputs": "{}", "prediction": 1.0, "latency_ms": float(v)}
            for i, v in enumerate(rng.lognormal(1, 0.5, 500))
        ]  # fmt: skip
        self.add(PREDICTION_LOG, log)
        scored = [
            {"property_id": i, "play_date": self.now.date(), "predicted_revenue": 1.0, "model_name": self.name, "model_version": "2",
             "run_id": f"score-{i % 7}", "scored_at": self.now - dt.timedelta(days=i % 7)}
            for i in range(70)
        ]  # fmt: skip
        self.add(FORECASTS, scored)

    def cost(self, **changes: Any) -> None:
        rows = []
        for day in range(7, -1, -1):
            common = {
                "recorded_at": self.now - dt.timedelta(days=day, minutes=1), "model": self.name, "cost_center": "", "intent": "production",
                "bytes": 0, "errors": 0, "status": "ok", "version": "2",
            }  # fmt: skip
            for surface, seconds in (("batch", 12.5), ("drift", 30.0), ("endpoint", 3600.0), ("training", 100.0)):
                rows.append({**common, "run_id": f"{surface}-{day}", "surface": surface, "seconds": seconds, "calls": 10})
            storage = {"surface": "storage", "model": "", "seconds": 0.0, "bytes": 5_000_000_000, "calls": 0}
            rows.append({**common, **storage, "run_id": f"storage-{day}"})
        self.add(COST, [{**r, **changes} for r in rows])
