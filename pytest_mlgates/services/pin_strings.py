"""What string does a Python expression build? Put together as far as the source says it, with holes for the rest."""

from __future__ import annotations

import ast
import re
import string
from collections.abc import Callable, Iterable

from pytest_mlgates.services.pin_names import Names, Values

HOLE = "\x00"
"""Stands on both sides of the name of what is not known."""
WHOLE_NUMBER = ":d"
"""Ends the name of what is not known but surely a whole number."""

_DEPTH = 12
_PERCENT = re.compile(r"%(?:\((\w+)\))?[-+ #0]*\d*(?:\.\d+)?([sdrif%])")
_TEMPLATE = re.compile(
    r"\$\{\{\s*([^}]*?)\s*\}\}|\{\{\s*([^}]*?)\s*\}\}|\$\{(\w+)[^}]*\}|\$\((\w+)\)|\$(\w+)|\{(\w+)(?:[!:][^{}\s]*)?\}"
)
_LAST_WORD = re.compile(r"(\w+)\W*$")
_JOINERS = frozenset({"join", "urljoin", "PurePosixPath", "PosixPath", "PurePath", "Path"})
_LOOK_UPS = frozenset({"get", "getenv", "pop", "setdefault", "getArgument", "getOrElse"})
_SAME = frozenset({"strip", "lstrip", "rstrip", "lower", "casefold", "encode", "decode", "as_posix", "expandvars"})
_ENDS_AS_A_PIN = re.compile(r"(?:^|/)\d+/?$")
_VERSION_WORDS = frozenset({"v", "ver", "vers", "version", "versions", "revision", "pin", "pinned"})
_STAGE_WORDS = frozenset({"stage", "alias", "env", "environment"})
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def says_version(name: str) -> bool:
    """Whether the name of what is not known says that it holds a version number."""
    if name.endswith(WHOLE_NUMBER):
        return True
    words = set(re.split(r"[\W_\d]+", _CAMEL.sub("_", name).lower()))
    return bool(words & _VERSION_WORDS) and not words & _STAGE_WORDS


def render(node: ast.AST, names: Names, depth: int = 0) -> str | None:
    """Return the string that an expression builds, with ``HOLE name HOLE`` for each unknown part.

    ``None`` for what is certainly no string. Numbers come out as their digits. Where there are alternatives (``a if b else
    c``, a name with several values) the one that looks like a version is taken.
    """
    if depth > _DEPTH:
        return None
    if isinstance(node, ast.Constant):
        return _constant(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_part(value, names, depth) for value in node.values)
    if isinstance(node, ast.FormattedValue):
        return _formatted(node, names, depth)
    if isinstance(node, ast.BinOp):
        return _operation(node, names, depth)
    if isinstance(node, ast.Call):
        return _call(node, names, depth)
    if isinstance(node, ast.Name):
        return _named(node.id, names, depth)
    if isinstance(node, ast.Attribute):
        return _attribute(node, names, depth)
    if isinstance(node, ast.Subscript):
        return _subscript(node, names, depth)
    if isinstance(node, ast.IfExp):
        return _likeliest(render(value, names, depth + 1) for value in (node.body, node.orelse))
    if isinstance(node, ast.BoolOp):
        return _likeliest(render(value, names, depth + 1) for value in node.values)
    return None


def template_holes(text: str) -> str:
    """Turn the placeholders of templates (``${VERSION}``, ``{{ x.version }}``, ``{version}``) into holes."""

    def hole(match: re.Match[str]) -> str:
        inside = next(group for group in match.groups() if group is not None)
        word = _LAST_WORD.search(inside)
        return _hole(word[1] if word else "")

    return _TEMPLATE.sub(hole, text)


def fill_percent(pattern: str, positional: Iterable[str], named: Callable[[str], str | None] = lambda _: None) -> str:
    """Fill ``%s`` and ``%(name)s``; a ``%d`` with something unknown is a whole number."""
    values = iter(positional)

    def fill(match: re.Match[str]) -> str:
        if match[2] == "%":
            return "%"
        found = named(match[1]) if match[1] else next(values, None)
        found = _hole(match[1] or "") if found is None else found
        return _counted(found) if match[2] in "di" else found

    return _PERCENT.sub(fill, pattern)


def dict_items(node: ast.AST, names: Names) -> dict[str, ast.expr]:
    """The items of a dict display, or of a name that stands for one, with plain keys."""
    if isinstance(node, ast.Name):
        values = names.get(node.id)
        return dict_items(values[0], Names({})) if len(values) == 1 else {}
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return {k.value: v for k, v in pairs if isinstance(k, ast.Constant) and isinstance(k.value, str)}
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict":
        return {k.arg: k.value for k in node.keywords if k.arg}
    return {}


def list_items(node: ast.AST, names: Names) -> list[ast.expr] | None:
    """The items of a list or tuple display, or of a name that stands for one."""
    if isinstance(node, ast.Name):
        values = names.get(node.id)
        return list_items(values[0], Names({})) if len(values) == 1 else None
    return list(node.elts) if isinstance(node, (ast.List, ast.Tuple)) else None


def _constant(value: object) -> str | None:
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return None
    return str(value)


def _part(node: ast.expr, names: Names, depth: int) -> str:
    found = render(node, names, depth + 1)
    return _hole("") if found is None else found


def _formatted(node: ast.FormattedValue, names: Names, depth: int) -> str:
    found = _part(node.value, names, depth)
    spec = node.format_spec
    ends = spec.values[-1] if isinstance(spec, ast.JoinedStr) and spec.values else None
    return _counted(found) if isinstance(ends, ast.Constant) and str(ends.value).endswith("d") else found


def _likeliest(found: Iterable[str | None]) -> str | None:
    known = [text for text in found if text is not None]
    ranked = sorted(known, key=lambda t: (not _ENDS_AS_A_PIN.search(t), _is_hole(t) and not says_version(t.strip(HOLE))))
    return ranked[0] if ranked else None


def _named(name: str, names: Names, depth: int) -> str:
    return _of_values(name, names.get(name), lambda index: names.before(name, index), depth) or (
        _hole(name + WHOLE_NUMBER) if names.is_whole_number(name) else _hole(name)
    )


def _of_values(name: str, values: Values, scope: Callable[[int], Names], depth: int) -> str | None:
    found = _likeliest(render(value, scope(index), depth + 1) for index, value in enumerate(values))
    if found is None or (_is_hole(found) and (says_version(name) or not says_version(found.strip(HOLE)))):
        return None
    return found


def _attribute(node: ast.Attribute, names: Names, depth: int) -> str:
    if node.attr in {"sep", "altsep"}:
        return "/"
    if isinstance(node.value, ast.Name):
        values = names.attribute(f"{node.value.id}.{node.attr}")
        found = _of_values(node.attr, values, lambda _: names, depth)
        if found is not None:
            return found
    return _hole(node.attr)


def _subscript(node: ast.Subscript, names: Names, depth: int) -> str | None:
    key = node.slice
    if isinstance(key, ast.Constant) and isinstance(key.value, str):
        value = dict_items(node.value, names).get(key.value)
        return _hole(key.value) if value is None else _part(value, names, depth)
    if isinstance(key, ast.Constant) and isinstance(key.value, int):
        items = list_items(node.value, names)
        if items is not None and -len(items) <= key.value < len(items):
            return _part(items[key.value], names, depth)
    return render(node.value, names, depth + 1)


def _operation(node: ast.BinOp, names: Names, depth: int) -> str | None:
    left = render(node.left, names, depth + 1)
    if isinstance(node.op, ast.Mod) and left is not None and "%" in left:
        return _percent(left, node.right, names, depth)
    right = render(node.right, names, depth + 1)
    if left is None and right is None:
        return None
    one, two = left if left is not None else _hole(""), right if right is not None else _hole("")
    if isinstance(node.op, ast.Add):
        return one + two
    if isinstance(node.op, ast.Div):
        return f"{one.rstrip('/')}/{two}"
    return None


def _percent(left: str, right: ast.expr, names: Names, depth: int) -> str:
    items = list_items(right, names) if isinstance(right, (ast.Tuple, ast.Name)) else None
    given = [right] if items is None else items
    mapping = dict_items(right, names)

    def named(key: str) -> str | None:
        return _part(mapping[key], names, depth) if key in mapping else None

    return fill_percent(left, (_part(value, names, depth) for value in given), named)


def _call(node: ast.Call, names: Names, depth: int) -> str | None:
    function = node.func
    name = function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""
    arguments = _arguments(node, names)
    if name == "int" and len(arguments) == 1:
        return _counted(_part(arguments[0], names, depth))
    if name in {"str", "repr", "quote"} and len(arguments) == 1:
        return render(arguments[0], names, depth + 1)
    if name in _LOOK_UPS and arguments and isinstance(arguments[0], ast.Constant) and isinstance(arguments[0].value, str):
        default = _part(arguments[1], names, depth) if len(arguments) > 1 else ""
        return default if default and not _is_hole(default) else _hole(arguments[0].value)
    if isinstance(function, ast.Attribute):
        return _method(name, function.value, node, names, depth)
    if name in _JOINERS and arguments:
        return _joined(arguments, names, depth)
    return _hole(name) if name else None


def _arguments(node: ast.Call, names: Names) -> list[ast.expr]:
    """Positional arguments, ``*[…]`` unpacked."""
    found: list[ast.expr] = []
    for argument in node.args:
        found += list_items(argument.value, names) or [] if isinstance(argument, ast.Starred) else [argument]
    return found


def _method(name: str, of: ast.expr, node: ast.Call, names: Names, depth: int) -> str | None:
    arguments = _arguments(node, names)
    if name in {"format", "format_map"}:
        pattern = render(of, names, depth + 1)
        return None if pattern is None else _format(pattern, node, arguments, names, depth)
    if name in _SAME and not arguments:
        found = _part(of, names, depth)
        return found.lower() if name in {"lower", "casefold"} else found
    if name in {"strip", "rstrip", "lstrip", "removesuffix", "removeprefix"} and len(arguments) == 1:
        text, what = (_part(value, names, depth) for value in (of, arguments[0]))
        return text if HOLE in what else str(getattr(text, name)(what))
    if name == "replace" and len(arguments) == 2:
        text, old, new = (_part(value, names, depth) for value in (of, *arguments))
        return text.replace(old, new) if old and HOLE not in old else text
    if name == "joinpath" and arguments:
        return _joined([of, *arguments], names, depth)
    if name == "join" and len(arguments) == 1:
        between = render(of, names, depth + 1)
        items = list_items(arguments[0], names)
        if items is not None and between is not None and not _is_hole(between):
            return between.join(_part(value, names, depth) for value in items)
    return _joined(arguments, names, depth) if name in _JOINERS and arguments else _hole(name)


def _joined(parts: list[ast.expr], names: Names, depth: int) -> str:
    found = [_part(value, names, depth) for value in parts]
    return "/".join([*(part.rstrip("/") for part in found[:-1]), found[-1]])


def _format(pattern: str, node: ast.Call, arguments: list[ast.expr], names: Names, depth: int) -> str:
    named = {k.arg: k.value for k in node.keywords if k.arg}
    for mapping in [*node.args, *(k.value for k in node.keywords if k.arg is None)]:
        named |= dict_items(mapping, names)
    out = []
    position = 0
    try:
        pieces = list(string.Formatter().parse(pattern))
    except ValueError:
        return pattern
    for literal, field, spec, _conversion in pieces:
        out.append(literal)
        if field is None:
            continue
        word = re.split(r"[.\[]", field)[0]
        value = named.get(word)
        if word == "" or word.isdigit():
            index = int(word) if word else position
            position += 1
            value = arguments[index] if index < len(arguments) else None
        found = _part(value, names, depth) if value is not None and word == field else _hole(field.rpartition(".")[2])
        out.append(_counted(found) if spec and spec.endswith("d") else found)
    return "".join(out)


def _hole(name: str) -> str:
    return f"{HOLE}{name}{HOLE}"


def _counted(text: str) -> str:
    """The same, known to be a whole number where it is one hole."""
    return _hole(text.strip(HOLE).removesuffix(WHOLE_NUMBER) + WHOLE_NUMBER) if _is_hole(text) else text


def _is_hole(text: str) -> bool:
    return text.startswith(HOLE) and text.endswith(HOLE) and text.count(HOLE) == 2
