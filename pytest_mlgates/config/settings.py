"""The settings of one model, and the whole file."""

from __future__ import annotations

import fnmatch
import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from pytest_mlgates.config.base import Count, Positive, Section
from pytest_mlgates.config.endpoint import Endpoint
from pytest_mlgates.config.gates import CHECKS, GATES, Checks, Gates
from pytest_mlgates.config.loop import Alerts, Drift, Retrain
from pytest_mlgates.errors import ConfigError, nearest


class ModelSettings(Section):
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
    endpoint: Endpoint = Endpoint()

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


class Policy(Section):
    """What evidence must be, to promote."""

    max_age_days: Positive = 30.0
    """Age after which evidence no longer promotes."""
    stage_mode: Literal["stage", "alias"] = "stage"
    """``alias`` for a registry without stages."""
    settings_digests: dict[str, list[str]] = Field(default_factory=dict)
    """Per stage, the settings digests that may promote to it; a stage that is not named takes only the digest of the settings in force."""
    consecutive_wins: Count = 7
    min_e_value: Annotated[float, Field(ge=1)] = 20.0


class Cost(Section):
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


class Readiness(Section):
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


class Settings(Section):
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

    def endpoint(self, name: str) -> Endpoint:
        """How a model is served; the defaults for one that no table matches."""
        try:
            return self.model(name).endpoint
        except ConfigError:
            return Endpoint()

    def holdout_of(self, name: str) -> str:
        """What the settings name as a model's holdout; empty for a model that they do not know."""
        try:
            return self.model(name).holdout
        except ConfigError:
            return ""

    def digest(self, name: str) -> str:
        """``sha256:`` over everything that decides about one model: its gates, checks and policy, not paths."""
        model = self.model(name).model_dump(mode="json", by_alias=True, exclude={"drift", "retrain", "endpoint"})
        text = json.dumps(model, sort_keys=True, separators=(",", ":"))
        return "sha256:" + hashlib.sha256(text.encode()).hexdigest()
