"""What comes in: Azure's common alert schema, as far as it is read, and the model that an alert is of.

The schema is ``https://learn.microsoft.com/azure/azure-monitor/alerts/alerts-common-schema``. It names no model, so an alert
of Azure Monitor's own says it by a dimension, by what the alert is on, or by its rule.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pytest_mlgates.alerts.messages import clean
from pytest_mlgates.errors import ConfigError

if TYPE_CHECKING:
    from pytest_mlgates.config import Settings

_TEXT_MAX = 512
# not blank: an alert without an id of its own would be the same alert as every other
_Text = Annotated[str, Field(min_length=1, max_length=_TEXT_MAX, pattern=r"\S")]
_MODEL_NAMES = ("model_name", "ModelName", "modelName", "model")
"""Names under which a custom property or a dimension says the model."""
_GLOB = frozenset("*?[")


class NotAnAlert(Exception):
    """A body that is no common alert, or of no model of the settings; the message says where, and never quotes the body."""


class _Shape(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Essentials(_Shape):
    """The fields of ``data.essentials`` that decide anything here; the rest may be anything."""

    alertId: _Text  # noqa: N815 Azure's spelling
    alertRule: _Text  # noqa: N815
    severity: Literal["Sev0", "Sev1", "Sev2", "Sev3", "Sev4"]
    monitorCondition: Literal["Fired", "Resolved"]  # noqa: N815
    alertTargetIDs: Any = None  # noqa: N815
    configurationItems: Any = None  # noqa: N815


class AlertData(_Shape):
    """``data``."""

    essentials: Essentials
    alertContext: dict[str, Any] | None = None  # noqa: N815
    customProperties: dict[str, Any] | None = None  # noqa: N815


class CommonAlert(_Shape):
    """Azure's common alert schema."""

    schemaId: Literal["azureMonitorCommonAlertSchema"]  # noqa: N815
    data: AlertData

    def custom(self, name: str) -> str:
        """A custom property, empty where it is not there or no text."""
        found = (self.data.customProperties or {}).get(name)
        return found if isinstance(found, str) else ""

    def named_model(self) -> str:
        """The model that the alert names: by a custom property, else by a dimension of the condition; empty without either."""
        for name in _MODEL_NAMES:
            if self.custom(name):
                return self.custom(name)
        said = (value for name, value in self._dimensions() if name in _MODEL_NAMES)
        return next((value for value in said if isinstance(value, str) and value), "")

    def targets(self) -> list[str]:
        """What the alert is on: its configuration items, and the last parts of its target ids."""
        essentials = self.data.essentials
        items = [i for i in _listed(essentials.configurationItems) if isinstance(i, str)]
        ids = [i.rpartition("/")[2] for i in _listed(essentials.alertTargetIDs) if isinstance(i, str)]
        return [*items, *ids]

    def _dimensions(self) -> Iterator[tuple[Any, Any]]:
        condition = (self.data.alertContext or {}).get("condition")
        for part in _listed(condition.get("allOf")) if isinstance(condition, dict) else ():
            for dimension in _listed(part.get("dimensions")) if isinstance(part, dict) else ():
                if isinstance(dimension, dict):
                    yield dimension.get("name"), dimension.get("value")


def parse(body: bytes) -> CommonAlert:
    """Return a body as a common alert. Raises NotAnAlert."""
    try:
        return CommonAlert.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(p) for p in first["loc"]) or "body"
        raise NotAnAlert(f"not the common alert schema: {clean(where, 200)}: {clean(first['msg'], 200)}") from None
    except RecursionError:
        raise NotAnAlert("not the common alert schema: nested too deep") from None


def model_of(alert: CommonAlert, settings: Settings) -> str:
    """Return the model that an alert is of.

    The name that the alert says is taken, else the first of its targets that the settings know, else the one model of the rule
    that it names, else the only model that has a retraining. Several or none are no guess.

    Raises
    ------
    NotAnAlert
        No model, or one that the settings do not know.
    """
    name = alert.named_model()
    if name:
        if len(name) > _TEXT_MAX or any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in name):
            raise NotAnAlert(f"the model's name must have 1 to {_TEXT_MAX} printable characters")
        if not _known(settings, name):
            raise NotAnAlert(f"the settings know no model {clean(name, 120)!r}")
        return name
    known = {t for t in alert.targets() if t in settings.models or _known_by_glob(settings, t)}
    if len(known) == 1:
        return known.pop()
    of_rule = {r.model for r in settings.alerts.rules if r.name == alert.data.essentials.alertRule and not _GLOB & set(r.model)}
    if len(of_rule) == 1 and _known(settings, next(iter(of_rule))):
        return of_rule.pop()
    retrained = [m for m, own in settings.models.items() if own.retrain.command or own.retrain.target == "fabric"]
    if len(retrained) == 1 and not _GLOB & set(retrained[0]):
        return retrained[0]
    raise NotAnAlert(
        "the alert names no model: add customProperties.model_name or a dimension ModelName, or name it in the alert's rule"
    )


def _known(settings: Settings, name: str) -> bool:
    try:
        settings.model(name)
    except ConfigError:
        return False
    return True


def _known_by_glob(settings: Settings, name: str) -> bool:
    """Whether a glob that says something of the name matches it: ``*`` would take any resource of Azure for a model."""
    return "*" not in settings.models and _known(settings, name)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
