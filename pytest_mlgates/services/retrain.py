"""One retraining: train a version, judge it by the five gates in a pytest run of its own, to Staging only if all pass.

Every step looks first whether it is done already for this alert, so a retraining that was killed at any point is run again
under the same alert id and takes up where it stopped: one alert makes one version, one promotion, one summary.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import urllib.parse
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_mlgates.errors import EvidenceInvalid, PromotionRefused
from pytest_mlgates.results import GateResult, Verdict
from pytest_mlgates.services import evidence_store
from pytest_mlgates.services.crash import crash_point
from pytest_mlgates.services.promote import promote
from pytest_mlgates.services.reconcile import reconcile

if TYPE_CHECKING:
    from pytest_mlgates.config import Settings
    from pytest_mlgates.ports import AuditTrail, ModelRegistry, ModelVersion

CRASH_POINTS = (
    "retrain-start",
    "retrain-before-train",
    "retrain-after-train",
    "retrain-before-gates",
    "retrain-after-gates",
    "retrain-before-promote",
    "retrain-after-promote",
    "retrain-before-summary",
    "retrain-after-summary",
    "retrain-end",
)
"""Every point of a retraining at which the tests kill it, in the order in which it is passed."""
_GATES_TIMEOUT_S = 1500.0
_SETTLED_STAGES = ("Staging", "Production", "Archived")


@dataclasses.dataclass(frozen=True, slots=True)
class Trigger:
    """Why a retraining runs. ``alert_id`` is what makes it the same retraining when it is started again."""

    reason: str
    alert_id: str
    rule: str = ""

    @property
    def tags(self) -> dict[str, str]:
        """Tags of the training's runs and version."""
        return {"trigger_reason": self.reason, "alert_id": self.alert_id}


@dataclasses.dataclass(frozen=True, slots=True)
class GateRun:
    """What the pytest run of the gates said; ``exit_code`` is pytest's."""

    exit_code: int
    results: tuple[GateResult, ...]
    tail: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Retraining:
    """How a retraining ended.

    Attributes
    ----------
    outcome
        ``succeeded`` (in Staging), ``blocked`` (a gate or the promotion policy said no; nothing moved).
    message
        What happened and why, for people: a headline, then ``Key: value`` lines.
    results
        Verdicts of the gates; empty where an earlier start had judged the version already.
    """

    model: str
    version: str
    outcome: str
    message: str
    results: tuple[GateResult, ...] = ()


def retrain(
    registry: ModelRegistry,
    audit: AuditTrail,
    settings: Settings,
    name: str,
    *,
    trigger: Trigger,
    train: Callable[[Mapping[str, str]], str],
    gates: Callable[[str, str], GateRun],
    tell: Callable[[Retraining], object],
    actor: str,
    git_sha: str,
    link: str = "",
    result: Path | None = None,
) -> Retraining:
    """Train, judge, promote to Staging, tell how it ended.

    Parameters
    ----------
    trigger
        Its reason and alert id go into the run's tags and the audit row.
    train
        Called with the tags that the run and the version must carry; returns the version it registered.
    gates
        Runs the gates of (model, version) and stores the evidence, such as `run_gates`.
    tell
        Called with the end of it; it must tell an alert's end once, also when it is called again.
    link
        Address of a run's page, for the message; ``{run_id}`` in it is filled in.
    result
        File to write the end to, last of all (`write_result`).

    Raises
    ------
    MlgatesError
        Something did not answer; nothing is decided, and running it again with the same trigger goes on from there.
    """
    crash_point("retrain-start")
    done = _retrain(registry, audit, settings, name, trigger, train, gates, actor, git_sha, link)
    crash_point("retrain-before-summary")
    tell(done)
    crash_point("retrain-after-summary")
    if result is not None:
        write_result(result, done)
    crash_point("retrain-end")
    return done


def _retrain(
    registry: ModelRegistry,
    audit: AuditTrail,
    settings: Settings,
    name: str,
    trigger: Trigger,
    train: Callable[[Mapping[str, str]], str],
    gates: Callable[[str, str], GateRun],
    actor: str,
    git_sha: str,
    link: str,
) -> Retraining:
    version = find_version(registry, name, trigger.alert_id)
    if version is None:
        crash_point("retrain-before-train")
        made = train(trigger.tags)
        crash_point("retrain-after-train")
        version = registry.get(name, made)
    else:
        # an earlier start may have died between the registry's move and the audit's closing row
        reconcile(registry, audit, name, stage_mode=settings.policy.stage_mode)
        version = registry.get(name, version.version)
    results: tuple[GateResult, ...] = ()
    if version.stage not in _SETTLED_STAGES:
        if not _judged(registry, version):
            crash_point("retrain-before-gates")
            run = gates(name, version.version)
            results = run.results
            crash_point("retrain-after-gates")
            if run.exit_code != 0 or not _judged(registry, version):
                return _blocked(version, trigger, results, _why_blocked(run), link)
        refusal = _promote(registry, audit, settings, version, trigger, actor, git_sha)
        if refusal:
            return _blocked(version, trigger, results, refusal, link)
    facts = {"Verdict": "passed", "Stage": "None → Staging", **_facts(version, trigger, link)}
    headline = f"Retrained: {version.label} passed all gates and is in Staging"
    return Retraining(name, version.version, "succeeded", _message(headline, facts), results)


def find_version(registry: ModelRegistry, name: str, alert_id: str) -> ModelVersion | None:
    """Return the version that an earlier start made for this alert: by its own tag, else by its run's."""
    versions = registry.versions(name) if name in registry.names() else []
    for version in reversed(versions):
        if version.tags.get("alert_id") == alert_id:
            return version
    for version in reversed(versions):
        if "alert_id" not in version.tags and version.run_id:
            info = registry.run_info(version)
            if info is not None and info.tags.get("alert_id") == alert_id:
                return version
    return None


def mlflow_link(tracking_uri: str) -> str:
    """Address of a run's page at an MLflow server, with ``{run_id}`` in it and nothing secret; empty for a store that is a file."""
    parts = urllib.parse.urlsplit(tracking_uri)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return ""
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{host}{port}{parts.path.rstrip('/')}/#/runs/{{run_id}}"


def run_gates(
    name: str,
    version: str,
    *,
    folder: Path,
    settings_path: Path | None = None,
    withhold: Collection[str] = (),
    env: Mapping[str, str] | None = None,
) -> GateRun:
    """Run the shipped suite on one version, as ``python -m pytest`` in a process of its own.

    Parameters
    ----------
    folder
        The project: the process's working directory.
    withhold
        Variables that are not passed on, such as the secrets of alert channels: a model is code, and the gates load it.
    """
    inherited = os.environ if env is None else env
    kept = {k: v for k, v in inherited.items() if k not in withhold}
    with tempfile.TemporaryDirectory(prefix="mlgates-gates-") as scratch:
        report = Path(scratch) / "gates.json"
        command = [
            sys.executable,
            "-m",
            "pytest",
            "--model-name",
            name,
            "--model-version",
            version,
            "--mlgates-json",
            str(report),
        ]
        command += ["-p", "no:cacheprovider", "-q", f"--rootdir={scratch}"]
        if settings_path is not None:
            command += ["--mlgates-settings", str(settings_path)]
        try:
            done = subprocess.run(
                command, cwd=folder, env=kept, capture_output=True, text=True, timeout=_GATES_TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired:
            return GateRun(1, (), f"the gates did not end within {_GATES_TIMEOUT_S:g} s")
        rows: Sequence[Mapping[str, Any]] = []
        if report.is_file():
            rows = json.loads(report.read_text("utf-8"))["results"]
    tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
    return GateRun(done.returncode, tuple(GateResult.from_dict(r) for r in rows), tail)


def write_result(path: Path, done: Retraining) -> None:
    """Write how a retraining ended, whole or not at all: the receiver reads it, also after a crash of its own."""
    document = {"outcome": done.outcome, "message": done.message, "model": done.model, "version": done.version}
    scratch = path.with_name(path.name + ".part")
    with scratch.open("w", encoding="utf-8") as file:
        json.dump(document, file)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)


def _judged(registry: ModelRegistry, version: ModelVersion) -> bool:
    """Whether passing evidence for the version is stored; whether it still holds is the promotion's to decide."""
    try:
        found = evidence_store.find(registry, version)
    except EvidenceInvalid:
        return False
    return found is not None and found.verdict is Verdict.PASS


def _promote(
    registry: ModelRegistry,
    audit: AuditTrail,
    settings: Settings,
    version: ModelVersion,
    trigger: Trigger,
    actor: str,
    git_sha: str,
) -> str:
    """Move the version to Staging; return why not, empty where it went."""
    crash_point("retrain-before-promote")
    reason = f"{trigger.reason}: retrained for alert {trigger.alert_id}, all gates passed"
    try:
        promote(
            registry, audit, settings, version.name, version.version, "Staging", actor=actor, reason=reason, git_sha=git_sha
        )
    except PromotionRefused as refusal:
        return str(refusal)
    crash_point("retrain-after-promote")
    return ""


def _blocked(version: ModelVersion, trigger: Trigger, results: tuple[GateResult, ...], why: str, link: str) -> Retraining:
    facts = {"Verdict": "blocked", "Why": why, **_facts(version, trigger, link)}
    headline = f"Retrained, not promoted: {version.label} did not pass; nothing was moved"
    return Retraining(version.name, version.version, "blocked", _message(headline, facts), results)


def _why_blocked(run: GateRun) -> str:
    blocking = [r for r in run.results if r.verdict.blocks]
    if blocking:
        return "; ".join(f"{r.gate} {r.verdict.value}: {r.summary or r.hint}" for r in blocking)
    last = run.tail.splitlines()[-1] if run.tail else "no output"
    return f"the gates ended with exit code {run.exit_code} ({last})"


def _facts(version: ModelVersion, trigger: Trigger, link: str) -> dict[str, str]:
    facts = {"Version": version.version, "Reason": trigger.reason, "Run id": version.run_id}
    if link:
        facts["Run"] = link.replace("{run_id}", version.run_id)
    return facts


def _message(headline: str, facts: Mapping[str, str]) -> str:
    lines = [f"{key}: {' '.join(value.split())}" for key, value in facts.items() if value]
    return "\n".join([headline, *lines])
