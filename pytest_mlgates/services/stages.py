"""Stages and aliases of one model, read and moved together, whichever of the two the registry really has.

``stage_mode = "stage"``: MLflow's stages decide and the aliases follow. ``"alias"`` (a registry without stages): the aliases
``champion`` and ``challenger`` decide, and the tag ``mlgates.stage`` remembers what has no alias (Archived).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pytest_mlgates.promotion.machine import ALIASES, ARCHIVED, NONE, PRODUCTION, STAGING
from pytest_mlgates.services.crash import crash_point

if TYPE_CHECKING:
    from pytest_mlgates.ports import ModelRegistry, ModelVersion

STAGE_TAG = "mlgates.stage"


@dataclasses.dataclass(frozen=True, slots=True)
class Misplaced:
    """An alias that does not point where the stages say; versions are empty for "at none"."""

    alias: str
    version: str
    should: str


class Stages:
    """Stages of the versions of one model.

    Parameters
    ----------
    registry
        The registry.
    name
        Registered model.
    mode
        ``stage`` or ``alias``.
    """

    def __init__(self, registry: ModelRegistry, name: str, mode: str) -> None:
        self._registry = registry
        self._name = name
        self._by_alias = mode == "alias"

    def of(self, version: ModelVersion) -> str:
        """Return the stage of a version as it was read."""
        if not self._by_alias:
            return version.stage
        for stage in (PRODUCTION, STAGING):
            if ALIASES[stage] in version.aliases:
                return stage
        return ARCHIVED if version.tags.get(STAGE_TAG) == ARCHIVED else NONE

    def read(self) -> dict[str, str]:
        """Return ``{version: stage}`` of all versions, read now."""
        return {v.version: self.of(v) for v in self._registry.versions(self._name)}

    def move(self, version: str, to_stage: str, *, archives_others: bool) -> None:
        """Move one version; with ``archives_others`` those that are in the stage leave it in the same step."""
        if not self._by_alias:
            self._registry.set_stage(self._name, version, to_stage, archive_existing=archives_others)
            return
        for other in self._registry.versions(self._name):
            if archives_others and other.version != version and self.of(other) == to_stage:
                self._registry.set_version_tag(self._name, other.version, STAGE_TAG, ARCHIVED)
        self._registry.set_version_tag(self._name, version, STAGE_TAG, to_stage)
        if to_stage in ALIASES:
            self._registry.set_alias(self._name, ALIASES[to_stage], version)
        else:
            self._drop_aliases(version)

    def misplaced(self, staging: str = "") -> list[Misplaced]:
        """Return the aliases that do not follow the stages.

        Parameters
        ----------
        staging
            The version that came to Staging last, by the audit; it has the alias ``challenger`` when several are in Staging.
        """
        versions = self._registry.versions(self._name)
        wanted = self._wanted(versions, staging)
        found = []
        for alias, should in wanted.items():
            holder = next((v.version for v in versions if alias in v.aliases), "")
            if holder != should:
                found.append(Misplaced(alias, holder, should))
        return found

    def align(self, staging: str = "") -> list[Misplaced]:
        """Point every alias where the stages say and return what was moved."""
        moved = self.misplaced(staging)
        for index, item in enumerate(moved):
            if index:
                crash_point("between-aliases")
            if item.should:
                self._registry.set_alias(self._name, item.alias, item.should)
            else:
                self._registry.delete_alias(self._name, item.alias)
        return moved

    def _wanted(self, versions: list[ModelVersion], staging: str) -> Mapping[str, str]:
        if self._by_alias:  # the aliases are the stages; only one version may not hold both
            champion = next((v.version for v in versions if ALIASES[PRODUCTION] in v.aliases), "")
            challenger = next((v.version for v in versions if ALIASES[STAGING] in v.aliases), "")
            return {ALIASES[STAGING]: "" if challenger == champion else challenger}
        wanted = {}
        for stage, alias in ALIASES.items():
            inside = [v.version for v in versions if v.stage == stage]
            holder = next((v.version for v in versions if alias in v.aliases), "")
            if stage == STAGING and staging in inside:
                wanted[alias] = staging
            else:
                wanted[alias] = holder if holder in inside else max(inside, key=int, default="")
        return wanted

    def _drop_aliases(self, version: str) -> None:
        held = self._registry.get(self._name, version).aliases
        for alias in ALIASES.values():
            if alias in held:
                self._registry.delete_alias(self._name, alias)
