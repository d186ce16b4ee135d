"""Settings: one file, validated whole before anything is loaded, every mistake reported at once.

``mlgates.toml`` (or ``[tool.mlgates]`` in ``pyproject.toml``) is looked for in the current directory, then in its
parents. Relative paths in it are relative to the file. Code below this module receives values; it never reads a file
or the environment for a threshold.
"""

from __future__ import annotations

import datetime as dt
import fnmatch
import hashlib
import json
import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from pytest_mlgates.errors import ConfigError, nearest

SETTINGS_NAME = "mlgates.toml"
GATES = ("performance", "holdout", "fairness", "latency", "calibration")
CHECKS = (
    "schema",
    "determinism",
    "batch",
    "robustness",
    "bounds",
    "monotonicity",
    "feature_leakage",
    "dummy",
    "weak_slices",
    "slices",
)

Share = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]

TEMPLATE = """\
# Settings of pytest-mlgates. Thresholds live here and nowhere else; relative paths are relative to this file.
tracking_uri = "sqlite:///mlflow.db"    # default: MLFLOW_TRACKING_URI
lakehouse = "lakehouse"                 # folder, abfss:// or s3://; tables are lakehouse/lh_gold/NAME

[models."churn"]                        # a model's name, or a glob such as "churn-*"
task = "binary"                         # regression | binary | multiclass
target = "churned"                      # column of the holdout that the model predicts
holdout = "lh_gold.churn_holdout"       # table, table@VERSION, or a .parquet / .csv path
baseline = "models:/churn/Production"   # what gate 1 compares with; leave it out and gate 1 judges the floor alone
domain = "telecoms"
regulated = false                       # true: the fairness gate applies
sensitive = []                          # holdout columns for it; not model inputs unless the signature has them
on_inconclusive = "block"               # or "warn"

[models."churn".gates]
performance = { metric = "auc", min_ratio = 0.95, floor = 0.75 }
holdout     = { max_gap = 0.05 }        # in standard deviations of the expected predictions
fairness    = { min_parity_ratio = 0.8 }
latency     = { p99_max_ms = 200, calls = 1000 }
calibration = { max_ece = 0.10, bins = 10 }
"""


class _Section(BaseModel):
    """A table of the settings file: frozen, no unknown keys, no silent conversions."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class PerformanceGate(_Section):
    """Gate 1: the candidate against the baseline on the same rows."""

    metric: str = ""
    """Name of the metric; empty: ``r2`` for a regression, ``auc`` for binary, ``accuracy`` for multiclass."""
    min_ratio: Positive = 0.95
    """Least share of the baseline's metric that the candidate must reach (the tutorial's 0.95)."""
    floor: float | None = None
    """Absolute limit on the metric, on top of the ratio (the guide's 0.75 for AUC); none by default."""


class HoldoutGate(_Section):
    """Gate 2: stability on the permanent holdout, and leakage."""

    max_gap: Share = 0.05
    """Largest gap between predictions and expected predictions, in standard deviations of the expected ones."""
    exact: bool = True
    """Whether the version must answer just what was stored with it (within float32); false: ``max_gap`` alone decides."""
    max_shared_rows: Annotated[float, Field(ge=0, lt=1)] = 0.005
    """Largest share of holdout rows that may also stand in the training data."""


class FairnessGate(_Section):
    """Gate 3: group parity, for regulated models."""

    min_parity_ratio: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Least demographic-parity ratio (the four-fifths rule)."""
    max_tpr_gap: Share | None = None
    """Largest equal-opportunity difference; none: reported, not judged."""
    cutoff: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Probability at and above which the answer counts as positive."""


class LatencyGate(_Section):
    """Gate 4: single-row latency of the locally loaded model."""

    p99_max_ms: Positive = 200.0
    """Objective for the 99th percentile, in milliseconds."""
    calls: Count = 1000
    """Calls before the first look; more are made until the verdict is settled."""
    max_calls: Count = 16000
    """Calls after which the verdict stays INCONCLUSIVE."""
    budget_s: Positive = 120.0
    """Seconds after which no further calls are made."""


class CalibrationGate(_Section):
    """Gate 5: expected calibration error."""

    max_ece: Share = 0.10
    """Largest expected calibration error (for a regression: relative to the mean absolute target)."""
    bins: Annotated[int, Field(ge=2, le=1000)] = 10
    """Number of bins (quantile bins for a regression)."""


class Gates(_Section):
    """Thresholds of the five gates."""

    performance: PerformanceGate = PerformanceGate()
    holdout: HoldoutGate = HoldoutGate()
    fairness: FairnessGate = FairnessGate()
    latency: LatencyGate = LatencyGate()
    calibration: CalibrationGate = CalibrationGate()


class Bounds(_Section):
    """Limits of a prediction, in its own unit."""

    low: float | None = None
    high: float | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Bounds:
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"low = {self.low:g} must be below high = {self.high:g}")
        return self


class Checks(_Section):
    """Further checks of the shipped suite: on by default, each may be switched off."""

    schema_: bool = Field(default=True, alias="schema")
    """The model has a signature, the holdout its columns, and a row that lacks one is refused."""
    determinism: bool = True
    """The same rows get the same answers."""
    batch: bool = True
    """A row alone gets the answer that it gets in a batch."""
    robustness: bool = True
    """Missing, unseen and extreme values get a finite answer or a clean error."""
    feature_leakage: bool = True
    """No single feature all but tells the target."""
    dummy: bool = True
    """The model is surely better than one that knows nothing."""
    weak_slices: bool = True
    """No segment's error surely exceeds ``max_slice_ratio`` times the error over all rows."""
    max_slice_ratio: Annotated[float, Field(gt=1)] = 2.0
    bounds: Bounds = Bounds()
    """Limits that every prediction must keep; none by default."""
    monotonicity: dict[str, Literal["+", "-"]] = Field(default_factory=dict)
    """Per feature, the direction that answers move in when it rises."""
    slices: dict[str, dict[str, str | float]] = Field(default_factory=dict)
    """Declared segments with thresholds of their own: ``"promo_active=1" = { metric = "r2", floor = 0.5 }``."""

    def applies(self, name: str) -> bool:
        """Whether a check of `CHECKS` is switched on, or has something declared to judge."""
        if name == "bounds":
            return self.bounds != Bounds()
        return bool(getattr(self, "schema_" if name == "schema" else name))


class Drift(_Section):
    """Where the rows for a drift run come from, and when they alarm."""

    table: str = ""
    """Table of the model's input rows over time; empty: no drift run for this model."""
    time_column: str = ""
    """DATE or TIMESTAMP column that the windows are cut by."""
    reference_days: Count = 90
    current_days: Count = 7
    alpha: Share = 0.01
    """Level of the Benjamini-Hochberg correction over all features."""
    min_psi: Positive = 0.10
    """Least PSI of a feature that alarms before a retrain is triggered."""
    min_rows: Count = 100
    """Rows of the current window under which there is no verdict."""
    columns: tuple[str, ...] = ()
    """Columns to compare; empty: the model's inputs."""
    cells: tuple[str, ...] = ("weekday",)
    """Seasonal cells that the reference is reweighted to: ``weekday`` of the time column, or names of columns."""
    events: tuple[str, ...] = ()
    """Special days (``2026-07-04``) that are left out of both windows."""
    limits: dict[str, Positive] = Field(default_factory=dict)
    """Per feature, the PSI that stable windows reach; below it there is no alarm (``mlgates drift calibrate`` prints them)."""
    schedule_days: Positive | None = None
    """Age of a version after which a retrain is due whatever the drift; none: no schedule."""

    @field_validator("columns", "cells", "events", mode="before")
    @classmethod
    def _drift_names(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @field_validator("events")
    @classmethod
    def _iso_dates(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            try:
                dt.date.fromisoformat(text)
            except ValueError:
                raise ValueError(f"{text!r} is not a date; write it as 2026-07-04") from None
        return value


class FabricJob(_Section):
    """A Fabric pipeline that is run instead of a command; the token comes from the environment only."""

    workspace_id: str = Field(min_length=1)
    pipeline_id: str = Field(min_length=1)
    token_env: str = "FABRIC_TOKEN"  # noqa: S105 the name of a variable, not its value
    base_url: str = "https://api.fabric.microsoft.com"


class Retrain(_Section):
    """What a drift alert starts."""

    target: Literal["command", "fabric"] = "command"
    command: tuple[str, ...] = ()
    """Command of the user's own project, run in the folder of the settings file."""
    fabric: FabricJob | None = None
    mode: Literal["auto", "manual"] = "auto"
    """``manual`` waits for ``mlgates retrain approve ID``."""
    timeout_s: Positive = 1800.0
    attempts: Count = 3
    """Starts after which a command that crashes (ends without saying what came of it) is given up."""

    @field_validator("command", mode="before")
    @classmethod
    def _list_of_words(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _fabric_has_its_pipeline(self) -> Retrain:
        if self.target == "fabric" and self.fabric is None:
            raise ValueError('target = "fabric" needs fabric = { workspace_id = "…", pipeline_id = "…" }')
        return self


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


Severity = Literal["P1", "P2", "P3"]
Texts = Annotated[tuple[str, ...], BeforeValidator(_as_tuple)]
COOLDOWN_DAYS = {"drift": 7.0, "performance": 14.0, "hybrid": 7.0, "concept": 30.0, "volume": 7.0, "manual": 0.0}


class Channel(_Section):
    """One way to tell somebody. Secrets (addresses with a signature, passwords, keys) are named by environment variable."""

    kind: Literal["email", "teams", "webhook", "pagerduty", "apprise"]
    name: str = ""
    """Name in the rows of the alert table; by default the kind. Unique within its group."""
    url: str = ""
    url_env: str = ""
    """Variable that holds the address, where the address itself is a secret."""
    secret_env: str = "MLGATES_WEBHOOK_SECRET"  # noqa: S105 the name of a variable, not its value
    """webhook: variable that holds the signing key."""
    to: Texts = ()
    sender: str = "mlgates@localhost"
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 25
    starttls: bool = False
    user: str = ""
    password_env: str = "MLGATES_SMTP_PASSWORD"  # noqa: S105 the name of a variable, not its value
    timeout_s: Positive = 10.0
    tries: Count = 3
    """Attempts in one evaluation."""
    rounds: Count = 24
    """Evaluations after which a message that could not be delivered becomes a dead letter."""

    @property
    def label(self) -> str:
        """The name, or the kind where no name is given."""
        return self.name or self.kind

    @model_validator(mode="after")
    def _can_be_reached(self) -> Channel:
        if self.kind == "email" and not self.to:
            raise ValueError('an email channel needs to = ["name@example.org"]')
        if self.kind != "email" and not (self.url or self.url_env):
            raise ValueError(f"a {self.kind} channel needs url, or url_env with the name of the variable that holds it")
        return self


class ActionGroup(_Section):
    """Who is told."""

    channels: Annotated[tuple[Channel, ...], BeforeValidator(_as_tuple)] = ()

    @model_validator(mode="after")
    def _names_differ(self) -> ActionGroup:
        labels = [c.label for c in self.channels]
        twice = sorted({x for x in labels if labels.count(x) > 1})
        if twice:
            raise ValueError(f"two channels are named {twice[0]!r}; give each its own name")
        return self


class AlertRule(_Section):
    """When the drift metrics call for somebody: the tutorial's rule by default."""

    name: str = Field(min_length=1)
    enabled: bool = True
    table: str = "lh_gold.ml_drift_metrics"
    """Any table with the columns of ``ml_drift_metrics``."""
    model: str = "*"
    metrics: Texts = ("psi_overall", "performance_rmse_delta_pct")
    window_days: Count = 7
    """Rows of this current window are looked at (the column ``current_days``)."""
    bin_minutes: Count = 60
    aggregate: Literal["max", "min", "avg", "median"] = "max"
    threshold: float = 0.20
    """A bin whose aggregate lies above it breaches."""
    severity: Severity = "P2"
    escalate: dict[Severity, float] = Field(default_factory=dict)
    """Further severities, by the aggregate above which each holds, e.g. ``{ P1 = 0.25 }``."""
    sustained: Count = 1
    """Consecutive bins with data that must breach."""
    lookback_hours: Positive = 48.0
    """A breach older than this opens no incident."""
    reason: Literal["drift", "performance", "hybrid", "concept", "volume"] = "drift"
    retrain: bool = True
    cooldown_days: Annotated[float, Field(ge=0)] | None = None
    """Days after a retrain in which no other starts; none: 7 for drift and hybrid, 14 for performance, 30 for concept."""
    group: str = ""

    @property
    def cooldown(self) -> float:
        """Days of the cool-down in force."""
        return COOLDOWN_DAYS[self.reason] if self.cooldown_days is None else self.cooldown_days


class Alerts(_Section):
    """Alert rules, who is told, and where the receiver keeps its queue."""

    queue: str = "mlgates-alerts.db"
    """SQLite file of the receiver, relative to the settings file."""
    links: dict[str, str] = Field(default_factory=dict)
    """Links that every message carries, by label."""
    run_link: str = ""
    """Address of a run's page, with ``{run_id}`` in it, e.g. ``https://mlflow.example/#/experiments/1/runs/{run_id}``."""
    summary_group: str = ""
    """Group that is told how a retrain ended; empty: the group of the rule that started it."""
    rules: Annotated[tuple[AlertRule, ...], BeforeValidator(_as_tuple)] = (AlertRule(name="drift"),)
    groups: dict[str, ActionGroup] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _groups_are_there(self) -> Alerts:
        for rule in self.rules:
            if rule.group and rule.group not in self.groups:
                raise ValueError(f"rule {rule.name!r} names group {rule.group!r}; {nearest(rule.group, self.groups)}")
        names = [r.name for r in self.rules]
        if len(set(names)) < len(names):
            raise ValueError("two rules have the same name; give each its own")
        return self


class ModelSettings(_Section):
    """Settings of one model, or of all models that a glob matches."""

    task: Literal["regression", "binary", "multiclass"]
    target: str = Field(min_length=1)
    holdout: str = Field(min_length=1)
    baseline: str = ""
    domain: str = "general"
    regulated: bool = False
    sensitive: tuple[str, ...] = ()
    on_inconclusive: Literal["block", "warn"] = "block"
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.95
    gates: Gates = Gates()
    checks: Checks = Checks()
    drift: Drift = Drift()
    retrain: Retrain = Retrain()

    @field_validator("sensitive", mode="before")
    @classmethod
    def _tuple_of_names(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @property
    def metric(self) -> str:
        """Metric of gate 1, with the task's default filled in."""
        return self.gates.performance.metric or {"regression": "r2", "binary": "auc", "multiclass": "accuracy"}[self.task]

    @property
    def required(self) -> tuple[str, ...]:
        """Gates and checks that must report before a version can pass."""
        return GATES + tuple(name for name in CHECKS if self.checks.applies(name))

    @model_validator(mode="after")
    def _regulated_names_its_groups(self) -> ModelSettings:
        if self.regulated and not self.sensitive:
            message = f'regulated = true (domain "{self.domain}") needs sensitive = ["COLUMN", …], the holdout columns to judge'
            raise ValueError(message)
        return self


class Policy(_Section):
    """What evidence must be, to promote."""

    max_age_days: Positive = 30.0
    """Age after which evidence no longer promotes."""
    stage_mode: Literal["stage", "alias"] = "stage"
    """``alias`` for a registry without stages."""
    settings_digests: dict[str, list[str]] = Field(default_factory=dict)
    """Per stage, the settings digests that may promote to it; a stage that is not named takes only the digest of the settings in force."""
    consecutive_wins: Count = 7
    min_e_value: Annotated[float, Field(ge=1)] = 20.0


class Cost(_Section):
    """What an hour of work and a month of storage cost; runs record seconds and bytes, pages multiply."""

    currency: str = Field(default="$", max_length=8)
    training_per_hour: Annotated[float, Field(ge=0)] = 0.40
    endpoint_per_hour: Annotated[float, Field(ge=0)] = 0.20
    drift_per_hour: Annotated[float, Field(ge=0)] = 0.40
    batch_per_hour: Annotated[float, Field(ge=0)] = 0.40
    storage_per_gb_month: Annotated[float, Field(ge=0)] = 0.023
    centers: dict[str, str] = Field(default_factory=dict)
    """Per model (globs allowed), the cost centre that its work is tagged with where the run names none."""

    def center(self, model: str) -> str:
        """Cost centre of a model; empty where none is named."""
        return next((c for pattern, c in self.centers.items() if fnmatch.fnmatchcase(model, pattern)), "")


class Readiness(_Section):
    """What readiness cannot find by itself: relative paths are relative to the settings file."""

    runbook: str = ""
    """The on-call runbook; must name the drift procedure."""
    postmortem: str = ""
    """The template of a postmortem."""
    endpoint: str = ""
    """Scoring address of an endpoint that is not below ``.mlgates/endpoints``."""
    runs: Count = 7
    """Scheduled runs that must have ended well, one after the other."""
    max_hours: Positive = 26.0
    """Age of the newest scheduled run above which the schedule does not hold (a day and some slack)."""
    loop_days: Positive = 30.0
    """Age of the newest closed loop above which it counts as untested."""


class Settings(_Section):
    """Everything in force for one run."""

    tracking_uri: str = ""
    lakehouse: str = "lakehouse"
    models: dict[str, ModelSettings]
    policy: Policy = Policy()
    alerts: Alerts = Alerts()
    cost: Cost = Cost()
    readiness: Readiness = Readiness()
    path: Path | None = None
    """The file these settings come from; ``None`` when they were built in code."""

    @property
    def folder(self) -> Path:
        """Folder that relative paths start from: the project."""
        return self.path.parent if self.path is not None else Path.cwd()

    def model(self, name: str) -> ModelSettings:
        """Return the settings of a model: the table of its own name, else the first glob that matches."""
        if name in self.models:
            return self.models[name]
        for pattern, found in self.models.items():
            if fnmatch.fnmatchcase(name, pattern):
                return found
        where = self.path or "the settings"
        message = f'{where}: no [models."…"] table matches {name!r} ({nearest(name, self.models)}); add one, or a glob'
        raise ConfigError(message)

    def digest(self, name: str) -> str:
        """``sha256:`` over everything that decides about one model: its gates, checks and policy, not paths."""
        model = self.model(name).model_dump(mode="json", by_alias=True, exclude={"drift", "retrain"})
        text = json.dumps(model, sort_keys=True, separators=(",", ":"))
        return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def find_settings(start: Path) -> Path | None:
    """Return the nearest ``mlgates.toml`` (or ``pyproject.toml`` with ``[tool.mlgates]``) in ``start`` or above it."""
    for folder in (start, *start.parents):
        own = folder / SETTINGS_NAME
        if own.is_file():
            return own
        shared = folder / "pyproject.toml"
        if shared.is_file() and "mlgates" in _read_toml(shared).get("tool", {}):
            return shared
    return None


def load_settings(path: Path | None = None, *, start: Path | None = None, env: Mapping[str, str] | None = None) -> Settings:
    """Read and check the settings.

    Parameters
    ----------
    path
        The file; by default `find_settings` from ``start`` (the current directory).
    env
        Environment: ``MLGATES_SETTINGS`` names the file, ``MLFLOW_TRACKING_URI`` and ``MLGATES_LAKEHOUSE`` fill in what it leaves out.

    Raises
    ------
    ConfigError
        With every mistake in ``problems``; the message is one line per mistake.
    """
    env = os.environ if env is None else env
    if path is None and env.get("MLGATES_SETTINGS"):
        path = Path(env["MLGATES_SETTINGS"])
    if path is None:
        path = find_settings((start or Path.cwd()).resolve())
    if path is None:
        raise ConfigError(
            f"no {SETTINGS_NAME} in {start or Path.cwd()} or above it, and no [tool.mlgates] in a pyproject.toml; "
            f"write one (mlgates init prints a template) or name it with --mlgates-settings PATH"
        )
    path = path.resolve()
    raw = _read_toml(path)
    if path.name == "pyproject.toml":
        raw = raw.get("tool", {}).get("mlgates", {})
    if "tracking_uri" not in raw and env.get("MLFLOW_TRACKING_URI"):
        raw["tracking_uri"] = env["MLFLOW_TRACKING_URI"]
    if "lakehouse" not in raw and env.get("MLGATES_LAKEHOUSE"):
        raw["lakehouse"] = env["MLGATES_LAKEHOUSE"]
    return parse_settings(raw, path)


def parse_settings(raw: Mapping[str, Any], path: Path | None = None) -> Settings:
    """Check settings that are already read; relative paths are made absolute. Raises ConfigError with all mistakes."""
    where = str(path) if path else "settings"
    if "models" not in raw:
        raise ConfigError(f'{where}: no [models."NAME"] table; add one with task, target and holdout')
    try:
        settings = Settings.model_validate({**raw, "path": path})
    except ValidationError as error:
        problems = [_problem(detail) for detail in error.errors()]
        raise ConfigError("\n".join(f"{where}: {p}" for p in problems), problems) from None
    folder = settings.folder
    return settings.model_copy(
        update={
            "tracking_uri": _absolute_sqlite(settings.tracking_uri or "sqlite:///mlflow.db", folder),
            "lakehouse": settings.lakehouse if "://" in settings.lakehouse else str((folder / settings.lakehouse).resolve()),
        }
    )


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: no such settings file; check the path, or write one (mlgates init prints a template)"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None


def _absolute_sqlite(uri: str, folder: Path) -> str:
    prefix = "sqlite:///"
    if uri.startswith(prefix) and not uri.startswith(prefix + "/"):
        return f"{prefix}{(folder / uri.removeprefix(prefix)).resolve()}"
    return uri


_EXPECTED = {
    "bool_type": "true or false",
    "string_type": "a string",
    "int_type": "a whole number",
    "float_type": "a number",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
}


def _problem(detail: ErrorDetails) -> str:
    """One mistake in one line: key, what was found, what is expected, what to do."""
    loc = [str(part) for part in detail["loc"]]
    key = ".".join(f'"{p}"' if ("." in p or "*" in p) else p for p in loc)
    found = detail.get("input")
    kind = detail["type"]
    if kind == "extra_forbidden":
        known = _known_keys(loc[:-1])
        return f"{key}: unknown key; {nearest(loc[-1], known)}"
    if kind == "missing":
        return f"{key}: missing; add it to the table"
    if kind in _EXPECTED:
        return f"{key}: expected {_EXPECTED[kind]}, got {found!r}"
    message = detail["msg"].removeprefix("Value error, ")
    if kind == "value_error":
        return f"{key}: {message}"
    return f"{key}: {message[:1].lower()}{message[1:]}, got {found!r}"


def _known_keys(loc: Iterable[str]) -> list[str]:
    """Keys of the table at ``loc``, for the nearest-name hint."""
    model: Any = Settings
    parts = list(loc)
    while parts:
        part = parts.pop(0)
        field = next((f for n, f in model.model_fields.items() if part in (n, f.alias)), None)
        if field is None:
            return []
        inner, steps = _section_within(field.annotation)
        if inner is None:
            return []
        model, parts = inner, parts[steps:]
    return [f.alias or n for n, f in model.model_fields.items() if n != "path"]


def _section_within(annotation: Any, steps: int = 0) -> tuple[Any, int]:
    """The section that a field holds, itself or in a table or list, and how many keys or indices lie between."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, steps
    deeper = steps + (get_origin(annotation) in (dict, tuple, list))
    for argument in get_args(annotation):
        found = _section_within(argument, deeper)
        if found[0] is not None:
            return found
    return None, 0
