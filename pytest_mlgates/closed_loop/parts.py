"""What the steps need of the parts they test, embedded or deployed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol

from pytest_mlgates.errors import MlgatesError

if TYPE_CHECKING:
    from pytest_mlgates.config import Settings
    from pytest_mlgates.ports import ModelRegistry, ModelVersion


class LoopOpen(MlgatesError):
    """A step of the loop did not happen."""


def alert_of(registry: ModelRegistry, version: ModelVersion) -> str:
    """The alert that a version was trained for, by its own tag, else by its run's; empty where there is none."""
    if "alert_id" in version.tags or not version.run_id:
        return version.tags.get("alert_id", "")
    info = registry.run_info(version)
    return info.tags.get("alert_id", "") if info is not None else ""


class Seen(NamedTuple):
    """How a retraining stands: a state of the receiver's queue, and what it says of itself."""

    state: str
    note: str


class Parts(Protocol):
    """Receiver and channels of one run. ``alert_id`` is the id of the run's own alert."""

    settings: Settings
    """Settings with the run's rule as the only one."""
    env: Mapping[str, str]
    """Environment with the secrets of the channels."""

    def start(self) -> None:
        """Begin."""

    def close(self) -> None:
        """Stop what was started; called whatever happened."""

    def tick(self) -> None:
        """Called before each evaluation."""

    def received(self, alert_id: str) -> str:
        """Where it shows that the receiver has the alert; empty while it does not."""

    def job(self, alert_id: str) -> Seen | None:
        """How the alert's retraining stands."""

    def told(self, alert_id: str) -> tuple[int, int]:
        """How many times the people's channel took the alert, and the summary of the retraining."""
