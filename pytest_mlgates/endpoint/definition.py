"""What an endpoint should be: the tutorial's body, checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from pytest_mlgates.endpoint.schema import BadRequest

_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9-]{0,62}$")
STAGES = ("None", "Staging", "Production", "Archived")
MAX_ACTIVE_VERSIONS = 5
SINGLE_INSTANCE = "minInstances: 1 has no spare: its restart means about 30 s of 503; use minInstances >= 2"


class Definition(msgspec.Struct, omit_defaults=False, forbid_unknown_fields=True):
    """The body of a create request.

    ``modelVersion`` is a version, a stage (followed when promotion moves it) or an ``@alias``; ``trafficSplit`` shares the requests between
    versions in percent and, where it names more than the one version, wins over ``modelVersion``.
    """

    name: str
    modelVersion: str  # noqa: N815 the tutorial's name
    instanceType: str = "local"  # noqa: N815 the tutorial's name
    minInstances: int = 2  # noqa: N815 the tutorial's name
    maxInstances: int = 2  # noqa: N815 the tutorial's name
    trafficSplit: dict[str, float] = {}  # noqa: N815 the tutorial's name

    @property
    def paused(self) -> bool:
        """Whether no instance is wanted: the definition is kept, nothing runs."""
        return self.minInstances == 0

    @property
    def follows(self) -> str:
        """Stage or alias that is followed; empty for a pinned version or a split."""
        moves = self.modelVersion in STAGES or self.modelVersion.startswith("@")
        return self.modelVersion if moves and len(self.trafficSplit) <= 1 else ""


def parse(body: bytes) -> Definition:
    """Read a create request. Raises BadRequest (400 not JSON, 422 naming the field)."""
    try:
        return checked(msgspec.json.decode(body, type=Definition))
    except msgspec.ValidationError as error:
        raise BadRequest(f"the endpoint's definition does not fit: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"the body is not JSON: {error}", status=400) from None


def changed(old: Definition, body: bytes) -> Definition:
    """Return ``old`` with the fields of an update request changed. Raises BadRequest."""
    try:
        fields = msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.ValidationError as error:
        raise BadRequest(f"the body is not an object: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"the body is not JSON: {error}", status=400) from None
    if not fields:
        raise BadRequest("nothing to change: the body is empty")
    if fields.get("name", old.name) != old.name:
        raise BadRequest("an endpoint cannot be renamed; create another", column="name")
    if "modelVersion" in fields and "trafficSplit" not in fields:
        fields["trafficSplit"] = {}
    try:
        return checked(msgspec.convert({**msgspec.to_builtins(old), **fields}, Definition))
    except msgspec.ValidationError as error:
        raise BadRequest(f"the change does not fit: {error}") from None


def checked(found: Definition) -> Definition:
    """Return the definition, or raise BadRequest naming the field."""
    if not _NAME.match(found.name):
        raise BadRequest(f"name {found.name!r}: expected letters, digits and -, at most 63", column="name")
    if not found.modelVersion:
        raise BadRequest("modelVersion is empty; give a version, a stage or an @alias", column="modelVersion")
    if not 0 <= found.minInstances <= 64:
        raise BadRequest(f"minInstances {found.minInstances}: expected 0 to 64", column="minInstances")
    if found.maxInstances < found.minInstances:
        raise BadRequest(f"maxInstances {found.maxInstances} is below minInstances {found.minInstances}", column="maxInstances")
    check_split(found.trafficSplit)
    return found


def check_split(split: Mapping[str, float]) -> None:
    """Raise BadRequest unless the shares are a split (an empty one is)."""
    if not split:
        return
    if any(not 0 <= share <= 100 for share in split.values()) or abs(sum(split.values()) - 100) > 1e-6:
        shares = ", ".join(f"{v}: {s:g}" for v, s in split.items())
        raise BadRequest(f"trafficSplit must add up to 100, got {shares}", column="trafficSplit")
    if len(split) > MAX_ACTIVE_VERSIONS:
        raise BadRequest(f"trafficSplit names {len(split)} versions; at most {MAX_ACTIVE_VERSIONS}", column="trafficSplit")
