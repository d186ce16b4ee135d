"""The one sink that every text for people goes through: what is secret in this process is replaced by ``***``.

Secret are: values of environment variables that are named like a secret, user and password and query of any address that is
registered (the tracking URI, channels), and what is registered by itself. A short value (under eight characters) is left alone:
replacing it would tear other words apart.
"""

from __future__ import annotations

import contextlib
import html
import json
import os
import re
import sys
import unicodedata
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Any, TextIO, cast

MASK = "***"
_WORTH_HIDING = 8
_LONG = 16
_NAMED = re.compile(
    r"TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|API_?KEY|SIGNING_KEY|ACCESS_KEY|ACCOUNT_KEY|PRIVATE_KEY|SALT|CONNECTION_STRING|"
    r"CONN_STR|WEBHOOK_URL|_(PASS|PWD|KEY|PAT|SAS|AUTH|BEARER|COOKIE|JWT|DSN)$",
    re.IGNORECASE,
)
# user info of an address; without a colon only where it can be no container of a store (abfss://container@account)
_IN_ADDRESS = re.compile(r"(?<=://)[^/\s@:'\"<>\\]*:[^/\s@'\"<>\\]*(?=@)|(?:(?<=http://)|(?<=https://))[^/\s@'\"<>\\]+(?=@)")
_IN_QUERY = re.compile(
    r"(?i)(?<=[?&;])((?:[\w.-]*[_-])?(?:sig|sv|token|key|code|secret|passw(?:or)?d|pwd|pass|auth|jwt|signature|credential))=[^&\s'\"<>\\]+"
)
_IN_HEADER = re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/-]{8,}=*")

_PLAIN = re.compile(r"[\n\t\x20-\x7e]*")
# Cc: control characters, ESC among them; Cf: formats, among them the bidirectional overrides; Zl, Zp: line separators
UNPRINTABLE = frozenset({"Cc", "Cf", "Zl", "Zp", "Cs"})

_registered: set[str] = set()
_pattern: tuple[frozenset[str], re.Pattern[str] | None] = (frozenset(), None)


def register(values: Iterable[str]) -> None:
    """Hide these values from now on, in this process."""
    _registered.update(v for v in values if len(v) >= _WORTH_HIDING)


def register_address(address: str, *, path: bool = False) -> None:
    """Hide user, password and the values of the query of an address.

    Parameters
    ----------
    path
        Whether long parts of its path are secret too, as in the addresses that chat services hand out.
    """
    try:
        parts = urllib.parse.urlsplit(address)
        user, password = parts.username or "", parts.password
    except ValueError:  # no address: nothing of it is known to be secret
        return
    own = [password or ""] if password is not None or parts.scheme not in ("http", "https") else [user]
    own += [v for _, v in urllib.parse.parse_qsl(parts.query)]
    if path:
        own += [
            part for part in (parts.netloc.rpartition("@")[2], *parts.path.split("/")) if len(part) >= _LONG and "." not in part
        ]
    register(form for value in own for form in (value, urllib.parse.unquote(value)))


def register_addresses(values: Any) -> None:
    """Hide what is secret in every address among values: text, and mappings and sequences of them."""
    if isinstance(values, str):
        if "://" in values:
            register_address(values)
    elif isinstance(values, Mapping):
        for value in values.values():
            register_addresses(value)
    elif isinstance(values, Iterable):
        for value in values:
            register_addresses(value)


def named_secrets(environment: Mapping[str, str]) -> set[str]:
    """Values of the variables that are named like a secret; a variable that names a file (``…_FILE``) is none."""
    found = set()
    for name, value in environment.items():
        if len(value) < _WORTH_HIDING or name.endswith(("_FILE", "_PATH", "_ENV")):
            continue
        if _NAMED.search(name):
            found.add(value)
        elif "://" in value and (inside := _IN_ADDRESS.search(value)):
            found.add(inside.group().rpartition(":")[2])
    return {value for value in found if len(value) >= _WORTH_HIDING}


def redacted(text: str) -> str:
    """Return ``text`` without any secret that this process knows of."""
    global _pattern  # noqa: PLW0603 one compiled pattern, made again when the set of secrets changes
    known = frozenset(_registered | named_secrets(os.environ))
    if known != _pattern[0]:
        words = sorted({form for value in known for form in _forms(value)}, key=len, reverse=True)
        _pattern = (known, re.compile("|".join(map(re.escape, words))) if words else None)
    if _pattern[1] is not None:
        text = _pattern[1].sub(MASK, text)
    if "://" in text:
        text = _IN_ADDRESS.sub(MASK, text)
    if "=" in text:
        text = _IN_QUERY.sub(lambda m: f"{m.group(1)}={MASK}", text)
    return _IN_HEADER.sub(lambda m: f"{m.group(1)} {MASK}", text)


def redacted_values(values: Any) -> Any:
    """Return JSON values with every text in them `redacted`; keys too."""
    if isinstance(values, str):
        return redacted(values)
    if isinstance(values, Mapping):
        return {redacted(str(k)): redacted_values(v) for k, v in values.items()}
    return [redacted_values(v) for v in values] if isinstance(values, list | tuple) else values


def _forms(value: str) -> tuple[str, ...]:
    """How a value may be written: as it is, in HTML, in JSON, in an address."""
    return (
        value,
        html.escape(value),
        json.dumps(value)[1:-1],
        urllib.parse.quote(value, safe=""),
        urllib.parse.quote_plus(value),
    )


def cleaned(text: str) -> str:
    """Return ``text`` without control, format and direction characters; each becomes ``?``, line ends and tabs stay."""
    if text.isascii() and _PLAIN.fullmatch(text):
        return text
    kept = text.replace("\r\n", "\n")
    return "".join(c if c in "\n\t" or unicodedata.category(c) not in UNPRINTABLE else "?" for c in kept)


class RedactingStream:
    """A text stream that writes nothing secret and no control character but line ends and tabs; the rest is the stream's own."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write without secrets and control characters; returns the length of what was given, as a stream does."""
        self._stream.write(cleaned(redacted(text)))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each line."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def redacting() -> Iterator[None]:
    """Let nothing secret out of this process' standard output and error inside the block."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = cast("TextIO", RedactingStream(before[0])), cast("TextIO", RedactingStream(before[1]))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
