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
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Any, TextIO, cast

MASK = "***"
_WORTH_HIDING = 8
_NAMED = re.compile(
    r"TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|SIGNING_KEY|ACCESS_KEY|SALT|CONNECTION_STRING|WEBHOOK_URL", re.IGNORECASE
)
_IN_ADDRESS = re.compile(r"(?<=://)[^/\s@:'\"<>]+:[^/\s@'\"<>]*(?=@)")
_IN_QUERY = re.compile(r"(?i)(?<=[?&;])(sig|sv|token|key|code|secret|password|signature|access_token|api_key)=[^&\s'\"<>]+")

_registered: set[str] = set()
_pattern: tuple[frozenset[str], re.Pattern[str] | None] = (frozenset(), None)


def register(values: Iterable[str]) -> None:
    """Hide these values from now on, in this process."""
    _registered.update(v for v in values if len(v) >= _WORTH_HIDING)


def register_address(address: str) -> None:
    """Hide user, password and the values of the query of an address."""
    try:
        parts = urllib.parse.urlsplit(address)
        password = parts.password or ""
    except ValueError:  # no address: nothing of it is known to be secret
        return
    register([password, urllib.parse.unquote(password), *(v for _, v in urllib.parse.parse_qsl(parts.query))])


def named_secrets(environment: Mapping[str, str]) -> set[str]:
    """Values of the variables that are named like a secret; a variable that names a file (``…_FILE``) is none."""
    found = set()
    for name, value in environment.items():
        if len(value) < _WORTH_HIDING or name.endswith(("_FILE", "_PATH", "_ENV")):
            continue
        if _NAMED.search(name):
            found.add(value)
        elif "://" in value and (inside := _IN_ADDRESS.search(value)):
            found.add(inside.group().partition(":")[2])
    return {value for value in found if len(value) >= _WORTH_HIDING}


def redacted(text: str) -> str:
    """Return ``text`` without any secret that this process knows of."""
    global _pattern  # noqa: PLW0603 one compiled pattern, made again when the set of secrets changes
    known = frozenset(_registered | named_secrets(os.environ))
    if known != _pattern[0]:
        words = sorted(
            {form for value in known for form in (value, html.escape(value), json.dumps(value)[1:-1])}, key=len, reverse=True
        )
        _pattern = (known, re.compile("|".join(map(re.escape, words))) if words else None)
    if _pattern[1] is not None:
        text = _pattern[1].sub(MASK, text)
    if "://" in text:
        text = _IN_ADDRESS.sub(MASK, text)
    return _IN_QUERY.sub(lambda m: f"{m.group(1)}={MASK}", text) if "=" in text else text


class RedactingStream:
    """A text stream that writes nothing secret; everything else is the stream's own."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write without secrets; returns the length of what was given, as a stream does."""
        self._stream.write(redacted(text))
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
