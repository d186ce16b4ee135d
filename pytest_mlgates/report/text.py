"""Text that is safe to print: names in a registry are somebody else's, and MLflow accepts control characters in them."""

from __future__ import annotations

import unicodedata

# Cc: control characters, ESC among them; Cf: formats, among them the bidirectional overrides; Zl, Zp: line separators
_UNPRINTABLE = frozenset({"Cc", "Cf", "Zl", "Zp", "Cs"})


def printable(text: str) -> str:
    """Return one line without control, format and bidirectional characters; each becomes one ``?``."""
    return "".join("?" if unicodedata.category(c) in _UNPRINTABLE else c for c in text.replace("\n", " "))


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


def in_markdown(text: str) -> str:
    """Text that stays text inside a Markdown table: no markup, no mention, no link."""
    safe = printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("|", "&#124;")
    return safe.replace("`", "&#96;").replace("[", "&#91;").replace("@", "&#64;").replace("*", "&#42;").replace("_", "&#95;")
