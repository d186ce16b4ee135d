"""Fabric's published endpoint shapes on our manager: one endpoint per model, versions that are active in it.

A model's Fabric endpoint is our endpoint named ``default``: its active versions are the targets of its routes, the default
version has all the
traffic, the others answer only when they are asked for by name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from pytest_mlgates.addresses import sibling
from pytest_mlgates.endpoint.definition import MAX_ACTIVE_VERSIONS, Definition
from pytest_mlgates.endpoint.manager import EndpointManager, ManagedEndpoint
from pytest_mlgates.endpoint.schema import BadRequest

NAME = "default"


@dataclasses.dataclass(frozen=True, slots=True)
class FabricAnswer:
    """Either a body to answer with, or work that takes time."""

    body: Any = None
    work: Callable[[], Any] | None = None


class _EndpointChange(msgspec.Struct, forbid_unknown_fields=True):
    defaultVersionName: str | None = None  # noqa: N815 Fabric's own name
    defaultVersionAssignmentBehavior: str | None = None  # noqa: N815 Fabric's own name


class _VersionChange(msgspec.Struct, forbid_unknown_fields=True):
    scaleRule: str  # noqa: N815 Fabric's own name


def route(manager: EndpointManager, method: str, model: str, rest: Sequence[str], body: bytes) -> FabricAnswer:
    """Answer ``…/mlmodels/MODEL/endpoint/REST``. Raises BadRequest."""
    match (method, *rest):
        case ("GET",):
            return FabricAnswer(_endpoint(manager.get(model, NAME)))
        case ("PATCH",):
            return _change_default(manager, model, _read(body, _EndpointChange))
        case ("GET", "versions"):
            endpoint = manager.find(model, NAME)
            return FabricAnswer({"value": [_version(endpoint, v) for v in _active(endpoint)] if endpoint else []})
        case ("POST", "versions", "deactivateAll"):
            return FabricAnswer(work=lambda: _set(manager, model, [], None))
        case ("GET", "versions", version):
            return FabricAnswer(_version(manager.get(model, NAME), version))
        case ("PATCH", "versions", version):
            rule = _read(body, _VersionChange).scaleRule
            if rule != "AlwaysOn":
                raise BadRequest(f"scaleRule {rule!r} is not supported here; a local server is AlwaysOn", column="scaleRule")
            return FabricAnswer(_version(manager.get(model, NAME), version))
        case ("POST", "versions", version, "activate"):
            return _activate(manager, model, version)
        case ("POST", "versions", version, "deactivate"):
            return _deactivate(manager, model, version)
        case _:
            raise BadRequest(f"no such resource: {method} endpoint/{'/'.join(rest)}", status=404)


def _active(endpoint: ManagedEndpoint | None) -> list[str]:
    if endpoint is None or endpoint.definition is None or endpoint.definition.paused:
        return []
    return list(endpoint.definition.trafficSplit)


def _default(endpoint: ManagedEndpoint) -> str:
    split = endpoint.definition.trafficSplit if endpoint.definition else {}
    return next((v for v, share in split.items() if share > 0), "")


def _endpoint(endpoint: ManagedEndpoint) -> dict[str, Any]:
    default = _default(endpoint) if _active(endpoint) else ""
    return {
        "defaultVersionAssignmentBehavior": "StaticallyConfigured" if default else "NotConfigured",
        "defaultVersionName": default,
        "defaultVersionInfo": _version(endpoint, default),
    }


def _version(endpoint: ManagedEndpoint, version: str) -> dict[str, Any]:
    active = version in _active(endpoint)
    status = {"Provisioning": "Activating", "Updating": "Activating", "Failed": "Failed"}.get(endpoint.status, "Active")
    out: dict[str, Any] = {"versionName": version, "status": status if active else "Deactivated", "scaleRule": "AlwaysOn"}
    if endpoint.failure:
        out["failureDetails"] = {"errorCode": "DeploymentFailed", "message": endpoint.failure}
    if active and endpoint.uri and version == _default(endpoint):
        out["inputSignature"] = _signature(endpoint.uri)
    return out


def _signature(uri: str) -> list[Any]:
    import os

    import httpx

    from pytest_mlgates.addresses import TOKEN_VARIABLE

    token = os.environ.get(TOKEN_VARIABLE, "")
    try:
        answer = httpx.get(sibling(uri, "/schema"), headers={"authorization": f"Bearer {token}"} if token else {}, timeout=2.0)
        return list(answer.json()["inputSignature"])
    except (httpx.HTTPError, ValueError, KeyError):
        return []


def _activate(manager: EndpointManager, model: str, version: str) -> FabricAnswer:
    active = _active(manager.find(model, NAME))
    if version in active:
        return FabricAnswer()
    if len(active) >= MAX_ACTIVE_VERSIONS:
        raise BadRequest(f"{MAX_ACTIVE_VERSIONS} versions are active ({', '.join(active)}); deactivate one first", status=409)
    return FabricAnswer(work=lambda: _set(manager, model, [*active, version], None))


def _deactivate(manager: EndpointManager, model: str, version: str) -> FabricAnswer:
    endpoint = manager.get(model, NAME)
    active = _active(endpoint)
    if version not in active:
        return FabricAnswer()
    rest = [v for v in active if v != version]
    if rest and version == _default(endpoint):
        raise BadRequest(f"version {version} is the default; make another the default first", status=409)
    return FabricAnswer(work=lambda: _set(manager, model, rest, None))


def _change_default(manager: EndpointManager, model: str, change: _EndpointChange) -> FabricAnswer:
    endpoint = manager.get(model, NAME)
    if change.defaultVersionAssignmentBehavior not in (None, "StaticallyConfigured"):
        raise BadRequest(
            "an endpoint keeps a default version; give defaultVersionName", column="defaultVersionAssignmentBehavior"
        )
    version = change.defaultVersionName
    if version is None or version not in _active(endpoint):
        raise BadRequest(f"version {version!r} is not active; activate it first", column="defaultVersionName")
    _set(manager, model, _active(endpoint), version)
    return FabricAnswer(_endpoint(endpoint))


def _set(manager: EndpointManager, model: str, active: list[str], default: str | None) -> None:
    """Make these the active versions; the default stays where it is, or is the first."""
    endpoint = manager.find(model, NAME)
    if not active:
        if endpoint is not None and endpoint.definition is not None:
            endpoint.apply(msgspec.structs.replace(endpoint.definition, minInstances=0, maxInstances=0))
        return
    kept = default or (_default(endpoint) if endpoint and _active(endpoint) else active[0])
    ordered = [kept, *(v for v in active if v != kept)]
    wanted = Definition(NAME, kept, trafficSplit={v: 100.0 if v == kept else 0.0 for v in ordered})
    if endpoint is None:
        endpoint = manager.new(model, wanted)
    endpoint.apply(wanted)


def _read(body: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise BadRequest(f"the body does not fit: {error}") from None
    except msgspec.DecodeError as error:
        raise BadRequest(f"the body is not JSON: {error}", status=400) from None
