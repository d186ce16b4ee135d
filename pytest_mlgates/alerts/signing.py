"""Signatures of webhook deliveries: HMAC-SHA256 over ``{timestamp}.{raw body}``."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping

TIMESTAMP_HEADER = "X-Mlgates-Timestamp"
SIGNATURE_HEADER = "X-Mlgates-Signature"
WINDOW_S = 300
"""Seconds by which a delivery's time may differ from ours."""


class SignatureRefused(Exception):
    """A delivery that is not signed as it must be; the message says how, and never what would have been right."""


def signature(secret: str, timestamp: int, body: bytes) -> str:
    """Return ``v1=`` and the hex HMAC-SHA256 of ``{timestamp}.{body}``."""
    message = str(timestamp).encode() + b"." + body
    return "v1=" + hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()


def signed_headers(secret: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the two headers of a signed delivery."""
    return {TIMESTAMP_HEADER: str(timestamp), SIGNATURE_HEADER: signature(secret, timestamp, body)}


def verify(secret: str, headers: Mapping[str, str], body: bytes, *, now: float) -> str:
    """Check a delivery and return its signature.

    Parameters
    ----------
    headers
        Header names in lower case.
    now
        Unix seconds.

    Raises
    ------
    SignatureRefused
        A header is missing or malformed, the time is more than `WINDOW_S` off, or the signature is of something else.
    """
    stamp = headers.get(TIMESTAMP_HEADER.lower(), "")
    given = headers.get(SIGNATURE_HEADER.lower(), "")
    if not stamp or not given:
        raise SignatureRefused(f"unsigned: {TIMESTAMP_HEADER} and {SIGNATURE_HEADER} are needed")
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) <= 12):
        raise SignatureRefused(f"{TIMESTAMP_HEADER} must be Unix seconds")
    expected = signature(secret, int(stamp), body)
    # int() drops leading zeros, so a rewritten stamp cannot verify under another spelling: compare what was signed
    if str(int(stamp)) != stamp or not hmac.compare_digest(expected.encode(), given.encode("utf-8", "replace")):
        raise SignatureRefused("the signature does not match")
    if abs(now - int(stamp)) > WINDOW_S:
        raise SignatureRefused(f"the delivery's time is more than {WINDOW_S} s off")
    return given
