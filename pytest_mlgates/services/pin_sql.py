"""SQL with its comments taken out and the strings that it puts together put together."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pytest_mlgates.services.pin_strings import AT_RUN_TIME, HOLE, fill_percent

_COMMENT = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|(--[^\n]*|/\*.*?\*/)", re.DOTALL)
_TERM = r"(?:'(?:[^']|'')*'|(?:try_)?(?:cast|convert|string|to_char|to_varchar)\s*\([^()]*\)|[:@$]?[\w.]+)"
_CHAIN = re.compile(rf"{_TERM}(?:\s*(?:\|\||\+)\s*{_TERM})+", re.IGNORECASE)
_CALL = re.compile(rf"\b(concat_ws|concat|format_string|format|printf)\s*\(\s*({_TERM}(?:\s*,\s*{_TERM})*)\s*\)", re.IGNORECASE)
_ONE = re.compile(_TERM, re.IGNORECASE)
_SET = re.compile(
    r"\b(?:declare|set|define)\s+(?:(?:or\s+replace|variable|var|session)\s+)*[@:$]?(\w+)"
    r"(?:\s+(?:as\s+)?\w+(?:\(\d+\))?)?\s*(?:\bdefault\b|:?=)\s*('\d+'|\d+)",
    re.IGNORECASE,
)
_CAST = re.compile(r"(?is)^(?:try_)?(?:cast|string|to_char|to_varchar)\s*\(\s*([\w.:@$]+).*")
_CONVERT = re.compile(r"(?is)^(?:try_)?convert\s*\([^,]*,\s*([\w.:@$]+).*")


def sql_strings(text: str) -> str:
    """Take the comments out and write each ``'a' || b``, ``concat('a', b)``, ``format_string('%s', b)`` as one string.

    What is not known becomes a hole (`pin_strings.HOLE`); every line keeps its number.
    """
    text = _COMMENT.sub(lambda m: _blank(m[0]) if m[1] else m[0], text)
    known = {name.lower(): value.strip("'") for name, value in _SET.findall(text)}
    text = _CHAIN.sub(lambda m: _quoted("".join(_value(t, known) for t in _ONE.findall(m[0])), m[0]), text)
    return _CALL.sub(lambda m: _called(m[1].lower(), m[2], m[0], known), text)


def _called(name: str, terms: str, original: str, known: Mapping[str, str]) -> str:
    values = [_value(term, known) for term in _ONE.findall(terms)]
    if name == "concat":
        return _quoted("".join(values), original)
    if name == "concat_ws":
        return _quoted(values[0].join(values[1:]), original)
    return _quoted(fill_percent(values[0], values[1:]), original)


def _value(term: str, known: Mapping[str, str]) -> str:
    if term.startswith("'"):
        return term[1:-1].replace("''", "'")
    inner = _CONVERT.sub(r"\1", _CAST.sub(r"\1", term))
    word = inner.rpartition(".")[2].lstrip(":@$")
    if word.isdigit():
        return word
    given = AT_RUN_TIME if inner[:1] in {":", "@", "$"} else ""  # a parameter of the statement
    return known.get(word.lower(), f"{HOLE}{word}{given}{HOLE}")


def _quoted(value: str, original: str) -> str:
    """One SQL string in place of an expression; the line breaks that it spanned come after it."""
    return f"'{value}'" + _blank(original)


def _blank(text: str) -> str:
    return "\n" * text.count("\n")
