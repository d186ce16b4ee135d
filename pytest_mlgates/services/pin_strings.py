"""What string does a Python expression build? Put together as far as the source says it, with holes for the rest."""

from __future__ import annotations

import ast
import re
import string
from collections.abc import Mapping

HOLE = "\x00"
"""Stands on both sides of the name of what is not known."""

_DEPTH = 12
_PERCENT = re.compile(r"%(?:\((\w+)\))?[-+ #0]*\d*(?:\.\d+)?([sdrif%])")
_TEMPLATE = re.compile(r"\$\{\{\s*([^}]*?)\s*\}\}|\{\{\s*([^}]*?)\s*\}\}|\$\{(\w+)[^}]*\}|\$(\w+)|\{(\w+)(?:[!:][^{}]*)?\}")
_LAST_WORD = re.compile(r"(\w+)\W*$")
_JOINERS = frozenset({"join", "urljoin", "PurePosixPath", "PosixPath", "Path"})


class Constants:
    """Names that a module gives one plain value, such as ``VERSION = 3``."""

    def __init__(self, values: Mapping[str, ast.expr]) -> None:
        self._values = values

    @classmethod
    def of(cls, tree: ast.AST) -> Constants:
        """Collect the names that are assigned exactly once, anywhere in the module."""
        values: dict[str, ast.expr | None] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
                name, value = node.targets[0].id, node.value
            elif (
                isinstance(node, (ast.AnnAssign, ast.NamedExpr))
                and isinstance(node.target, ast.Name)
                and node.value is not None
            ):
                name, value = node.target.id, node.value
            else:
                continue
            values[name] = None if name in values else value
        return cls({name: value for name, value in values.items() if value is not None})

    def get(self, name: str) -> ast.expr | None:
        """The expression behind a name."""
        return self._values.get(name)


def render(node: ast.AST, constants: Constants, depth: int = 0) -> str | None:
    """Return the string that an expression builds, with ``HOLE name HOLE`` for each unknown part.

    ``None`` for what is certainly no string. Numbers come out as their digits.
    """
    if depth > _DEPTH:
        return None
    if isinstance(node, ast.Constant):
        return _constant(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_part(value, constants, depth) for value in node.values)
    if isinstance(node, ast.FormattedValue):
        return _part(node.value, constants, depth)
    if isinstance(node, ast.BinOp):
        return _operation(node, constants, depth)
    if isinstance(node, ast.Call):
        return _call(node, constants, depth)
    if isinstance(node, ast.Name):
        value = constants.get(node.id)
        known = render(value, constants, depth + 1) if value is not None else None
        return known if known is not None and not _is_hole(known) else _hole(node.id)
    if isinstance(node, ast.Attribute):
        return _hole(node.attr)
    if isinstance(node, ast.Subscript):
        key = node.slice
        named = isinstance(key, ast.Constant) and isinstance(key.value, str)
        return _hole(str(key.value)) if named and isinstance(key, ast.Constant) else render(node.value, constants, depth + 1)
    return None


def template_holes(text: str) -> str:
    """Turn the placeholders of templates (``${VERSION}``, ``{{ x.version }}``, ``{version}``) into holes."""

    def hole(match: re.Match[str]) -> str:
        inside = next(group for group in match.groups() if group is not None)
        word = _LAST_WORD.search(inside)
        return _hole(word[1] if word else "")

    return _TEMPLATE.sub(hole, text)


def _constant(value: object) -> str | None:
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return None
    return str(value)


def _part(node: ast.expr, constants: Constants, depth: int) -> str:
    found = render(node, constants, depth + 1)
    return _hole("") if found is None else found


def _operation(node: ast.BinOp, constants: Constants, depth: int) -> str | None:
    left = render(node.left, constants, depth + 1)
    if isinstance(node.op, ast.Mod) and left is not None and "%" in left:
        return _percent(left, node.right, constants, depth)
    right = render(node.right, constants, depth + 1)
    if left is None and right is None:
        return None
    one, two = left if left is not None else _hole(""), right if right is not None else _hole("")
    if isinstance(node.op, ast.Add):
        return one + two
    if isinstance(node.op, ast.Div):
        return f"{one.rstrip('/')}/{two}"
    return None


def _percent(left: str, right: ast.expr, constants: Constants, depth: int) -> str:
    given = list(right.elts) if isinstance(right, ast.Tuple) else [right]
    named: dict[str, ast.expr] = {}
    if isinstance(right, ast.Dict):
        named = {
            k.value: v
            for k, v in zip(right.keys, right.values, strict=True)
            if isinstance(k, ast.Constant) and isinstance(k.value, str)
        }
    values = iter(given)

    def fill(match: re.Match[str]) -> str:
        if match[2] == "%":
            return "%"
        value = named.get(match[1]) if match[1] else next(values, None)
        return _part(value, constants, depth) if value is not None else _hole(match[1] or "")

    return _PERCENT.sub(fill, left)


def _call(node: ast.Call, constants: Constants, depth: int) -> str | None:
    function = node.func
    name = function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""
    if name in {"str", "int", "repr", "quote"} and len(node.args) == 1:
        return render(node.args[0], constants, depth + 1)
    if isinstance(function, ast.Attribute) and name in {"format", "format_map"}:
        pattern = render(function.value, constants, depth + 1)
        return None if pattern is None else _format(pattern, node, constants, depth)
    if isinstance(function, ast.Attribute) and name == "join" and len(node.args) == 1:
        between = render(function.value, constants, depth + 1)
        if isinstance(node.args[0], (ast.List, ast.Tuple)) and between is not None and not _is_hole(between):
            return between.join(_part(value, constants, depth) for value in node.args[0].elts)
    if name in _JOINERS and len(node.args) > 1:
        parts = [_part(value, constants, depth) for value in node.args]
        return "/".join([*(part.rstrip("/") for part in parts[:-1]), parts[-1]])
    if name in _JOINERS and len(node.args) == 1:
        return render(node.args[0], constants, depth + 1)
    return _hole(name) if name else None


def _format(pattern: str, node: ast.Call, constants: Constants, depth: int) -> str:
    named = {k.arg: k.value for k in node.keywords if k.arg}
    for mapping in [*node.args, *(k.value for k in node.keywords if k.arg is None)]:
        if isinstance(mapping, ast.Dict):
            pairs = zip(mapping.keys, mapping.values, strict=True)
            named |= {k.value: v for k, v in pairs if isinstance(k, ast.Constant) and isinstance(k.value, str)}
    out = []
    position = 0
    try:
        pieces = list(string.Formatter().parse(pattern))
    except ValueError:
        return pattern
    for literal, field, _spec, _conversion in pieces:
        out.append(literal)
        if field is None:
            continue
        word = re.split(r"[.\[]", field)[0]
        value = named.get(word)
        if word == "" or word.isdigit():
            index = int(word) if word else position
            position += 1
            value = node.args[index] if index < len(node.args) else None
        out.append(_part(value, constants, depth) if value is not None and word == field else _hole(field.rpartition(".")[2]))
    return "".join(out)


def _hole(name: str) -> str:
    return f"{HOLE}{name}{HOLE}"


def _is_hole(text: str) -> bool:
    return text.startswith(HOLE) and text.endswith(HOLE) and text.count(HOLE) == 2
