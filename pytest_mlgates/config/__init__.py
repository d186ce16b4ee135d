"""Settings: one file, validated whole before anything is loaded, every mistake reported at once.

``mlgates.toml`` (or ``[tool.mlgates]`` in ``pyproject.toml``) is looked for in the current directory, then in its
parents. Relative paths in it are relative to the file. Code below this module receives values; it never reads a file
or the environment for a threshold.
"""

from __future__ import annotations

from pytest_mlgates.config.endpoint import Endpoint
from pytest_mlgates.config.gates import CHECKS, GATES, Checks, Gates
from pytest_mlgates.config.load import SETTINGS_NAME, TEMPLATE, find_settings, load_settings, parse_settings
from pytest_mlgates.config.loop import (
    COOLDOWN_DAYS,
    ActionGroup,
    AlertRule,
    Alerts,
    Channel,
    Drift,
    FabricJob,
    Retrain,
    Severity,
)
from pytest_mlgates.config.settings import Cost, ModelSettings, Policy, Readiness, Settings

__all__ = [
    "CHECKS",
    "COOLDOWN_DAYS",
    "GATES",
    "SETTINGS_NAME",
    "TEMPLATE",
    "ActionGroup",
    "AlertRule",
    "Alerts",
    "Channel",
    "Checks",
    "Cost",
    "Drift",
    "Endpoint",
    "FabricJob",
    "Gates",
    "ModelSettings",
    "Policy",
    "Readiness",
    "Retrain",
    "Settings",
    "Severity",
    "find_settings",
    "load_settings",
    "parse_settings",
]
