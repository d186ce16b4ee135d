"""What the readiness of a model, its final verification and the doctor look at: read once, from the systems themselves."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import httpx

from pytest_mlgates.addresses import sibling
from pytest_mlgates.errors import EvidenceInvalid, MlgatesError
from pytest_mlgates.ports import AuditTrail
from pytest_mlgates.services import evidence_store
from pytest_mlgates.services.audit_archive import Verified, check_cold_files
from pytest_mlgates.services.drift_records import quoted
from pytest_mlgates.services.load_run import LOAD_TAG
from pytest_mlgates.services.moves import HEAD_TAG
from pytest_mlgates.services.stages import Stages
from pytest_mlgates.tables import ALERTS, AUDIT, COST, DRIFT_METRICS, RETRAIN_TRIGGERS

if TYPE_CHECKING:
    from pytest_mlgates.config import Settings
    from pytest_mlgates.evidence import Evidence
    from pytest_mlgates.ports import AuditRow, ModelRegistry, ModelVersion, TableStore

ENDPOINTS = Path(".mlgates") / "endpoints"
_PROBE_S = 5.0


class Trail(AuditTrail, Protocol):
    """An audit that can be verified."""

    def verify(self, anchors: Mapping[str, str]) -> Verified:
        """Walk the chain and compare it with its anchors."""


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """An endpoint of the model as it was found: ``trouble`` is empty where it is healthy, else says why it is not."""

    place: str
    uri: str
    instances: int | None
    health: Mapping[str, Any]
    trouble: str


@dataclasses.dataclass(frozen=True)
class Facts:
    """Everything that the items are judged by, and when it was looked at."""

    name: str
    now: dt.datetime
    versions: tuple[ModelVersion, ...]
    production: tuple[ModelVersion, ...]
    code: Mapping[str, str]
    commit_known: bool | None
    evidence: Evidence | None
    evidence_trouble: str
    load: Mapping[str, Any] | None
    endpoints: tuple[Endpoint, ...]
    runs: tuple[Mapping[str, Any], ...]
    drift_runs: tuple[Mapping[str, Any], ...]
    triggers: tuple[Mapping[str, Any], ...]
    alerts: tuple[Mapping[str, Any], ...]
    audit: tuple[AuditRow, ...]
    audit_trouble: str
    guarded: bool

    @property
    def champion(self) -> ModelVersion | None:
        """The version in Production, where there is just one."""
        return self.production[0] if len(self.production) == 1 else None


def look(registry: ModelRegistry, store: TableStore, audit: Trail, settings: Settings, name: str, *, now: dt.datetime) -> Facts:
    """Look at everything once. Raises ModelNotFound; anything else that is absent is a fact, not an error."""
    stages = Stages(registry, name, settings.policy.stage_mode)
    versions = tuple(registry.versions(name))
    production = tuple(v for v in versions if stages.of(v) == "Production")
    champion = production[0] if len(production) == 1 else None
    run = registry.run_info(champion) if champion is not None else None
    code = dict(run.tags) if run is not None else {}
    found, trouble = _evidence(registry, champion)
    mine = f"model_name = {quoted(name)}"
    return Facts(
        name=name,
        now=now,
        versions=versions,
        production=production,
        code=code,
        commit_known=_commit_known(settings.folder, code.get("git_sha", "")),
        evidence=found,
        evidence_trouble=trouble,
        load=_load(registry, champion),
        endpoints=endpoints_of(settings, name),
        runs=_rows(store, COST, f"model = {quoted(name)} OR surface = 'storage'", "recorded_at"),
        drift_runs=_drift_runs(store, mine),
        triggers=_rows(store, RETRAIN_TRIGGERS, mine, "triggered_at"),
        alerts=_rows(store, ALERTS, "1 = 1", "event_time"),
        audit=tuple(audit.rows(name)),
        audit_trouble=_audit_trouble(registry, audit, name),
        guarded=store.exists(AUDIT) and store.guarded(AUDIT),
    )


def _rows(store: TableStore, table: str, where: str, order: str) -> tuple[Mapping[str, Any], ...]:
    if not store.exists(table):
        return ()
    return tuple(sorted(store.read(table, where=where).to_pylist(), key=lambda row: row[order]))


def _drift_runs(store: TableStore, mine: str) -> tuple[Mapping[str, Any], ...]:
    """Runs with their time and overall status; rows that a loop test injected are no run."""
    if not store.exists(DRIFT_METRICS):
        return ()
    columns = ["run_id", "run_timestamp", "status", "value"]
    where = f"{mine} AND metric_type = 'psi_overall' AND status <> 'injected'"
    rows = store.read(DRIFT_METRICS, columns=columns, where=where).to_pylist()
    return tuple(sorted(rows, key=lambda row: row["run_timestamp"]))


def _evidence(registry: ModelRegistry, champion: ModelVersion | None) -> tuple[Evidence | None, str]:
    if champion is None:
        return None, "no version is in Production"
    try:
        found = evidence_store.find(registry, champion)
    except EvidenceInvalid as error:
        return None, str(error)
    return found, "" if found is not None else f"{champion.label} has no evidence"


def _load(registry: ModelRegistry, champion: ModelVersion | None) -> Mapping[str, Any] | None:
    """The stored load test of the version that serves."""
    path = champion.tags.get(LOAD_TAG) if champion is not None else None
    data = registry.read_artifact(champion, path) if champion is not None and path else None
    try:
        found = json.loads(data) if data is not None else None
    except ValueError:
        return None
    return {**found, "path": path} if isinstance(found, dict) else None


def endpoints_of(settings: Settings, name: str) -> tuple[Endpoint, ...]:
    """Endpoints of a model: those below ``.mlgates/endpoints``, and the one that ``[readiness] endpoint`` names."""
    out = []
    folder = settings.folder / ENDPOINTS
    for path in sorted([*folder.glob("*/*/endpoint.json"), *folder.glob("*/server.json")]):
        state = path.parent
        definition: dict[str, Any] = {}
        model = state.name
        if path.name == "endpoint.json":
            known = _json(path)
            model, definition = str(known.get("model", "")), dict(known.get("definition") or {})
        if model != name:
            continue
        server = _json(state / "server.json")
        uri = f"http://{server['host']}:{server['port']}/score" if {"host", "port"} <= set(server) else ""
        instances = definition.get("minInstances", _living_workers(state))
        out.append(_probed(str(state), uri, instances))
    if settings.readiness.endpoint:
        out.append(_probed("[readiness] endpoint", settings.readiness.endpoint, None))
    return tuple(out)


def _living_workers(state: Path) -> int:
    """Workers of a server that acknowledged its routes and still run."""
    return sum((Path("/proc") / path.stem).exists() for path in (state / "workers").glob("*.json"))


def _probed(place: str, uri: str, instances: int | None) -> Endpoint:
    if not uri:
        return Endpoint(place, uri, instances, {}, "it is not running")
    try:
        answer = httpx.get(sibling(uri, "/health"), timeout=_PROBE_S)
    except (httpx.HTTPError, MlgatesError) as error:
        return Endpoint(place, uri, instances, {}, f"{uri} does not answer ({type(error).__name__})")
    if answer.status_code != 200:
        return Endpoint(place, uri, instances, {}, f"{uri} answers {answer.status_code}")
    try:
        health = answer.json()
    except ValueError:
        health = {}
    return Endpoint(place, uri, instances, health if isinstance(health, dict) else {}, "")


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _commit_known(folder: Path, sha: str) -> bool | None:
    """Whether the commit is in the repository of the project; ``None`` where there is no repository or no git."""
    if not sha or not all(c in "0123456789abcdefABCDEF" for c in sha):
        return None if sha else False
    try:
        inside = _git(folder, "rev-parse", "--git-dir")
        return _git(folder, "cat-file", "-e", f"{sha}^{{commit}}") if inside else None
    except (OSError, subprocess.TimeoutExpired):
        return None


def _git(folder: Path, *words: str) -> bool:
    command = ["git", "-C", str(folder), *words]
    return subprocess.run(command, capture_output=True, timeout=10, check=False).returncode == 0


def _audit_trouble(registry: ModelRegistry, audit: Trail, name: str) -> str:
    """What is wrong with the chain, its anchors or its cold files; empty where nothing is."""
    anchors = {}
    for model in registry.names():
        head = registry.model_tags(model).get(HEAD_TAG, "")
        if head:
            anchors[model] = head
    report = audit.verify(anchors)
    if not report.ok:
        return report.problem
    cold = check_cold_files(audit)
    return cold[0] if cold else ("" if audit.rows(name) else "the audit has no row of this model")
