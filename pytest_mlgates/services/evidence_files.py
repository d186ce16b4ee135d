"""Evidence as files: read back without asking any registry."""

from __future__ import annotations

from pathlib import Path

from pytest_mlgates.errors import EvidenceInvalid
from pytest_mlgates.evidence import Evidence, parse

_PATTERN = "mlgates/evidence/ev-*.json"
_DEPTH = 8


def read(path: Path) -> Evidence:
    """Read one document and check its seal. Raises EvidenceInvalid."""
    try:
        return parse(path.read_bytes())
    except OSError as error:
        raise EvidenceInvalid(f"{path} cannot be read: {error.strerror or error}; check the path") from None
    except EvidenceInvalid as error:
        raise EvidenceInvalid(f"{path}: {error}") from None


def newest(folder: Path, name: str, version: str) -> Evidence | None:
    """The newest sealed document of a version among the artifacts below a folder; those whose seal is broken are passed over."""
    found: list[Evidence] = []
    for depth in range(_DEPTH):
        for path in folder.glob("*/" * depth + _PATTERN):
            try:
                one = read(path)
            except EvidenceInvalid:
                continue
            if (str(one.model["name"]), str(one.model["version"])) == (name, version):
                found.append(one)
    return max(found, key=lambda e: e.created, default=None)
