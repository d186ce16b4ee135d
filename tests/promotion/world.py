"""A real MLflow registry on SQLite, a real lakehouse and settings in one folder, made in a fraction of a second."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import io
import os
import shutil
import subprocess
import sys
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from pytest_mlgates import evidence as ev
from pytest_mlgates import filedigests
from pytest_mlgates.audit import AuditLog
from pytest_mlgates.cli import main
from pytest_mlgates.config import ModelSettings, Settings, load_settings
from pytest_mlgates.lakehouse import Lakehouse
from pytest_mlgates.ports import ModelVersion
from pytest_mlgates.registry.store import MlflowRegistry
from pytest_mlgates.results import GateResult, RunReport, Verdict
from pytest_mlgates.rows import table_digest
from pytest_mlgates.services import evidence_store
from pytest_mlgates.services.lease import open_intent
from pytest_mlgates.services.moves import projected
from pytest_mlgates.services.promote import Promotion, promote
from pytest_mlgates.services.reconcile import Reconciliation, reconcile

MODEL = "revenue"
HOLDOUT = "lh_gold.revenue_holdout"
REQUIRED = ModelSettings(task="regression", target="revenue", holdout=HOLDOUT).required
ALL_PASS = tuple(
    GateResult(gate=g, verdict=Verdict.SKIP if g == "fairness" else Verdict.PASS, estimate=0.9, n=100, summary=f"{g} is fine")
    for g in REQUIRED
)

TOML = """
tracking_uri = "{uri}"
lakehouse = "lakehouse"

[models."{model}"]
task = "regression"
target = "revenue"
holdout = "lh_gold.revenue_holdout"
{more}

[policy]
max_age_days = 30
{policy}
"""


@dataclasses.dataclass
class World:
    folder: Path
    uri: str = ""

    @classmethod
    def make(cls, folder: Path, template: Path, *, uri: str = "", more: str = "", policy: str = "") -> World:
        folder.mkdir(parents=True, exist_ok=True)
        if not uri:
            shutil.copy(template, folder / "mlflow.db")
        world = cls(folder, uri or f"sqlite:///{folder / 'mlflow.db'}")
        world.write_settings(more=more, policy=policy)
        frame = pd.DataFrame({"key": range(50), "x": [i / 7 for i in range(50)], "revenue": [i * 1.5 for i in range(50)]})
        world.lake.overwrite(HOLDOUT, pa.Table.from_pandas(frame, preserve_index=False))
        return world

    def copy(self, folder: Path) -> World:
        """The same project once more; model files and evidence stay where they are."""
        folder.mkdir(parents=True)
        shutil.copytree(self.folder / "lakehouse", folder / "lakehouse")
        shutil.copy(self.folder / "mlflow.db", folder / "mlflow.db")
        text = (self.folder / "mlgates.toml").read_text().replace(str(self.folder / "mlflow.db"), str(folder / "mlflow.db"))
        (folder / "mlgates.toml").write_text(text)
        return World(folder, f"sqlite:///{folder / 'mlflow.db'}")

    def problems(self, name: str = MODEL) -> list[str]:
        """Everything in which registry and audit disagree; the invariant that no crash and no race may break."""
        rows = self.audit.rows(name)
        found = []
        expected = {v: s for v, s in projected(rows).items() if s != "None"}
        actual = {v: s for v, s in self.stages(name).items() if s != "None"}
        if expected != actual:
            found.append(f"the audit has {expected}, the registry {actual}")
        if open_intent(rows) is not None:
            found.append(f"row {open_intent(rows)} is open")
        closed = [row.event.fence for row in rows if row.event.state in {"committed", "aborted"}]
        superseded = [row.event.fence for row in rows if row.event.state == "intent" and row.event.fence]
        done = closed + superseded
        found += [f"intent {r.seq} was never closed" for r in rows if r.event.state == "intent" and r.seq not in done]
        inside = {stage: [v for v, s in actual.items() if s == stage] for stage in ("Production", "Staging")}
        if len(inside["Production"]) > 1:
            found.append(f"Production versions: {inside['Production']}")
        aliases = self.aliases(name)
        for stage, alias in (("Production", "champion"), ("Staging", "challenger")):
            if (aliases.get(alias) in inside[stage]) != bool(inside[stage]):
                found.append(f"alias {alias} is at {aliases.get(alias)}, {stage} holds {inside[stage]}")
        tag = self.registry.model_tags(name).get("mlgates.audit_head")
        report = self.audit.verify([tag] if tag else [])
        return found + ([report.problem] if report.problem else [])

    def write_settings(self, *, more: str = "", policy: str = "") -> None:
        text = TOML.format(uri=self.uri, model=MODEL, more=more, policy=policy)
        (self.folder / "mlgates.toml").write_text(text)
        self.__dict__.pop("settings", None)

    @cached_property
    def settings(self) -> Settings:
        return load_settings(self.folder / "mlgates.toml", env={})

    @cached_property
    def registry(self) -> MlflowRegistry:
        return MlflowRegistry(self.uri)

    @cached_property
    def lake(self) -> Lakehouse:
        return Lakehouse(self.folder / "lakehouse")

    @property
    def audit(self) -> AuditLog:
        return AuditLog(self.lake)

    def add_version(self, name: str = MODEL, *, stage: str = "None", judged: bool = True, **evidence: Any) -> ModelVersion:
        """Register a version whose model is a folder of two files, by default with passing evidence."""
        client = self.registry.client
        if name not in self.registry.names():
            client.create_registered_model(name)
        experiment = client.get_experiment_by_name("tests")
        identifier = experiment.experiment_id if experiment else client.create_experiment("tests", str(self.folder / "runs"))
        run = client.create_run(identifier)
        # a server takes a local model only from within the artifacts of its run
        files = Path(run.info.artifact_uri.removeprefix("file://")) / "model"
        (files / "data").mkdir(parents=True)
        (files / "MLmodel").write_text(f"flavors: none of {run.info.run_id}\n")
        (files / "data" / "weights.bin").write_bytes(bytes(range(256)) * 4)
        made = client.create_model_version(name, str(files), run.info.run_id)
        version = self.registry.get(name, made.version)
        if judged:
            self.judge(version, **evidence)
        if stage != "None":
            self.registry.set_stage(name, version.version, stage)
        return self.registry.get(name, version.version)

    def model_folder(self, version: str, name: str = MODEL) -> Path:
        return Path(self.registry.get(name, version).source)

    def judge(self, version: ModelVersion, *, results: tuple[GateResult, ...] = ALL_PASS, **changes: Any) -> ev.Evidence:
        """Store evidence for a version as a gate run does."""
        return evidence_store.store(self.registry, version, self.evidence(version, results=results, **changes))

    def evidence(self, version: ModelVersion, *, results: tuple[GateResult, ...] = ALL_PASS, **changes: Any) -> ev.Evidence:
        at = self.lake.version(HOLDOUT)
        frame = self.lake.read(HOLDOUT, version=at).to_pandas()
        values: dict[str, Any] = {
            "model": {
                "name": version.name,
                "version": version.version,
                "run_id": version.run_id,
                "artifact_digest": self.registry.artifact_digest(version),
                "files": self.registry.artifact_files(version),
            },
            "holdout": {
                "table": HOLDOUT,
                "version": at,
                "digest": table_digest(frame),
                "rows": len(frame),
                "files": filedigests.of_version(self.lake.folder(HOLDOUT), self.lake.files(HOLDOUT, at), at),
            },
            "baseline": None,
            "settings_digest": self.settings.digest(version.name),
            "git": {"sha": "abc", "dirty": False},
            "environment": {"python": "3"},
            "created": dt.datetime.now(dt.UTC),
        }
        report = RunReport(version.name, version.version, results, self.settings.model(version.name).required)
        return ev.build(report, **{**values, **changes})

    def promote(self, version: str, to: str, name: str = MODEL, **options: Any) -> Promotion:
        given = {"actor": "ann", "reason": "it is better", "git_sha": "abc", **options}
        return promote(self.registry, self.audit, self.settings, name, version, to, **given)

    def reconcile(self, name: str = MODEL) -> Reconciliation:
        return reconcile(self.registry, self.audit, name)

    def hotfix(self, version: str, to: str = "Production", **options: Any) -> Promotion:
        return self.promote(version, to, hotfix=True, approver="bob", **options)

    def stages(self, name: str = MODEL) -> dict[str, str]:
        return {v.version: v.stage for v in self.registry.versions(name)}

    def aliases(self, name: str = MODEL) -> dict[str, str]:
        return {alias: v.version for v in self.registry.versions(name) for alias in v.aliases}

    def states(self, name: str = MODEL) -> list[str]:
        return [row.event.state for row in self.audit.rows(name)]

    def mlgates(self, *words: str) -> subprocess.CompletedProcess[str]:
        """The command in this process: importing everything again for each call would take most of the time."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), contextlib.chdir(self.folder):
            code = main(list(words))
        return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())

    def mlgates_alone(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        """The command as it is installed, in a process of its own."""
        program = str(Path(sys.executable).with_name("mlgates"))
        environment = {**os.environ, "GIT_SHA": "abc", **env}
        return subprocess.run(
            [program, *words], cwd=self.folder, env=environment, capture_output=True, text=True, check=False, timeout=300
        )
