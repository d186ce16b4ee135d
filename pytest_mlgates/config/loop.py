"""Sections of what keeps a model healthy: drift, retraining, channels and alert rules."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from pytest_mlgates.config.base import Count, Positive, Section, Share, Texts, as_tuple
from pytest_mlgates.errors import nearest


class Drift(Section):
    """Where the rows for a drift run come from, and when they alarm."""

    table: str = ""
    """Table of the model's input rows over time; empty: no drift run for this model."""
    time_column: str = ""
    """DATE or TIMESTAMP column that the windows are cut by."""
    reference: Literal["days", "training"] = "days"
    """``training``: the distribution stored with the version, so that a run reads the current window only."""
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


class FabricJob(Section):
    """A Fabric pipeline that is run instead of a command; the token comes from the environment only."""

    workspace_id: str = Field(min_length=1)
    pipeline_id: str = Field(min_length=1)
    token_env: str = "FABRIC_TOKEN"  # noqa: S105 the name of a variable, not its value
    base_url: str = "https://api.fabric.microsoft.com"


class Retrain(Section):
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
    cooldown_days: Annotated[float, Field(ge=0)] = 0.0
    """Days after a start in which an alert of somebody else's (Azure Monitor's) starts no other; our rules keep their own."""

    @field_validator("command", mode="before")
    @classmethod
    def _list_of_words(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _fabric_has_its_pipeline(self) -> Retrain:
        if self.target == "fabric" and self.fabric is None:
            raise ValueError('target = "fabric" needs fabric = { workspace_id = "…", pipeline_id = "…" }')
        return self


Severity = Literal["P1", "P2", "P3"]
COOLDOWN_DAYS = {"drift": 7.0, "performance": 14.0, "hybrid": 7.0, "concept": 30.0, "volume": 7.0, "manual": 0.0}


class Channel(Section):
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
        if self.url and self.kind in ("webhook", "teams") and not self.url.startswith(("http://", "https://")):
            raise ValueError(f"the url of a {self.kind} channel must begin with http:// or https://")
        return self


class ActionGroup(Section):
    """Who is told."""

    channels: Annotated[tuple[Channel, ...], BeforeValidator(as_tuple)] = ()

    @model_validator(mode="after")
    def _names_differ(self) -> ActionGroup:
        labels = [c.label for c in self.channels]
        twice = sorted({x for x in labels if labels.count(x) > 1})
        if twice:
            raise ValueError(f"two channels are named {twice[0]!r}; give each its own name")
        return self


class AlertRule(Section):
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

    @model_validator(mode="after")
    def _escalates_upwards(self) -> AlertRule:
        for level, limit in self.escalate.items():
            if level >= self.severity:  # P1 is the most severe
                raise ValueError(f"escalate names {level}, which is not more severe than the rule's own {self.severity}")
            if limit <= self.threshold:
                raise ValueError(f"escalate {level} = {limit:g} must lie above the threshold {self.threshold:g}")
        return self

    @property
    def cooldown(self) -> float:
        """Days of the cool-down in force."""
        return COOLDOWN_DAYS[self.reason] if self.cooldown_days is None else self.cooldown_days


class Alerts(Section):
    """Alert rules, who is told, and where the receiver keeps its queue."""

    queue: str = "mlgates-alerts.db"
    """SQLite file of the receiver, relative to the settings file."""
    links: dict[str, str] = Field(default_factory=dict)
    """Links that every message carries, by label."""
    run_link: str = ""
    """Address of a run's page, with ``{run_id}`` in it, e.g. ``https://mlflow.example/#/experiments/1/runs/{run_id}``."""
    summary_group: str = ""
    """Group that is told how a retrain ended; empty: the group of the rule that started it."""
    rules: Annotated[tuple[AlertRule, ...], BeforeValidator(as_tuple)] = (AlertRule(name="drift"),)
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
