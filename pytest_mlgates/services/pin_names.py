"""What do the names of a Python module stand for? One scope per module, class and function, as far as the source says it.

A name is *known* (its values are in the source), *given at run time* (a command-line argument, the environment, the registry,
whatever a call returns), or *unknown* (nothing in the file binds it, or it is the bare parameter of a function).
A parameter stands for what the calls in the same file hand over.
"""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterable, Iterator

from pytest_mlgates.services.pin_bindings import RUN_TIME, bound, called, own_nodes, parameters

Values = tuple[ast.expr, ...]
Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
_COMMANDS = frozenset(
    {"command", "group", "option", "argument", "callback", "route", "get", "post", "put", "patch", "api_route"}
)
_OPTIONS = frozenset({"add_argument", "option", "argument", "text", "dropdown"})
_WIDGETS = frozenset({"text", "dropdown"})  # of a Databricks notebook: name, then default
_CALLABLES = frozenset({"python_callable", "target", "func"})
_DEPTH = 8


class InScope(ast.expr):
    """An expression together with the names of the scope that it stands in."""

    def __init__(self, expression: ast.expr, names: Names) -> None:
        super().__init__()
        self.expression = expression
        self.names = names


@dataclasses.dataclass(frozen=True)
class Module:
    """What the scopes of one module share: functions, classes and command-line options by name, scopes by their node."""

    functions: dict[str, list[Function]] = dataclasses.field(default_factory=dict)
    methods: dict[str, list[Function]] = dataclasses.field(default_factory=dict)
    classes: dict[str, ast.ClassDef] = dataclasses.field(default_factory=dict)
    options: dict[str, Values] = dataclasses.field(default_factory=dict)
    scopes: dict[ast.AST, Names] = dataclasses.field(default_factory=dict)


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
    module
        What all scopes share.
    """

    values: dict[str, Values] = dataclasses.field(default_factory=dict)
    attributes: dict[str, Values] = dataclasses.field(default_factory=dict)
    whole_numbers: set[str] = dataclasses.field(default_factory=set)
    outer: Names | None = None
    module: Module = dataclasses.field(default_factory=Module)

    def get(self, name: str) -> Values:
        """Everything that a name may stand for; empty for what is not known."""
        if name in self.values or self.outer is None:
            return self.values.get(name, ())
        return self.outer.get(name)

    def binds(self, name: str) -> bool:
        """Whether the file binds the name, be it to what nobody can tell; not so for an import."""
        return name in self.values or (self.outer is not None and self.outer.binds(name))

    def attribute(self, path: str) -> Values:
        """The same as `get` for ``Class.name``."""
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
        return Names({name: self.get(name)[:index]}, {}, set(), self, self.module)

    def inside(self, node: ast.AST) -> Names:
        """Names of a function or class of this module."""
        return self.module.scopes.get(node, self)


def of_module(trees: Iterable[ast.AST]) -> Names:
    """Names of a module, or of all cells of a notebook."""
    root = Names()
    calls: list[tuple[ast.Call, Names]] = []
    listed = list(trees)
    for tree in listed:
        for node in ast.walk(tree):
            _index(node, root)
    for tree in listed:
        _read(tree, root, calls)
    for call, names in calls:
        _hand_over(call, names)
    return root


def alternatives(node: ast.expr, names: Names, depth: int = 0) -> list[tuple[ast.expr, Names]]:
    """Follow names, look-ups and choices to the expressions that a node may stand for, each with its scope."""
    if depth > _DEPTH:
        return []
    found: list[tuple[ast.expr, Names]] = []
    if isinstance(node, InScope):
        return alternatives(node.expression, node.names, depth + 1)
    if isinstance(node, ast.Name):
        for index, value in enumerate(names.get(node.id)):
            found += alternatives(value, names.before(node.id, index), depth + 1)
        return found
    if isinstance(node, ast.Subscript):
        for base, scope in alternatives(node.value, names, depth + 1):
            for item in items_at(base, node.slice):
                found += alternatives(item, scope, depth + 1)
        return found
    if isinstance(node, ast.Attribute):
        for value in attribute_values(node, names):
            found += alternatives(value, names, depth + 1)
        return found
    if isinstance(node, (ast.IfExp, ast.BoolOp)):
        for value in (node.body, node.orelse) if isinstance(node, ast.IfExp) else node.values:
            found += alternatives(value, names, depth + 1)
        return found
    return [(node, names)]


def items_at(display: ast.expr, key: ast.expr) -> list[ast.expr]:
    """The items of a dict, list or tuple display at a key; all of them for a key that is not known."""
    constant = key.value if isinstance(key, ast.Constant) else None
    if isinstance(key, ast.UnaryOp) and isinstance(key.op, ast.USub) and isinstance(key.operand, ast.Constant):
        constant = -key.operand.value if isinstance(key.operand.value, int) else None
    if isinstance(display, ast.Dict):
        pairs = list(zip(display.keys, display.values, strict=True))
        if constant is None:
            return [value for _, value in pairs]
        return [value for k, value in pairs if isinstance(k, ast.Constant) and k.value == constant]
    if isinstance(display, (ast.List, ast.Tuple, ast.Set)):
        if constant is None:
            return list(display.elts)
        if isinstance(constant, int) and -len(display.elts) <= constant < len(display.elts):
            return [display.elts[constant]]
    return []


def attribute_values(node: ast.Attribute, names: Names) -> Values:
    """What ``Class.name``, ``self.name``, ``instance.name`` and ``Class(name=…).name`` may stand for."""
    if node.attr == "value" and isinstance(node.value, ast.Attribute):  # of an Enum
        return attribute_values(node.value, names)
    if isinstance(node.value, ast.Name):
        found = names.attribute(f"{node.value.id}.{node.attr}")
        if found:
            return found
    found = ()
    for base, scope in alternatives(node.value, names, 4):
        if isinstance(base, ast.Call):
            found += tuple(InScope(k.value, scope) for k in base.keywords if k.arg == node.attr)
            found += names.attribute(f"{called(base)}.{node.attr}") if not found else ()
    return found


def _index(node: ast.AST, root: Names) -> None:
    """Functions, classes and command-line options by their names."""
    module = root.module
    if isinstance(node, ast.ClassDef):
        module.classes[node.name] = node
        for inner in node.body:
            if isinstance(inner, (ast.FunctionDef, ast.AsyncFunctionDef)):
                module.methods.setdefault(inner.name, []).append(inner)
    elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        module.functions.setdefault(node.name, []).append(node)
    elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda):
        for target in node.targets:
            if isinstance(target, ast.Name):
                module.functions.setdefault(target.id, []).append(node.value)
    elif isinstance(node, ast.Call) and called(node) in _OPTIONS:
        default = next((k.value for k in node.keywords if k.arg in {"default", "defaultValue"}), None)
        words = node.args[:1] if called(node) in _WIDGETS else node.args
        flags = [a.value for a in words if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        if called(node) in _WIDGETS and len(node.args) > 1:
            default = node.args[1]
        if default is not None and flags:
            name = max(flags, key=len).lstrip("-").replace("-", "_")
            module.options[name] = (*module.options.get(name, ()), InScope(default, root))


def _read(node: ast.AST, names: Names, calls: list[tuple[ast.Call, Names]]) -> None:
    """Fill a scope from its own nodes, and every scope within it."""
    own = list(own_nodes(node))
    for name, value in bound(own):
        names.values.setdefault(name, ())
        if value is None:
            names.whole_numbers.add(name)
        else:
            names.values[name] += (value,)
    for inner in own:
        if isinstance(inner, ast.Call):
            calls.append((inner, names))
        elif isinstance(inner, _SCOPES):
            scope = Names({}, {}, set(), names, names.module)
            names.module.scopes[inner] = scope
            if not isinstance(inner, ast.ClassDef):
                _take_parameters(inner, scope)
            _read(inner, scope, calls)
            if isinstance(inner, ast.ClassDef):
                _keep_attributes(inner, scope)


def _take_parameters(node: Function, names: Names) -> None:
    decorators = [] if isinstance(node, ast.Lambda) else node.decorator_list
    words = {called(d) if isinstance(d, ast.Call) else d.attr if isinstance(d, ast.Attribute) else "" for d in decorators}
    for argument, default in parameters(node):
        name = argument.arg
        names.values[name] = () if default is None else (default,)
        if words & _COMMANDS:
            names.values[name] += (RUN_TIME, *names.module.options.get(name, ()))
        if isinstance(argument.annotation, ast.Name) and argument.annotation.id == "int":
            names.whole_numbers.add(name)


def _keep_attributes(node: ast.ClassDef, names: Names) -> None:
    """Remember ``Class.name`` and what ``self.name`` is set to, for the whole module."""
    root = names
    while root.outer is not None:
        root = root.outer

    def keep(name: str, value: ast.expr, scope: Names) -> None:
        for owner in (node.name, "self", "cls"):
            path = f"{owner}.{name}"
            root.attributes[path] = (*root.attributes.get(path, ()), InScope(value, scope))

    for name, values in names.values.items():
        for value in values:
            keep(name, value, names)
    for method in node.body:
        scope = names.module.scopes.get(method, names)
        for inner in ast.walk(method):
            if isinstance(inner, ast.Assign):
                for target in inner.targets:
                    if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id == "self":
                        keep(target.attr, inner.value, scope)


def _hand_over(call: ast.Call, names: Names) -> None:
    """Give the parameters of a function of this module what a call of it hands over."""
    positional, named = list(call.args), {k.arg: k.value for k in call.keywords if k.arg}
    name = called(call)
    if name == "partial" and positional:
        name, positional = _name_of(positional[0]), positional[1:]
    for word in _CALLABLES & named.keys():  # an operator, a thread: a function and what it will be called with
        name, positional = _name_of(named[word]), []
        given = named.get("op_kwargs") or named.get("kwargs")
        if isinstance(given, ast.Dict):
            pairs = zip(given.keys, given.values, strict=True)
            named = {k.value: v for k, v in pairs if isinstance(k, ast.Constant) and isinstance(k.value, str)}
        break
    for function, skipped in _functions(name, names.module, method=isinstance(call.func, ast.Attribute)):
        scope = names.module.scopes.get(function)
        takes = [argument.arg for argument, _ in parameters(function)]
        if scope is None:
            continue
        plain = iter(takes[skipped : len(takes)])
        for value in positional:
            parameter = next(plain, None)
            if parameter is None or isinstance(value, ast.Starred):
                break
            scope.values[parameter] += (InScope(value, names),)
        for word, value in named.items():
            if word in takes:
                scope.values[word] += (InScope(value, names),)


def _functions(name: str, module: Module, *, method: bool) -> Iterator[tuple[Function, int]]:
    """The functions that a call by this name may mean, with the number of parameters that it does not fill (``self``)."""
    if name in module.classes:
        for inner in module.classes[name].body:
            if isinstance(inner, ast.FunctionDef) and inner.name == "__init__":
                yield inner, 1
    elif method and name in module.methods:
        for function in module.methods[name]:
            first = next((argument.arg for argument, _ in parameters(function)), "")
            yield function, 1 if first in {"self", "cls"} else 0
    else:
        for function in module.functions.get(name, []):
            yield function, 0


def _name_of(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
