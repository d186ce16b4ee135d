"""Settings to adapters: the only place that picks an implementation."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_mlgates import redaction
from pytest_mlgates.config import Settings, load_settings

if TYPE_CHECKING:
    import click

    from pytest_mlgates.audit import AuditLog
    from pytest_mlgates.lakehouse import Lakehouse
    from pytest_mlgates.registry.store import MlflowRegistry


class Project:
    """A settings file with everything that it names, each made when it is first asked for."""

    def __init__(self, settings: Settings, *, create: bool = False) -> None:
        self.settings = settings
        self._create = create
        redaction.register_addresses(settings.model_dump())
        for group in settings.alerts.groups.values():
            for channel in group.channels:
                redaction.register_address(channel.url, path=channel.kind in ("teams", "apprise", "pagerduty"))

    @classmethod
    def open(cls, path: Path | str | None = None, *, start: Path | None = None, create: bool = False) -> Project:
        """Open the project of a settings file (found as `config.load_settings` says). Raises ConfigError."""
        return cls(load_settings(Path(path) if path else None, start=start), create=create)

    @classmethod
    def from_context(cls, context: click.Context, *, create: bool = False) -> Project:
        """Open the project that ``mlgates --settings PATH`` named, else the one of the current directory."""
        return cls.open((context.find_root().obj or {}).get("settings"), create=create)

    @property
    def folder(self) -> Path:
        """Folder of the settings file."""
        return self.settings.folder

    @cached_property
    def registry(self) -> MlflowRegistry:
        """The MLflow registry."""
        from pytest_mlgates.registry.store import MlflowRegistry

        return MlflowRegistry(self.settings.tracking_uri, create=self._create)

    @cached_property
    def lakehouse(self) -> Lakehouse:
        """The Delta tables."""
        from pytest_mlgates.lakehouse import Lakehouse

        return Lakehouse(self.settings.lakehouse)

    @cached_property
    def audit(self) -> AuditLog:
        """The promotion audit."""
        from pytest_mlgates.audit import AuditLog

        return AuditLog(self.lakehouse)


def limit_threads() -> None:
    """Give each process one numeric thread unless the user said otherwise; call before numpy is imported.

    A model with default OpenMP threads on a busy two-core machine was measured at three times the CPU time of one thread.
    """
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"):
        os.environ.setdefault(name, "1")
