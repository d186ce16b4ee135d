"""What do the names of a Python module stand for? One scope per module, class and function, as far as the source says it."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterable, Iterator, Mapping

Values = tuple[ast.expr, ...]
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)


@dataclasses.dataclass(frozen=True)
class Names:
    """Names with everything that is assigned to them, in order.

    Attributes
    ----------
    values
        Per name its values; none for a name that is bound to what nobody can tell (a parameter, say).
    attributes
        The same for ``Class.name``, ``self.name`` and ``cls.name``.
    whole_numbers
        Names that are annotated as ``int`` or count something.
    outer
        The scope around this one.
    """

    values: Mapping[str, Values]
    attributes: Mapping[str, Values] = dataclasses.field(default_factory=dict)
    whole_numbers: frozenset[str] = frozenset()
    outer: Names | None = None

    def get(self, name: str) -> Values:
        """Everything that a name may stand for; empty for what is not known."""
        if name in self.values or self.outer is None:
            return self.values.get(name, ())
        return self.outer.get(name)

    def attribute(self, path: str) -> Values:
        """The same for ``Class.name``."""
        if path in self.attributes or self.outer is None:
            return self.attributes.get(path, ())
        return self.outer.attribute(path)

    def is_whole_number(self, name: str) -> bool:
        """Whether an unknown name surely holds a whole number."""
        if name in self.values or name in self.whole_numbers or self.outer is None:
            return name in self.whole_numbers
        return self.outer.is_whole_number(name)

    def before(self, name: str, index: int) -> Names:
        """These names as they were when value ``index`` was given to ``name``: it may build on the earlier ones only."""
        return dataclasses.replace(self, values={name: self.get(name)[:index]}, attributes={}, outer=self)


def of_module(trees: Iterable[ast.AST]) -> Names:
    """Names of a module, or of all cells of a notebook."""
    values: dict[str, Values] = {}
    attributes: dict[str, Values] = {}
    counted: set[str] = set()
    for tree in trees:
        for name, value in _bound(_own_nodes(tree)):
            _add(values, counted, name, value)
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                for path, value in _attributes(node):
                    attributes[path] = (*attributes.get(path, ()), value)
    return Names(values, attributes, frozenset(counted))


def of_scope(node: ast.AST, outer: Names) -> Names:
    """Names of a function or class within the names around it."""
    values: dict[str, Values] = {}
    counted: set[str] = set()
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
        given = node.args
        defaults: list[ast.expr | None] = [None] * (len(given.posonlyargs) + len(given.args) - len(given.defaults))
        pairs = zip([*given.posonlyargs, *given.args], [*defaults, *given.defaults], strict=True)
        for argument, default in [*pairs, *zip(given.kwonlyargs, given.kw_defaults, strict=True)]:
            values[argument.arg] = () if default is None else (default,)
            if isinstance(argument.annotation, ast.Name) and argument.annotation.id == "int":
                counted.add(argument.arg)
    for name, value in _bound(_own_nodes(node)):
        _add(values, counted, name, value)
    return Names(values, {}, frozenset(counted), outer)


def _add(values: dict[str, Values], counted: set[str], name: str, value: ast.expr | None) -> None:
    values.setdefault(name, ())
    if value is None:
        counted.add(name)
    else:
        values[name] += (value,)


def _own_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Nodes of a scope in the order of the source, without those of the scopes within it."""
    for child in ast.iter_child_nodes(tree):
        yield child
        if not isinstance(child, _SCOPES):
            yield from _own_nodes(child)


def _bound(nodes: Iterable[ast.AST]) -> Iterator[tuple[str, ast.expr | None]]:
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


def _unpacked(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, ast.expr | None]]:
    if isinstance(target, ast.Name):
        yield target.id, value
    elif (
        isinstance(target, (ast.Tuple, ast.List))
        and isinstance(value, (ast.Tuple, ast.List))
        and len(target.elts) == len(value.elts)
    ):
        for one, its in zip(target.elts, value.elts, strict=True):
            yield from _unpacked(one, its)


def _looped(target: ast.expr, over: ast.expr) -> Iterator[tuple[str, ast.expr | None]]:
    if isinstance(over, (ast.Tuple, ast.List, ast.Set)):
        for value in over.elts:
            yield from _unpacked(target, value)
    elif isinstance(target, ast.Name) and isinstance(over, ast.Call) and ast.unparse(over.func) == "range":
        yield target.id, None


def _attributes(node: ast.ClassDef) -> Iterator[tuple[str, ast.expr]]:
    for name, value in _bound(_own_nodes(node)):
        if value is not None:
            for owner in (node.name, "self", "cls"):
                yield f"{owner}.{name}", value
    for inner in ast.walk(node):
        if isinstance(inner, ast.Assign):
            for target in inner.targets:
                if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id == "self":
                    yield f"self.{target.attr}", inner.value
