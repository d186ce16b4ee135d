"""What is wrong with an installation: registry, lakehouse, settings, endpoint, channels, schedules, clock, versions.

The tutorial's eight symptoms are recognised, from what is found here or from the text of an error (`explain`), each with its fix.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import importlib.metadata
import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from pytest_mlgates.errors import MlgatesError
from pytest_mlgates.services.pin_lint import lint_paths
from pytest_mlgates.services.readiness_facts import endpoints_of
from pytest_mlgates.tables import ALERTS, AUDIT, COST, DRIFT_METRICS

if TYPE_CHECKING:
    from pytest_mlgates.config import Channel, Settings
    from pytest_mlgates.ports import ModelRegistry, TableStore

OK, WARN, FAIL = "ok", "warn", "fail"
_CLOCK_SLACK = dt.timedelta(minutes=5)
_NEEDED = {"mlflow": (3, 4), "deltalake": (1, 2), "numpy": (2, 0), "pandas": (2, 2), "scikit-learn": (1, 5), "pytest": (8, 2)}


@dataclasses.dataclass(frozen=True, slots=True)
class Symptom:
    """One row of the tutorial's troubleshooting table, with the words by which an error of it is known."""

    number: int
    title: str
    pattern: str
    cause: str
    fix: str


SYMPTOMS: tuple[Symptom, ...] = (
    Symptom(1, "401 from the REST API", r"\b401\b|unauthori[sz]ed|unauthenticated"
            r"|(token|credentials?) (has |have )?expired|(expired|invalid) token",
            "the token has expired or has the wrong scope",
            "get a new one (az account get-access-token --resource https://api.fabric.microsoft.com/) into FABRIC_TOKEN; "
            "for our own endpoint set MLGATES_ENDPOINT_TOKEN; the principal needs Contributor and write access to the model"),
    Symptom(2, "429 during training", r"\b429\b|too many requests|throttl|rate.?limit|request_limit",
            "jobs that run at once exceed the capacity",
            "stagger the schedules (02:30, 03:30 and 04:00 UTC are the reference), or raise the capacity"),
    Symptom(3, "experiment not found", r"experiment.{0,60}(not found|does not exist|404)|no experiment|(not|n't) find.{0,20}experiment",
            "the experiment was made elsewhere, or its path is relative",
            "name it with a leading slash (/Shared/NAME), and check tracking_uri and MLFLOW_TRACKING_URI: mlgates registry"),
    Symptom(4, "endpoint times out", r"(endpoint|score|smoke).{0,80}(tim(es?|ed)?[ -]?out|not ready|not answer|503)"
            r"|mininstances.{0,4}0\b|503 service unavailable|capacity.{0,20}paused",
            "the endpoint is paused or has no instances",
            "start it (mlgates endpoint serve), or update its definition to minInstances >= 2"),
    Symptom(5, "transition_model_version_stage: permission denied", r"permission[ _]denied|\b403\b|forbidden",
            "the account may not write to the registry",
            "give the principal Contributor on the workspace and write access to the model; then mlgates reconcile"),
    Symptom(6, "drift run says NaN PSI", r"\bnan\b.{0,40}psi|psi.{0,40}\bnan\b|insufficient( data)?|too few rows",
            "the current window has too few rows",
            "score or backfill the missing days (pipelines/batch_score.py), or widen [models.NAME.drift] current_days for the time being"),
    Symptom(7, "alert fires, the pipeline never starts", r"(pipeline|retrain\w*).{0,60}(never|not|n't) (start|run)"
            r"|no pipeline run|(wrong|unknown|invalid) pipeline ?id",
            "a wrong address or pipeline id, or a principal that may not run it",
            "compare the webhook's url with where mlgates alerts serve listens, retrain.fabric.pipeline_id with the pipeline, "
            "and MLGATES_WEBHOOK_SECRET on both sides; mlgates retrain list"),
    Symptom(8, "consumers still see the old model", r"(old|stale|previous) (model|version)|version pin|pinned|models:/[^/\s]+/\d+",
            "a consumer names a version instead of a stage",
            "write models:/NAME/Production; mlgates lint PATH finds every pin, as a pre-commit hook too"),
)  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; ``symptom`` is the number of the tutorial's symptom that it is, 0 for none."""

    area: str
    state: str
    found: str
    fix: str = ""
    symptom: int = 0


def explain(text: str) -> list[Symptom]:
    """Return the symptoms that an error's text is one of."""
    return [s for s in SYMPTOMS if re.search(s.pattern, text, flags=re.IGNORECASE | re.DOTALL)]


def examine(
    registry: Callable[[], ModelRegistry],
    store: Callable[[], TableStore],
    settings: Settings,
    *,
    now: dt.datetime,
    env: Mapping[str, str] | None = None,
) -> list[Finding]:
    """Look at everything; what cannot be reached is a finding and never an error."""
    env = os.environ if env is None else env
    out = [Finding("settings", OK, f"{settings.path or 'built in code'}: {len(settings.models)} models")]
    names: list[str] = []
    try:
        names = registry().names()
        out.append(Finding("registry", OK, f"{registry().uri}: {len(names)} models"))
    except MlgatesError as error:
        out.append(_trouble("registry", error, "start it, or mend tracking_uri in the settings"))
    tables = None
    try:
        tables = store()
        out.append(Finding("lakehouse", OK, f"{len(tables.tables())} tables"))
    except MlgatesError as error:
        out.append(_trouble("lakehouse", error, "mend lakehouse in the settings"))
    for name in names:
        out += _endpoints(settings, name)
    out += _channels(settings, env)
    if tables is not None:
        out += _of_tables(tables, now)
    out += _pins(settings)
    out += _versions()
    return out


def _trouble(area: str, error: Exception, otherwise: str) -> Finding:
    known = explain(str(error))
    return Finding(area, FAIL, str(error), known[0].fix if known else otherwise, known[0].number if known else 0)


def _endpoints(settings: Settings, name: str) -> Iterator[Finding]:
    for endpoint in endpoints_of(settings, name):
        if endpoint.instances == 0 or endpoint.trouble:
            yield Finding("endpoint", FAIL, f"{name}: {endpoint.trouble or 'no instances'}", SYMPTOMS[3].fix, 4)
        else:
            yield Finding("endpoint", OK, f"{name} v{endpoint.health.get('model_version')} at {endpoint.uri}")


def _channels(settings: Settings, env: Mapping[str, str]) -> Iterator[Finding]:
    for group, found in settings.alerts.groups.items():
        for channel in found.channels:
            lacking = [name for name in _variables(channel) if not env.get(name)]
            if lacking:
                yield Finding(
                    "alerts",
                    FAIL,
                    f"{group}/{channel.label}: {', '.join(lacking)} is not set",
                    "set it where alerts are evaluated",
                )
            else:
                yield Finding("alerts", OK, f"{group}/{channel.label} ({channel.kind})")
    for name, model in settings.models.items():
        fabric = model.retrain.fabric
        if fabric is not None and not env.get(fabric.token_env):
            yield Finding("retrain", FAIL, f"{name}: {fabric.token_env} is not set", SYMPTOMS[0].fix, 1)


def _variables(channel: Channel) -> list[str]:
    """Variables that a channel needs."""
    needed = [channel.url_env] if channel.url_env else []
    if channel.kind == "webhook":
        needed.append(channel.secret_env)
    if channel.kind == "email" and channel.user:
        needed.append(channel.password_env)
    return needed


def _of_tables(store: TableStore, now: dt.datetime) -> Iterator[Finding]:
    """Schedules, the clock, thin drift runs, and alerts whose retraining never came."""
    newest = []
    for table, column in (
        (DRIFT_METRICS, "run_timestamp"),
        (COST, "recorded_at"),
        (AUDIT, "event_time"),
        (ALERTS, "event_time"),
    ):
        if store.exists(table):
            times = [t for t in store.read(table, columns=[column]).column(column).to_pylist() if t is not None]
            newest += [(max(times), table)] if times else []
    ahead = [table for at, table in newest if at > now + _CLOCK_SLACK]
    if ahead:
        yield Finding(
            "clock",
            FAIL,
            f"rows of {', '.join(ahead)} are from the future",
            "set the clock of the machine that wrote them (NTP)",
        )
    else:
        yield Finding("clock", OK, f"no row is ahead of {now:%Y-%m-%d %H:%M} UTC")
    if store.exists(DRIFT_METRICS):
        where = "metric_type = 'psi_overall' AND status <> 'injected'"
        rows = sorted(
            store.read(DRIFT_METRICS, columns=["run_timestamp", "status", "model_name"], where=where).to_pylist(),
            key=lambda r: r["run_timestamp"],
        )
        if rows and rows[-1]["status"] == "insufficient":
            yield Finding(
                "drift", FAIL, f"{rows[-1]['model_name']}: the newest run has too few rows to judge", SYMPTOMS[5].fix, 6
            )
        if rows:
            hours = (now - rows[-1]["run_timestamp"]).total_seconds() / 3600
            state = OK if hours <= 26 else WARN
            yield Finding(
                "schedules",
                state,
                f"the newest drift run is {hours:.1f} h old",
                "" if state == OK else "is the daily run scheduled? .github/workflows/drift.yml",
            )
    yield from _unanswered(store, now)


def _unanswered(store: TableStore, now: dt.datetime) -> Iterator[Finding]:
    """Alerts that were delivered to a webhook more than ten minutes ago and that no audit row answers."""
    if not store.exists(ALERTS):
        return
    rows = store.read(ALERTS, columns=["alert_id", "event", "event_time", "rule"]).to_pylist()
    handled = {r["alert_id"] for r in rows if r["event"] in ("suppressed", "summary")}
    delivered = {r["alert_id"] for r in rows if r["event"] == "delivered"}
    said = "".join(store.read(AUDIT, columns=["rationale"]).column("rationale").to_pylist()) if store.exists(AUDIT) else ""
    late = [
        r["alert_id"]
        for r in rows
        if r["event"] == "fired" and r["alert_id"] in delivered - handled and r["alert_id"] not in said
        and now - r["event_time"] > dt.timedelta(minutes=10)
    ]  # fmt: skip
    if late:
        yield Finding(
            "retrain",
            WARN,
            f"{len(late)} delivered alerts led to no promotion or summary, the newest {late[-1]}",
            SYMPTOMS[6].fix,
            7,
        )


def _pins(settings: Settings) -> Iterator[Finding]:
    pins, count = lint_paths([settings.folder])
    if pins:
        yield Finding("consumers", FAIL, f"{len(pins)} version pins, the first: {pins[0].where}", SYMPTOMS[7].fix, 8)
    else:
        yield Finding("consumers", OK, f"no version pin in {count} files of the project's folder")


def _versions() -> Iterator[Finding]:
    for name, least in _NEEDED.items():
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield Finding("versions", FAIL, f"{name} is not installed", f"pip install '{name}'")
            continue
        parts = tuple(int(p) for p in re.findall(r"\d+", found)[:2])
        wanted = ".".join(map(str, least))
        yield Finding(
            "versions",
            OK if parts >= least else FAIL,
            f"{name} {found}",
            "" if parts >= least else f"pip install '{name}>={wanted}'",
        )
