"""The pages of a project, put together from its registry and its tables."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import TYPE_CHECKING, Any

from pytest_mlgates.errors import ConfigError

if TYPE_CHECKING:
    from pytest_mlgates.services.readiness_facts import Facts
    from pytest_mlgates.wiring import Project


def operations(project: Project, days: int = 365) -> str:
    """Return the page of a project, its models' readiness included."""
    from pytest_mlgates.report.operations import operations_page

    return operations_page(document(project, now=dt.datetime.now(dt.UTC), days=days))


def document(project: Project, *, now: dt.datetime, days: int = 365) -> dict[str, Any]:
    """Return what the operations page of a project shows, as plain JSON values."""
    from pytest_mlgates.services import readiness
    from pytest_mlgates.services.operations import gather, state

    found = gather(project.registry, project.lakehouse, project.audit, project.settings, now=now, days=days)
    found["readiness"] = [
        {"model": name, "items": [dataclasses.asdict(i) for i in readiness.judge(_look(project, name, now), project.settings)]}
        for name in [row["model"] for row in found["serving"]]
        if _known(project, name)
    ]
    found["state"] = state(found)
    return found


def _known(project: Project, name: str) -> bool:
    """Whether the settings speak of a model: a registry may hold others'."""
    try:
        project.settings.model(name)
    except ConfigError:
        return False
    return True


def _look(project: Project, name: str, now: dt.datetime) -> Facts:
    from pytest_mlgates.services.readiness_facts import look

    return look(project.registry, project.lakehouse, project.audit, project.settings, name, now=now)
