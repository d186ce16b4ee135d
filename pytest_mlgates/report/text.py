"""Text that is safe to print: names in a registry are somebody else's, and MLflow accepts control characters in them."""

from __future__ import annotations

import unicodedata

# Cc: control characters, ESC among them; Cf: formats, among them the bidirectional overrides; Zl, Zp: line separators
_UNPRINTABLE = frozenset({"Cc", "Cf", "Zl", "Zp", "Cs"})


def printable(text: str) -> str:
    """Return one line without control, format and bidirectional characters; each becomes one ``?``."""
    return "".join("?" if unicodedata.category(c) in _UNPRINTABLE else c for c in text.replace("\n", " "))
