"""Which names does a piece of Python bind, and to what? The syntax of assignments, loops and parameters."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
Binding = tuple[str, ast.expr | None]


class RunTime(ast.expr):
    """What only the running program knows."""


RUN_TIME = RunTime()


def own_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Nodes of a scope in the order of the source, without those of the scopes within it."""
    for child in ast.iter_child_nodes(tree):
        yield child
        if not isinstance(child, _SCOPES):
            yield from own_nodes(child)


def called(node: ast.Call) -> str:
    """Last word of what is called; of ``getattr(x, "name")(…)`` the name."""
    function = node.func
    if isinstance(function, ast.Attribute):
        return function.attr
    if isinstance(function, ast.Call) and called(function) == "getattr" and len(function.args) > 1:
        name = function.args[1]
        return str(name.value) if isinstance(name, ast.Constant) else ""
    return function.id if isinstance(function, ast.Name) else ""


def parameters(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> list[tuple[ast.arg, ast.expr | None]]:
    """Parameters of a function with their defaults, the positional ones first."""
    given = node.args
    plain = [*given.posonlyargs, *given.args]
    defaults: list[ast.expr | None] = [None] * (len(plain) - len(given.defaults))
    pairs = list(zip(plain, [*defaults, *given.defaults], strict=True))
    return [*pairs, *zip(given.kwonlyargs, given.kw_defaults, strict=True)]


def bound(nodes: Iterable[ast.AST]) -> Iterator[Binding]:
    """``(name, value)`` of each assignment; ``None`` for a whole number that is not known (``for i in range(…)``)."""
    for node in nodes:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                yield from _unpacked(target, node.value)
        elif isinstance(node, (ast.AnnAssign, ast.NamedExpr)) and node.value is not None:
            yield from _unpacked(node.target, node.value)
        elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            yield node.target.id, ast.BinOp(ast.Name(node.target.id, ast.Load()), node.op, node.value)
        elif isinstance(node, (ast.For, ast.AsyncFor, ast.comprehension)):
            yield from _looped(node.target, node.iter)
        elif isinstance(node, ast.withitem) and node.optional_vars is not None:
            yield from _unpacked(node.optional_vars, RUN_TIME)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            yield from _grown(node.value)


def _unpacked(target: ast.expr, value: ast.expr) -> Iterator[Binding]:
    if isinstance(target, ast.Name):
        yield target.id, value
    elif isinstance(target, (ast.Tuple, ast.List)):
        pairs = isinstance(value, (ast.Tuple, ast.List)) and len(target.elts) == len(value.elts)
        for index, one in enumerate(target.elts):
            its = value.elts[index] if pairs and isinstance(value, (ast.Tuple, ast.List)) else _item(value, index)
            yield from _unpacked(one, its)
    elif isinstance(target, ast.Starred):
        yield from _unpacked(target.value, RUN_TIME)


def _looped(target: ast.expr, over: ast.expr) -> Iterator[Binding]:
    name = called(over) if isinstance(over, ast.Call) else ""
    many = isinstance(target, (ast.Tuple, ast.List))
    if isinstance(over, (ast.Tuple, ast.List, ast.Set)):
        for value in over.elts:
            yield from _unpacked(target, value)
    elif isinstance(target, ast.Name) and name == "range":
        yield target.id, None
    elif isinstance(over, ast.Call) and isinstance(over.func, ast.Attribute) and name in {"items", "values"}:
        value = ast.Subscript(over.func.value, RUN_TIME, ast.Load())
        if name == "values":
            yield from _unpacked(target, value)
        elif isinstance(target, (ast.Tuple, ast.List)) and len(target.elts) == 2:
            yield from _unpacked(target.elts[0], RUN_TIME)
            yield from _unpacked(target.elts[1], value)
    elif isinstance(over, ast.Call) and isinstance(target, (ast.Tuple, ast.List)) and many and name in {"enumerate", "zip"}:
        sources = [RUN_TIME, *over.args[:1]] if name == "enumerate" else over.args
        for one, source in zip(target.elts, sources, strict=False):
            yield from _looped(one, source)
    else:
        yield from _unpacked(target, ast.Subscript(over, RUN_TIME, ast.Load()))


def _grown(node: ast.Call) -> Iterator[Binding]:
    """``parts.append(x)`` and ``parts.extend(xs)``: the list and one part more."""
    function = node.func
    if not (isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name) and len(node.args) == 1):
        return
    if function.attr in {"append", "extend"}:
        more = node.args[0] if function.attr == "extend" else ast.List([node.args[0]], ast.Load())
        yield function.value.id, ast.BinOp(ast.Name(function.value.id, ast.Load()), ast.Add(), more)


def _item(value: ast.expr, index: int) -> ast.expr:
    return value if value is RUN_TIME else ast.Subscript(value, ast.Constant(index), ast.Load())
