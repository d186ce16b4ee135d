"""Placeholders in texts that another program fills: ``${VERSION}``, ``{{ var("version") }}``, ``$(MODEL_VERSION)``.

What is filled in at run time is no pin; what the same file sets to a number, or gives as the default, is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from pytest_mlgates.services.pin_strings import AT_RUN_TIME, HOLE

Known = Mapping[str, str]
_TEMPLATE = re.compile(
    r"\$\{\{\s*([^}]*?)\s*\}\}|\{\{\s*([^}]*?)\s*\}\}|\$\{([^}]*)\}|\$\((\w+)\)|\$(\w+)|\{(\w+)(?:[!:][^{}\s]*)?\}"
)
_DEFAULT = re.compile(r"(?::?-|\|\||\bor\b|,|\bdefault\()\s*['\"]?(\d+)['\"]?\s*\)*$")
_LAST_WORD = re.compile(r"(\w+)\W*$")
_FIRST_WORD = re.compile(r"\w+")
_SET = re.compile(
    r"""^[ \t]*(?:-[ \t]+)?(?:export[ \t]+|\{%-?[ \t]*set[ \t]+)?['"]?([A-Za-z_][\w.-]*)['"]?[ \t]*(?:[:=]|:=)[ \t]*['"]?(\d+)['"]?[ \t]*"""
    r"""(?:-?%\}|;|$|\#)""",
    re.MULTILINE,
)
_NAMED = re.compile(
    r"name:[ \t]*['\"]?([\w.-]+)['\"]?[ \t]*\n[ \t]*(?:value|default):[ \t]*['\"]?(\d+)['\"]?[ \t]*(?:$|\#)", re.MULTILINE
)
_INPUT = re.compile(
    r"^(?=([ \t]*)([\w-]+):[ \t]*\n(\1[ \t]+)(?:(?!default:)[\w-]+:[^\n]*\n\3)*default:[ \t]*['\"]?(\d+)['\"]?[ \t]*$)",
    re.MULTILINE,
)


def defined_in(text: str) -> dict[str, str]:
    """Names that a text itself sets to a whole number: a key of a mapping, a shell variable, an input's default."""
    found = dict(_SET.findall(text))
    found |= dict(_NAMED.findall(text))
    return found | {name: value for _, name, _, value in _INPUT.findall(text)}


def fill_templates(text: str, known: Known) -> str:
    """Fill each placeholder with what ``known`` or its own default says, the others with holes for run-time values."""

    def fill(match: re.Match[str]) -> str:
        inside = next(group for group in match.groups() if group is not None)
        default = _DEFAULT.search(inside)
        if default is not None:
            return default[1]
        if HOLE in inside:
            return match[0]
        words = _FIRST_WORD.findall(inside)
        word = _LAST_WORD.search(inside)
        name = next((w for w in reversed(words) if w in known), word[1] if word else "")
        return known.get(name, f"{HOLE}{name}{AT_RUN_TIME}{HOLE}")

    return _TEMPLATE.sub(fill, text)
