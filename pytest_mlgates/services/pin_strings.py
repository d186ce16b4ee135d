"""What string does a Python expression build? Put together as far as the source says it, with holes for the rest."""

from __future__ import annotations

import ast
import re
import string
from collections.abc import Callable, Iterable
from typing import Any

from pytest_mlgates.services.pin_bindings import RunTime, called
from pytest_mlgates.services.pin_names import InScope, Names, Values, alternatives, attribute_values, items_at

HOLE = "\x00"
"""Stands on both sides of the name of what is not known."""
WHOLE_NUMBER = ":d"
"""Ends the name of what is not known but surely a whole number."""
AT_RUN_TIME = ":run"
"""Ends the name of what the program is given at run time (an argument, the environment, the registry): no pin."""

_DEPTH = 14
_PERCENT = re.compile(r"%(?:\((\w+)\))?[-+ #0]*\d*(?:\.\d+)?([sdrif%])")
_FIELD = re.compile(r"\.(\w+)|\[(\w+)\]")
_DOLLAR = re.compile(r"\$(?:(\w+)|\{(\w+)\})")
_FILLERS = frozenset({"format", "format_map", "substitute", "safe_substitute"})
_JOINERS = frozenset({"join", "urljoin", "PurePosixPath", "PosixPath", "PurePath", "Path"})
_LOOK_UPS = frozenset({"get", "getenv", "pop", "setdefault", "getArgument", "getOrElse"})
_DEFAULTS = frozenset({"Option", "Argument", "Field", "field", "Query", "Param", "Variable"})
_SAME = frozenset({"strip", "lstrip", "rstrip", "lower", "casefold", "encode", "decode", "as_posix", "expandvars", "zfill"})
_ENDS_AS_A_PIN = re.compile(r"(?:^|/)\d+/?$")
_VERSION_WORDS = frozenset({"v", "ver", "vers", "version", "versions", "revision", "pin", "pinned"})
_STAGE_WORDS = frozenset({"stage", "alias", "env", "environment"})
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def says_version(name: str) -> bool:
    """Whether the name of what is not known says that it holds a version number."""
    if name.endswith(AT_RUN_TIME):
        return False
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
    if isinstance(node, InScope):
        return render(node.expression, node.names, depth + 2)
    if isinstance(node, ast.Constant):
        return _constant(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_part(value, names, depth) for value in node.values)
    if isinstance(node, (ast.IfExp, ast.BoolOp)):
        choices = node.values if isinstance(node, ast.BoolOp) else [node.body, node.orelse]
        return _likeliest(render(value, names, depth + 1) for value in choices)
    if isinstance(node, ast.NamedExpr):
        return render(node.value, names, depth + 1)
    if isinstance(node, (RunTime, ast.Await, ast.ListComp, ast.GeneratorExp)):
        return _hole(AT_RUN_TIME)
    special = _RENDERED.get(type(node))
    return None if special is None else special(node, names, depth)


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
    if not isinstance(node, ast.expr):
        return {}
    found: dict[str, ast.expr] = {}
    for display, scope in alternatives(node, names):
        if isinstance(display, ast.Dict):
            pairs = zip(display.keys, display.values, strict=True)
            items = {k.value: v for k, v in pairs if isinstance(k, ast.Constant) and isinstance(k.value, str)}
        elif isinstance(display, ast.Call) and isinstance(display.func, ast.Name) and display.func.id == "dict":
            items = {k.arg: k.value for k in display.keywords if k.arg}
        else:
            continue
        found |= {key: InScope(value, scope) for key, value in items.items()}
    return found


def list_items(node: ast.AST, names: Names, depth: int = 0) -> list[ast.expr] | None:
    """The items of a list or tuple display, of a name that stands for one, and of what was appended to it."""
    if depth > _DEPTH:
        return None
    if isinstance(node, InScope):
        return list_items(node.expression, node.names, depth + 1)
    if isinstance(node, ast.Name):
        values = names.get(node.id)
        return list_items(values[-1], names.before(node.id, len(values) - 1), depth + 1) if values else None
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = (list_items(side, names, depth + 1) for side in (node.left, node.right))
        return None if left is None or right is None else left + right
    if isinstance(node, (ast.List, ast.Tuple)):
        return [InScope(value, names) for value in node.elts]
    return None


def arguments_of(node: ast.Call, names: Names) -> list[ast.expr]:
    """Positional arguments, ``*[…]`` unpacked."""
    found: list[ast.expr] = []
    for argument in node.args:
        found += list_items(argument.value, names) or [] if isinstance(argument, ast.Starred) else [argument]
    return found


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
    ranked = sorted(known, key=lambda t: (not _ENDS_AS_A_PIN.search(t), is_hole(t) and not says_version(t.strip(HOLE))))
    return ranked[0] if ranked else None


def _named(node: ast.Name, names: Names, depth: int) -> str:
    name = node.id
    return _of_values(name, names.get(name), lambda index: names.before(name, index), depth) or (
        _hole(name + WHOLE_NUMBER) if names.is_whole_number(name) else _hole(name)
    )


def _of_values(name: str, values: Values, scope: Callable[[int], Names], depth: int) -> str | None:
    found = _likeliest(render(value, scope(index), depth + 1) for index, value in enumerate(values))
    if found is not None and is_hole(found) and found.endswith(AT_RUN_TIME + HOLE):
        return _hole(name + AT_RUN_TIME)
    if found is None or (is_hole(found) and (says_version(name) or not says_version(found.strip(HOLE)))):
        return None
    return found


def _attribute(node: ast.Attribute, names: Names, depth: int) -> str:
    if node.attr in {"sep", "altsep"}:
        return "/"
    found = _of_values(node.attr, attribute_values(node, names), lambda _: names, depth)
    if found is not None:
        return found
    if not _given(node.value, names):
        return _hole(node.attr)
    default = _likeliest(render(value, names, depth + 1) for value in names.module.options.get(node.attr, ()))
    return default if default is not None and not is_hole(default) else _hole(node.attr + AT_RUN_TIME)


def _subscript(node: ast.Subscript, names: Names, depth: int) -> str | None:
    key = node.slice.value if isinstance(node.slice, ast.Constant) else None
    word = key if isinstance(key, str) else ""
    found = []
    for base, scope in alternatives(node.value, names):
        found += [render(item, scope, depth + 1) for item in items_at(base, node.slice)]
    items = list_items(node.value, names) if not found and isinstance(key, int) else None
    if items is not None and isinstance(key, int) and -len(items) <= key < len(items):
        found = [_part(items[key], names, depth)]
    known = _likeliest(found)
    if known is not None:
        return known
    return (
        _hole(word + AT_RUN_TIME)
        if _given(node.value, names)
        else _hole(word)
        if word
        else render(node.value, names, depth + 1)
    )


def _given(node: ast.expr, names: Names) -> bool:
    """Whether what an attribute or an item is taken of is bound in this file: a parameter, or what a call returned."""
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "argv"}:
            return True
        node = node.value
    if isinstance(node, ast.Name):
        return names.binds(node.id) or node.id in {"environ", "argv"}
    return isinstance(node, (ast.Call, ast.Await, RunTime, InScope))


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
    name = called(node)
    arguments = arguments_of(node, names)
    if name == "int" and len(arguments) == 1:
        return _counted(_part(arguments[0], names, depth))
    if name in {"str", "repr", "quote", "Template"} and len(arguments) == 1:
        return render(arguments[0], names, depth + 1)
    if name in _LOOK_UPS and arguments and isinstance(key := arguments[0], ast.Constant) and isinstance(key.value, str):
        return _looked_up(key.value, node, arguments, names, depth)
    if name in _DEFAULTS:
        given = [k.value for k in node.keywords if k.arg in {"default", "default_var"}] or arguments[:1]
        default = render(given[0], names, depth + 1) if given else None
        return default if default is not None and default.isdigit() else _hole(AT_RUN_TIME)
    if isinstance(function, ast.Attribute):
        return _method(name, function.value, node, names, depth)
    if name in _JOINERS and arguments:
        return _joined(arguments, names, depth)
    return _returned(name, names, depth)


def _looked_up(key: str, node: ast.Call, arguments: list[ast.expr], names: Names, depth: int) -> str:
    """``x.get(key, default)``: the item of a known dict, else the default, else what is given at run time."""
    if isinstance(node.func, ast.Attribute):
        known = dict_items(node.func.value, names).get(key)
        if known is not None:
            return _part(known, names, depth)
    defaults = [*arguments[1:2], *names.module.options.get(key, ())]
    default = _likeliest(render(value, names, depth + 1) for value in defaults)
    return default if default and not is_hole(default) else _hole(key + AT_RUN_TIME)


def _returned(name: str, names: Names, depth: int) -> str | None:
    """What a function of this module returns, as far as its source says it."""
    found = []
    for function in names.module.functions.get(name, []) + names.module.methods.get(name, []):
        scope = names.inside(function)
        if isinstance(function, ast.Lambda):
            found.append(render(function.body, scope, depth + 2))
        else:
            returns = [n.value for n in ast.walk(function) if isinstance(n, ast.Return) and n.value is not None]
            found += [render(value, scope, depth + 2) for value in returns]
    known = _likeliest(found)
    return known if known is not None else _hole(name + AT_RUN_TIME)


def _method(name: str, of: ast.expr, node: ast.Call, names: Names, depth: int) -> str | None:
    arguments = arguments_of(node, names)
    pattern = render(of, names, depth + 1) if name in _FILLERS else None
    if name in {"substitute", "safe_substitute"} and pattern is not None:
        given = {k.arg: k.value for k in node.keywords if k.arg}
        for mapping in [*node.args, *(k.value for k in node.keywords if k.arg is None)]:
            given |= dict_items(mapping, names)
        return _DOLLAR.sub(lambda m: _part(given[w], names, depth) if (w := m[1] or m[2]) in given else _hole(w), pattern)
    if name in _FILLERS:
        return None if pattern is None else _format(pattern, node, arguments, names, depth)
    if name in _SAME and (not arguments or name == "zfill"):
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
        if items is not None and between is not None and not is_hole(between):
            return between.join(_part(value, names, depth) for value in items)
    return _joined(arguments, names, depth) if name in _JOINERS and arguments else _returned(name, names, depth)


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
        found = _hole(field.rpartition(".")[2])
        if value is not None:
            found = _part(_within(value, field.removeprefix(word)), names, depth)
        out.append(_counted(found) if spec and spec.endswith("d") else found)
    return "".join(out)


def _within(value: ast.expr, path: str) -> ast.expr:
    """The expression for the ``.version`` or ``[0]`` of a format field."""
    for attribute, key in _FIELD.findall(path):
        if attribute:
            value = ast.Attribute(value, attribute, ast.Load())
        else:
            value = ast.Subscript(value, ast.Constant(int(key) if key.isdigit() else key), ast.Load())
    return value


def _hole(name: str) -> str:
    return f"{HOLE}{name}{HOLE}"


def _counted(text: str) -> str:
    """The same, known to be a whole number where it is one hole."""
    if not is_hole(text) or text.endswith(AT_RUN_TIME + HOLE):
        return text
    return _hole(text.strip(HOLE).removesuffix(WHOLE_NUMBER) + WHOLE_NUMBER)


def is_hole(text: str) -> bool:
    """Whether a text is one hole and nothing else."""
    return text.startswith(HOLE) and text.endswith(HOLE) and text.count(HOLE) == 2


_RENDERED: dict[type[ast.AST], Callable[[Any, Names, int], str | None]] = {
    ast.FormattedValue: _formatted,
    ast.BinOp: _operation,
    ast.Call: _call,
    ast.Name: _named,
    ast.Attribute: _attribute,
    ast.Subscript: _subscript,
}
