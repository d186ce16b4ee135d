"""What was judged of one version, as one sealed JSON document: results <-> canonical bytes, seal, signature.

A document has three parts: ``body`` (everything that was found), ``seal`` (SHA-256 over the canonical bytes of the body)
and ``signature`` (Ed25519 over the seal, where a key is configured). The bytes of a document are canonical as a whole, so
that one changed byte anywhere, even white space, is found by `parse`.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import dataclasses
import datetime as dt
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pytest_mlgates import __version__
from pytest_mlgates.errors import ConfigError, EvidenceInvalid, ExtraMissing
from pytest_mlgates.results import GateResult, RunReport, Verdict, plain

SCHEMA = 1
ID_TAG = "mlgates.evidence_id"
VERDICT_TAG = "mlgates.verdict"
DIGEST_TAG = "mlgates.artifact_digest"
_BODY_KEYS = (
    "model", "holdout", "baseline", "settings_digest", "git", "environment", "results", "required", "verdict", "created", "tool_version",
)  # fmt: skip


def canonical_bytes(value: Any) -> bytes:
    """Return the one JSON spelling of ``value``: sorted keys, no spaces, UTF-8, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def sha256(data: bytes) -> str:
    """Return ``sha256:`` and the hexadecimal digest of ``data``."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def artifact_path(evidence_id: str) -> str:
    """Where a document is stored among the artifacts of the version's run."""
    return f"mlgates/evidence/{evidence_id}.json"


@dataclasses.dataclass(frozen=True, slots=True)
class Evidence:
    """One sealed document.

    Attributes
    ----------
    body
        Plain JSON values; see `build` for the keys.
    seal
        ``sha256:…`` over the canonical bytes of ``body``.
    signature
        ``{"algorithm": "ed25519", "public_key": …, "value": …}``, base64, or ``None``.
    """

    body: Mapping[str, Any]
    seal: str
    signature: Mapping[str, str] | None = None

    @property
    def id(self) -> str:
        """Short stable name, made of the seal."""
        return "ev-" + self.seal.removeprefix("sha256:")[:24]

    @property
    def model(self) -> Mapping[str, Any]:
        """``{name, version, run_id, artifact_digest, files}``; ``files`` maps each path to its digest."""
        found: Mapping[str, Any] = self.body["model"]
        return found

    @property
    def created(self) -> dt.datetime:
        """When the gates ran, in UTC."""
        return dt.datetime.fromisoformat(str(self.body["created"]))

    @property
    def settings_digest(self) -> str:
        """Digest of the settings that the gates were judged by."""
        return str(self.body["settings_digest"])

    @property
    def verdict(self) -> Verdict:
        """The overall verdict as it was written; `report` recomputes it."""
        return Verdict(self.body["verdict"])

    def report(self, required: tuple[str, ...] | None = None, *, warn_inconclusive: bool | None = None) -> RunReport:
        """Rebuild the report, by default with the required gates that the document names."""
        return RunReport(
            model=str(self.model["name"]),
            version=str(self.model["version"]),
            results=tuple(GateResult.from_dict(r) for r in self.body["results"]),
            required=tuple(self.body["required"]) if required is None else required,
            warn_inconclusive=bool(self.body.get("warn_inconclusive")) if warn_inconclusive is None else warn_inconclusive,
        )

    def to_bytes(self) -> bytes:
        """Return the document's canonical bytes."""
        signature = None if self.signature is None else dict(self.signature)
        return canonical_bytes({"schema": SCHEMA, "body": plain(self.body), "seal": self.seal, "signature": signature})


def build(
    report: RunReport,
    *,
    model: Mapping[str, Any],
    holdout: Mapping[str, Any],
    baseline: Mapping[str, Any] | None,
    settings_digest: str,
    git: Mapping[str, Any],
    environment: Mapping[str, Any],
    created: dt.datetime,
    looks: int = 1,
    kill_score: float | None = None,
    signing_key: bytes | None = None,
) -> Evidence:
    """Seal what a run found.

    Parameters
    ----------
    report
        The gate results with the gates that the settings require.
    model
        ``{name, version, run_id, artifact_digest}`` of the version judged.
    holdout
        ``{table, version, digest, rows}``: table name or file path, its Delta version (``None`` for a file), `rows.table_digest`, rows.
    baseline
        The baseline in the same spirit: ``{model, version, digest}``; ``None`` without one.
    settings_digest
        ``Settings.digest(name)`` in force.
    git
        ``{sha, dirty}``.
    environment
        Names of the interpreter and the libraries with their versions.
    created
        When the gates ran; aware.
    looks
        How many versions were judged on this holdout digest, this one included.
    kill_score
        Share of planted mutants that the gates stopped, where it was measured.
    signing_key
        Ed25519 private key, see `sign`.

    Raises
    ------
    ValueError
        When ``created`` has no time zone, or model and report name different versions.
    """
    if created.tzinfo is None:
        raise ValueError("created has no time zone; pass an aware datetime")
    if (str(model["name"]), str(model["version"])) != (report.model, str(report.version)):
        named = f"{model['name']} v{model['version']}"
        raise ValueError(f"the report is of {report.model} v{report.version}, the model is {named}; pass the same version")
    body = plain(
        {
            "model": {**model, "version": str(model["version"])},
            "holdout": dict(holdout),
            "baseline": None if baseline is None else dict(baseline),
            "settings_digest": settings_digest,
            "git": dict(git),
            "environment": dict(environment),
            "results": [r.to_dict() for r in report.results],
            "required": list(report.required),
            "warn_inconclusive": report.warn_inconclusive,
            "verdict": report.verdict.value,
            "created": created.astimezone(dt.UTC).isoformat(),
            "looks": looks,
            "kill_score": kill_score,
            "tool_version": __version__,
        }
    )
    sealed = Evidence(body=body, seal=sha256(canonical_bytes(body)))
    return sealed if signing_key is None else sign(sealed, signing_key)


def parse(data: bytes) -> Evidence:
    """Read a document and check its seal.

    Raises
    ------
    EvidenceInvalid
        Not JSON, not a document of ours, a body that does not fit its seal (the message names both digests), or bytes that
        are not the canonical spelling.
    """
    try:
        document = json.loads(data)
    except ValueError as error:
        raise EvidenceInvalid(f"the evidence is not JSON ({error}); run the gates again") from None
    if not isinstance(document, dict) or set(document) != {"schema", "body", "seal", "signature"}:
        raise EvidenceInvalid("the evidence does not have the parts schema, body, seal and signature; run the gates again")
    if document["schema"] != SCHEMA:
        raise EvidenceInvalid(f"the evidence has schema {document['schema']!r}, this tool reads {SCHEMA}; run the gates again")
    body, seal = document["body"], document["seal"]
    actual = sha256(canonical_bytes(body))
    if seal != actual:
        raise EvidenceInvalid(f"the evidence was altered: its seal says {seal}, its body is {actual}; run the gates again")
    missing = [key for key in _BODY_KEYS if key not in body]
    if missing:
        raise EvidenceInvalid(f"the evidence lacks {', '.join(missing)}; run the gates again")
    found = Evidence(body=body, seal=seal, signature=document["signature"])
    if found.to_bytes() != data:
        raise EvidenceInvalid("the evidence was altered: its bytes are not the ones that were written; run the gates again")
    return found


def sign(evidence: Evidence, private_key: bytes) -> Evidence:
    """Return the document with an Ed25519 signature over its seal.

    Parameters
    ----------
    private_key
        PEM (PKCS #8, not encrypted), or the 32 raw bytes, or these in base64.
    """
    ed25519, serialization = _cryptography()
    key = _load(private_key, ed25519.Ed25519PrivateKey, serialization, private=True)
    public = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    signature = {"algorithm": "ed25519", "public_key": _text(public), "value": _text(key.sign(evidence.seal.encode()))}
    return dataclasses.replace(evidence, signature=signature)


def verify_signature(evidence: Evidence, public_key: bytes) -> None:
    """Check the signature against a trusted public key (PEM, 32 raw bytes, or base64).

    Raises
    ------
    EvidenceInvalid
        There is no signature, it is by another key, or it does not fit.
    """
    if evidence.signature is None:
        raise EvidenceInvalid(f"evidence {evidence.id} is not signed and a key is configured; run the gates where the key is")
    ed25519, serialization = _cryptography()
    from cryptography.exceptions import InvalidSignature

    key = _load(public_key, ed25519.Ed25519PublicKey, serialization, private=False)
    try:
        key.verify(base64.b64decode(str(evidence.signature.get("value", "")), validate=True), evidence.seal.encode())
    except (InvalidSignature, binascii.Error):
        message = f"the signature of evidence {evidence.id} is not by the configured key; run the gates where the key is"
        raise EvidenceInvalid(message) from None


def _cryptography() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise ExtraMissing.of("cryptography", "sign", "a signature on evidence") from None
    return ed25519, serialization


def _load(data: bytes, kind: Any, serialization: Any, *, private: bool) -> Any:
    """Load a key from PEM, raw or base64 bytes; the message of an error never holds the key."""
    loaded: Any = None
    with contextlib.suppress(ValueError, TypeError, binascii.Error):
        if b"-----BEGIN" in data:
            pem = serialization.load_pem_private_key(data, None) if private else serialization.load_pem_public_key(data)
            loaded = pem if isinstance(pem, kind) else None
        else:
            raw = data if len(data) == 32 else base64.b64decode(data.strip(), validate=True)
            loaded = kind.from_private_bytes(raw) if private else kind.from_public_bytes(raw)
    if loaded is None:
        which = "private" if private else "public"
        raise ConfigError(f"the {which} key for evidence is not Ed25519 in PEM, base64 or 32 raw bytes; check the key")
    return loaded


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
