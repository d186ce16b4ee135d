"""Text that is safe to print: names in a registry are somebody else's, and MLflow accepts control characters in them."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

from pytest_mlgates.redaction import UNPRINTABLE


def printable(text: str) -> str:
    """Return one line without control, format and bidirectional characters; each becomes one ``?``."""
    return "".join("?" if unicodedata.category(c) in UNPRINTABLE else c for c in text.replace("\n", " "))


def number(value: float | None) -> str:
    """A number in at most eight characters, an en dash where there is none."""
    if value is None:
        return "–"
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 999_999.5 or size < 0.001:
        return f"{value:.2g}"
    return f"{value:.4g}" if size < 1000 else f"{value:,.0f}"


def clipped(words: str, most: int) -> str:
    """Return one printable line of at most ``most`` characters, with an ellipsis where it was longer."""
    line = printable(words)
    return line if len(line) <= most else line[: max(most - 1, 0)] + "…"


def compact(value: float) -> str:
    """A number beside an axis: thousands as ``k``, millions as ``M``."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if unit == 'k' else size):.4g}{unit}"
    return f"{value:.4g}"


_MARKDOWN = str.maketrans({c: f"&#{ord(c)};" for c in "&<>|`[]@*_~#\\!$"} | {"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def in_markdown(text: str) -> str:
    """Text that stays text inside a Markdown table: no markup, no mention, no reference, no link."""
    safe = printable(text).translate(_MARKDOWN)
    return safe.replace("://", ":&#47;&#47;").replace("www.", "www&#46;")


def json_text(value: Any, *, indent: int | None = None) -> str:
    """JSON that can be read back whole and printed: control and direction characters stand in it as escapes."""
    text = json.dumps(value, indent=indent, ensure_ascii=False, default=str)
    if text.isprintable():
        return text
    return "".join(c if c == "\n" or unicodedata.category(c) not in UNPRINTABLE else json.dumps(c)[1:-1] for c in text)
