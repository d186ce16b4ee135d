"""Evidence where it belongs: an artifact of the version's run, with tags on the version that lead to it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_mlgates.errors import ConfigError, EvidenceInvalid
from pytest_mlgates.evidence import DIGEST_TAG, ID_TAG, VERDICT_TAG, Evidence, artifact_path, parse, sign, verify_signature

if TYPE_CHECKING:
    from pytest_mlgates.ports import ModelRegistry, ModelVersion

SIGNING_KEY = "MLGATES_SIGNING_KEY"
VERIFY_KEY = "MLGATES_VERIFY_KEY"


def key_from(name: str, env: Mapping[str, str] | None = None) -> bytes | None:
    """Return the key that ``NAME`` holds or that the file ``NAME_FILE`` holds; ``None`` where neither is set.

    Raises
    ------
    ConfigError
        The file cannot be read.
    """
    env = os.environ if env is None else env
    if env.get(name):
        return env[name].encode()
    path = env.get(f"{name}_FILE")
    if not path:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"{name}_FILE: {path} cannot be read: {error.strerror}; check the path") from None


def store(registry: ModelRegistry, version: ModelVersion, evidence: Evidence, *, signing_key: bytes | None = None) -> Evidence:
    """Store a document with the version's run and point the version's tags at it.

    The artifact is written first and the tags last, so that a crash between leaves the former evidence in force.

    Parameters
    ----------
    signing_key
        Ed25519 private key; by default from ``MLGATES_SIGNING_KEY`` or ``MLGATES_SIGNING_KEY_FILE``, unsigned without one.

    Returns
    -------
    Evidence
        The document as it was stored, signed where there is a key.
    """
    key = signing_key if signing_key is not None else key_from(SIGNING_KEY)
    if key is not None and evidence.signature is None:
        evidence = sign(evidence, key)
    registry.log_artifact(version, artifact_path(evidence.id), evidence.to_bytes())
    registry.set_version_tag(version.name, version.version, VERDICT_TAG, evidence.verdict.value)
    registry.set_version_tag(version.name, version.version, DIGEST_TAG, str(evidence.model["artifact_digest"]))
    registry.set_version_tag(version.name, version.version, ID_TAG, evidence.id)
    return evidence


def latest(registry: ModelRegistry, version: ModelVersion, *, verify_key: bytes | None = None) -> Evidence:
    """Read the evidence that the version's tags name, with its seal checked, and its signature where a key is configured.

    Parameters
    ----------
    verify_key
        Trusted Ed25519 public key; by default from ``MLGATES_VERIFY_KEY`` or ``MLGATES_VERIFY_KEY_FILE``.

    Raises
    ------
    EvidenceInvalid
        There is none, the document is gone, was altered, is not the one that the tag names, or its signature does not hold.
    """
    found = find(registry, version, verify_key=verify_key)
    if found is None:
        raise EvidenceInvalid(
            f"{version.label} has no evidence; run: pytest --model-name {version.name} --model-version {version.version}"
        )
    return found


def find(registry: ModelRegistry, version: ModelVersion, *, verify_key: bytes | None = None) -> Evidence | None:
    """Like `latest`, but ``None`` for a version that was never judged."""
    fresh = registry.get(version.name, version.version)
    wanted = fresh.tags.get(ID_TAG)
    if not wanted:
        return None
    path = artifact_path(wanted)
    data = registry.read_artifact(fresh, path)
    if data is None:
        raise EvidenceInvalid(f"{fresh.label}: evidence {wanted} is gone: its run has no {path}; run the gates again")
    try:
        evidence = parse(data)
    except EvidenceInvalid as error:
        raise EvidenceInvalid(f"{fresh.label}: {path}: {error}") from None
    if evidence.id != wanted:
        raise EvidenceInvalid(f"{fresh.label}: {path} holds evidence {evidence.id}, not {wanted}; run the gates again")
    key = verify_key if verify_key is not None else key_from(VERIFY_KEY)
    if key is not None:
        verify_signature(evidence, key)
    return evidence
