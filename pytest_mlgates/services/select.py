"""Which versions a ``--model-name`` and a ``--model-version`` mean."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from pytest_mlgates.errors import ModelNotFound, UsageProblem

if TYPE_CHECKING:
    from pytest_mlgates.ports import ModelRegistry, ModelVersion

STAGES = ("None", "Staging", "Production", "Archived")
_URI = "models:/"


def select_versions(registry: ModelRegistry, names: Sequence[str], specs: Sequence[str]) -> list[ModelVersion]:
    """Return the versions that are meant, each once, in the order asked for.

    Parameters
    ----------
    names
        Model names or globs.
    specs
        For each: ``2``, ``1,2``, ``latest``, ``all``, a stage (``Staging``) or an alias (``@challenger``, or ``challenger``:
        pytest itself reads an argument that begins with ``@`` as the name of a file of arguments).

    Raises
    ------
    UsageProblem
        No version was named.
    ModelNotFound
        A name, version, stage or alias has nothing behind it: an empty selection would pass by testing nothing.
    """
    wanted = [part.strip() for spec in specs for part in spec.split(",") if part.strip()]
    if not wanted:
        raise UsageProblem(
            "--model-name needs --model-version: a number, 1,2, latest, all, a stage (Staging) or an alias (challenger)"
        )
    chosen: dict[tuple[str, str], ModelVersion] = {}
    for pattern in names:
        for name in _names(registry, pattern):
            for spec in wanted:
                for version in versions_of(registry, name, spec):
                    chosen.setdefault((version.name, version.version), version)
    return list(chosen.values())


def version_at(registry: ModelRegistry, uri: str) -> ModelVersion:
    """Return the version that ``models:/NAME/STAGE``, ``models:/NAME/3`` or ``models:/NAME@alias`` means.

    Raises
    ------
    UsageProblem
        The text is no such reference.
    ModelNotFound
        Nothing is behind it.
    """
    text = uri.removeprefix(_URI)
    name, separator, spec = text.rpartition("@" if "@" in text else "/")
    if not uri.startswith(_URI) or not name or not spec:
        raise UsageProblem(f"{uri!r} is not a model reference; write models:/NAME/Production or models:/NAME@alias")
    return versions_of(registry, name, "@" + spec if separator == "@" else spec)[-1]


def versions_of(registry: ModelRegistry, name: str, spec: str) -> list[ModelVersion]:
    """Return the versions of one model that a spec means, oldest first; never empty. Raises ModelNotFound."""
    if spec.isdecimal():
        return [registry.get(name, spec.lstrip("0") or "0")]
    versions = registry.versions(name)
    if spec == "all":
        found = versions
    elif spec == "latest":
        found = versions[-1:]
    elif spec.startswith("@"):
        found = [v for v in versions if spec[1:] in v.aliases]
    else:
        found = [v for v in versions if v.stage.lower() == spec.lower()] or [v for v in versions if spec in v.aliases]
    if found:
        return found
    raise ModelNotFound(
        f"model {name!r} has no version {_meaning(spec)} in the registry at {registry.uri}; {_there_is(versions)}"
    )


def _names(registry: ModelRegistry, pattern: str) -> Iterable[str]:
    known = registry.names()
    if pattern in known:
        return [pattern]
    found = [n for n in known if fnmatch.fnmatchcase(n, pattern)]
    if not found:
        raise ModelNotFound.among("model", pattern, known, where=registry.uri)
    return found


def _meaning(spec: str) -> str:
    if spec.startswith("@"):
        return f"with alias {spec}"
    if spec in ("all", "latest"):
        return f"at all, so {spec!r} means nothing"
    if spec.capitalize() in STAGES:
        return f"in stage {spec.capitalize()}"
    return f"{spec!r} (write a number, latest, all, a stage: {', '.join(STAGES)}, or an alias)"


def _there_is(versions: Sequence[ModelVersion]) -> str:
    if not versions:
        return "it has none: register one first"
    shown = [f"v{v.version} ({', '.join([v.stage, *('@' + a for a in v.aliases)])})" for v in versions[-8:]]
    return f"there {'is' if len(versions) == 1 else 'are'}: {', '.join(shown)}"
