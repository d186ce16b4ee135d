"""Is this a right answer? The kinds of wrong ones, by name; used by the load generator on every response."""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from typing import Any

import msgspec


class _Answer(msgspec.Struct):
    predictions: list[Any]
    model_version: str
    model_name: str
    latency_ms: float


_decode = msgspec.json.Decoder(_Answer).decode
_isfinite = math.isfinite


def kind_of_error(status: int, body: bytes, *, rows: int, versions: Collection[str] = ()) -> str:
    """Return ``""`` for a right answer to ``rows`` rows, else what is wrong with it.

    ``status_NNN``, ``not_json``, ``schema`` (keys or types missing), ``rows`` (not one prediction per row), ``not_finite``,
    ``wrong_version`` (none of ``versions``; an empty collection takes any).
    """
    if status != 200:
        return f"status_{status}"
    try:
        answer = _decode(body)
    except msgspec.ValidationError:
        return "schema"
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _why_not_decoded(body)
    if len(answer.predictions) != rows:
        return "rows"
    for value in answer.predictions:
        if value is None or (value.__class__ is float and not _isfinite(value)):
            return "not_finite"
    if versions and answer.model_version not in versions:
        return "wrong_version"
    return ""


def _why_not_decoded(body: bytes) -> str:
    """JSON has no NaN, but Python servers write it: tell that apart from what is no JSON at all."""
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return "not_json"
    return "not_finite"
