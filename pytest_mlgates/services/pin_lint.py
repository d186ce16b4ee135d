"""Find version pins in consumers' code: ``models:/NAME/3``, ``get_model_version(NAME, 3)``, and what builds one.

A pinned consumer needs a code change to roll back; a stage reference (``models:/NAME/Production``) or an alias
(``models:/NAME@champion``) needs none. Python is read as a syntax tree: strings that are put together by ``+``, ``%``,
``format``, ``join`` or an f-string are put together here too, with a hole for what is not known. A hole where the version
stands is a pin when nothing in the file gives it and its name says version; what the program is given at run time (an
argument, the environment, a search in the registry) is none. Comments, docstrings, messages (``print``, logging, ``raise``)
are no consumers. A line with ``mlgates: allow-pin`` is let through.
"""

from __future__ import annotations

import ast
import dataclasses
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from pytest_mlgates.errors import UsageProblem
from pytest_mlgates.services.pin_bindings import called
from pytest_mlgates.services.pin_names import Names, of_module
from pytest_mlgates.services.pin_sql import sql_strings
from pytest_mlgates.services.pin_strings import HOLE, arguments_of, dict_items, render, says_version
from pytest_mlgates.services.pin_templates import Known, defined_in, fill_templates

SUFFIXES = (".py", ".ipynb", ".sql", ".yaml", ".yml")
ALLOW = "mlgates: allow-pin"
_FIX = "use models:/{name}/Production or models:/{name}@champion, which roll back without a code change"
_SKIPPED_FOLDERS = frozenset(
    {".git", ".venv", "venv", "node_modules", "__pycache__", ".ipynb_checkpoints", "mlruns", "mlartifacts"}
)

_ADVICE = re.compile(
    r"\b(?:never|avoid|don't|do not|must not|instead of|rather than|deprecated|no longer|such as|e\.g\.|for example)\s",
    re.IGNORECASE,
)
_COMMANDS = re.compile(r"mlflow\s+(?:models|artifacts|deployments)|\bselect\b|\s--?\w+[ =]", re.IGNORECASE)
_REST_CALL = re.compile(r"model-versions/get")
_NAME = rf"(?:[^\s'\"/\\,;()<>{HOLE}]|{HOLE}[^{HOLE}]*{HOLE})+"
_URI = re.compile(
    rf"(?<![\w-])models:/+(?P<name>(?:{_NAME}/)*?{_NAME})/(?P<version>\d+|{HOLE}[^{HOLE}]*{HOLE})"
    rf"(?=$|[\s'\"`,;:)\]}}>?#|&/\\]|\.(?:\s|$)|{HOLE})"
)
_SPACED_URI = re.compile(r"models:/+[^/:\x00\n]+ [^/:\x00\n]*/\d+/?")
_REST = re.compile(r"model-versions/get\w*\?[^\s'\"]*\bversion=\d+")
_GETTERS = frozenset({"get_model_version", "get_model_version_download_uri"})
_LOADERS = frozenset({"load_model", "get_model", "get_registered_model", "load_registered_model"})
_LOADS = re.compile(r"load|udf|model|predict|score|serve|deploy|(?:^|_)run(?:$|_)")
_STREAMS = frozenset({"sys.stderr.write", "sys.stdout.write"})
_PROSE = frozenset({"help", "description", "epilog", "doc", "reason", "message", "msg", "title", "usage"})
_FILTER = re.compile(r"\bversion(?:_number)?\s*=\s*['\"]?\d+")
_MESSAGES = frozenset({"print", "echo", "secho", "debug", "info", "warning", "warn", "error", "critical", "exception", "log"})


@dataclasses.dataclass(frozen=True, slots=True)
class Pin:
    """One version pin. ``where`` is ``file:line`` (of a notebook: the line of the file, then cell and line)."""

    path: str
    line: int
    found: str
    fix: str
    place: str = ""

    @property
    def where(self) -> str:
        """``file:line``."""
        return f"{self.path}:{self.line}" + (f" ({self.place})" if self.place else "")


def lint_paths(paths: Iterable[str | Path]) -> tuple[list[Pin], int]:
    """Lint files and folders; return the pins and the number of files read.

    Raises
    ------
    UsageProblem
        A path is not there, or a file that was named is of no known kind.
    """
    found: list[Pin] = []
    count = 0
    for path in paths:
        for file in _files(Path(path)):
            count += 1
            found += lint_text(file.read_text("utf-8", errors="replace"), file.suffix, str(file))
    return found, count


def lint_text(text: str, suffix: str, path: str = "<text>") -> list[Pin]:
    """Lint one text as a file of a kind (``.py``, ``.ipynb``, ``.sql``, ``.yaml``, ``.yml``)."""
    if suffix == ".ipynb":
        found = list(_notebook(text, path))
    elif suffix == ".py":
        found = [*_python(text, path), *_databricks_cells(text, path)]
    else:
        found = list(_plain(text, path, sql=suffix == ".sql"))
    lines = text.splitlines()
    return [pin for pin in found if not (0 < pin.line <= len(lines) and ALLOW in lines[pin.line - 1])]


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        if path.suffix not in SUFFIXES:
            raise UsageProblem(f"{path} is no file that can be linted; expected {', '.join(SUFFIXES)}")
        yield path
    elif path.is_dir():
        for file in sorted(p for p in path.rglob("*") if p.suffix in SUFFIXES and p.is_file()):
            if not _SKIPPED_FOLDERS.intersection(file.relative_to(path).parts):
                yield file
    else:
        raise UsageProblem(f"{path} is not there; name a file or a folder")


def _pinned(text: str, known: Known) -> str | None:
    """Return the pin in a text with holes, written for people; ``None`` without one."""
    if _warns(text):
        return None
    for match in _URI.finditer(fill_templates(text, known)):
        version = match["version"]
        if version.isdigit() or says_version(version.strip(HOLE)):
            return re.sub(rf"{HOLE}([^{HOLE}]*){HOLE}", r"{\1}", match[0])
    found = _SPACED_URI.fullmatch(text) or _REST.search(text)
    return found[0] if found else None


def _fix_for(found: str) -> str:
    name = found.partition(":/")[2].lstrip("/").rpartition("/")[0]
    return _FIX.format(name=name or "NAME")


def _python(text: str, path: str) -> Iterator[Pin]:
    tree = _parsed(text)
    if tree is None:  # another Python, or a template: judge its lines as text
        yield from _plain(text, path, sql=False)
        return
    yield from _judged(tree, path, of_module([tree]), text)


def _judged(tree: ast.Module, path: str, names: Names, text: str) -> Iterator[Pin]:
    visitor = _Visitor(names, path, defined_in(text) if "models:" in text else {})
    visitor.visit(tree)
    yield from visitor.pins


def _parsed(text: str) -> ast.Module | None:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return None


class _Visitor(ast.NodeVisitor):
    """Walks a tree; a string expression is judged as a whole, and its parts only when the whole is no pin."""

    def __init__(self, names: Names, path: str, known: Known) -> None:
        self._names = names
        self._path = path
        self._known = known
        self.pins: list[Pin] = []

    def visit(self, node: ast.AST) -> None:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            return  # a docstring, or a string that nobody reads
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
            around, self._names = self._names, self._names.inside(node)
            self.generic_visit(node)
            self._names = around
        elif isinstance(node, ast.Raise):
            return
        elif isinstance(node, ast.Assert):
            self.visit(node.test)
        elif isinstance(node, ast.keyword) and node.arg in _PROSE and isinstance(node.value, (ast.Constant, ast.JoinedStr)):
            return
        elif isinstance(node, ast.Call) and (called(node) in _MESSAGES or ast.unparse(node.func) in _STREAMS):
            self._visit_message(node)
        elif not (isinstance(node, ast.Call) and self._pinned_call(node)) and not self._pinned_string(node):
            self.generic_visit(node)

    def _visit_message(self, node: ast.AST) -> None:
        """What a message says is for people; what is loaded to say it is not."""
        for inner in ast.iter_child_nodes(node):
            if isinstance(inner, ast.Call) and _LOADS.search(called(inner)):
                self.visit(inner)
            else:
                self._visit_message(inner)

    def _pinned_string(self, node: ast.AST) -> bool:
        if isinstance(node, ast.AugAssign):
            node = ast.copy_location(ast.BinOp(node.target, node.op, node.value), node)
        if not isinstance(node, (ast.Constant, ast.JoinedStr, ast.BinOp, ast.Call)):
            return False
        shared = self._names.module
        if isinstance(node, ast.Call) and (called(node) in shared.functions or called(node) in shared.methods):
            return False  # what a function of this file builds is judged where it builds it
        text = render(node, self._names)
        pin = _pinned(text, self._known) if text is not None else None
        if pin is not None:
            self._add(node, pin, _fix_for(pin))
        return pin is not None

    def _pinned_call(self, node: ast.Call) -> bool:
        names, positional = self._callees(node)
        if any(_REST_CALL.search(str(a.value)) for a in node.args if isinstance(a, ast.Constant)):
            return self._pinned_request(node)
        for name in names & (_GETTERS | _LOADERS):
            given = _argument(node, "version", self._names)
            if given is None and name in _GETTERS and len(positional) > 1:
                given = positional[1]
            text = render(given, self._names) if given is not None else None
            if text is not None and text.isdigit():
                self._add(node, f"{name}(…, {text})", "use get_model_version_by_alias(NAME, 'champion') or a stage reference")
                return True
        if "search_model_versions" in names:
            for argument in [*node.args, *(k.value for k in node.keywords)]:
                text = render(argument, self._names)
                if text is not None and _FILTER.search(text):
                    self._add(node, f"search_model_versions({text!r})", "use get_model_version_by_alias(NAME, 'champion')")
                    return True
        return False

    def _callees(self, node: ast.Call) -> tuple[set[str], list[ast.expr]]:
        """Names of what is called, also through another name or ``partial``, and the positional arguments."""
        positional = arguments_of(node, self._names)
        if called(node) == "partial" and positional:
            target, positional = positional[0], positional[1:]
        else:
            target = node.func
        found = {called(ast.Call(target, [], []))}
        if isinstance(target, ast.Name):
            found |= {a.attr for value in self._names.get(target.id) for a in [value] if isinstance(a, ast.Attribute)}
        return found - {""}, positional

    def _pinned_request(self, node: ast.Call) -> bool:
        """A request to the registry's own interface for one version."""
        for keyword in node.keywords:
            version = dict_items(keyword.value, self._names).get("version")
            text = render(version, self._names) if version is not None else None
            if text is not None and text.isdigit():
                self._add(node, f"model-versions/get version={text}", "use registered-models/alias?name=NAME&alias=champion")
                return True
        return self._pinned_string(node)

    def _add(self, node: ast.AST, found: str, fix: str) -> None:
        self.pins.append(Pin(self._path, getattr(node, "lineno", 1), found, fix))


def _argument(node: ast.Call, name: str, names: Names) -> ast.expr | None:
    """A keyword argument, also one that is handed over in ``**{…}``."""
    for keyword in node.keywords:
        if keyword.arg == name:
            return keyword.value
        if keyword.arg is None and name in (items := dict_items(keyword.value, names)):
            return items[name]
    return None


def _notebook(text: str, path: str) -> Iterator[Pin]:
    try:
        cells = json.loads(text)["cells"]
        sources = [(n, c["source"]) for n, c in enumerate(cells, 1) if c.get("cell_type") == "code"]
    except (ValueError, KeyError, TypeError):
        return  # no notebook
    raw = text.splitlines()
    cells_of_python = {n: _magic_apart("".join(source)) for n, source in sources}
    trees = {n: _parsed(python) for n, (python, _) in cells_of_python.items()}
    shared = of_module(tree for tree in trees.values() if tree is not None)  # a cell sees the names of the others
    position = 0
    for number, source in sources:
        lines = source if isinstance(source, list) else source.splitlines(keepends=True)
        places = []
        for line in lines:
            wanted = json.dumps(line, ensure_ascii=False)[1:-1]
            at = next((i for i in range(position, len(raw)) if wanted in raw[i] or json.dumps(line)[1:-1] in raw[i]), position)
            position = at
            places.append(at + 1)
        python, magic = cells_of_python[number]
        tree = trees[number]
        found = list(_plain(python, path, sql=False) if tree is None else _judged(tree, path, shared, text))
        for at_line, line, sql in magic:
            found += [dataclasses.replace(pin, line=at_line + pin.line - 1) for pin in _plain(line, path, sql=sql)]
        for pin in found:
            line = places[min(pin.line, len(places)) - 1]
            yield dataclasses.replace(pin, line=line, place=f"cell {number}, line {pin.line}")


def _magic_apart(source: str) -> tuple[str, list[tuple[int, str, bool]]]:
    """The Python of a cell, and its texts in other languages: first line, text, whether it is SQL."""
    cell = _CELL_MAGIC.match(source)
    if cell is not None and cell[1] not in _PYTHON_MAGICS:
        return "", [] if cell[1] in _PROSE_MAGICS else [(1, source, cell[1] == "sql")]
    magic = []
    python = []
    for number, line in enumerate(source.splitlines(), 1):
        found = _LINE_MAGIC.match(line)
        if found is None:
            python.append(_ASSIGNED_MAGIC.sub(r"\1None", _HELP.sub("", line)))
            if python[-1] != line:
                magic.append((number, line, False))
        elif found[2] in {"time", "timeit"}:
            python.append(found[1] + _FLAGS.sub("", found[3]))
        else:
            python.append(found[1] + "pass" if found[1] else "")
            magic.append((number, line, found[2] == "sql"))
    return "\n".join(python), magic


def _databricks_cells(text: str, path: str) -> Iterator[Pin]:
    """The cells in other languages of a Databricks notebook kept as ``.py``: comments that run."""
    kind = ""
    for number, line in enumerate(text.splitlines(), 1):
        found = _MAGIC.match(line)
        if found is None:
            kind = ""
            continue
        command = _COMMAND.match(found[1])
        kind = command[1] if command else kind
        if kind and kind not in _PROSE_MAGICS:
            for pin in _plain(found[1], path, sql=kind == "sql"):
                yield dataclasses.replace(pin, line=number)


_MAGIC = re.compile(r"\s*# MAGIC ?(.*)")
_COMMAND = re.compile(r"%(\w+)")
_PROSE_MAGICS = frozenset({"md", "markdown", "html", "latex", "svg"})
_PYTHON_MAGICS = frozenset(
    {"time", "timeit", "capture", "prun", "python", "python3", "writefile", "pyspark", "spark", "ignore"}
)
_CELL_MAGIC = re.compile(r"\s*%%(\w+)")
_LINE_MAGIC = re.compile(r"^([ \t]*)(?:%%?(\w*)|!!?)(.*)$")
_ASSIGNED_MAGIC = re.compile(r"^(\s*[\w.,\s]+=\s*)(?:!|%\w).*$")
_HELP = re.compile(r"^\s*\??[\w.]*\?\??\s*$|\?\??\s*$")
_FLAGS = re.compile(r"^\s*(?:-\w+\s*\d*\s+)*")
_HASH_COMMENT = re.compile(r"(?:(?<=\s)|^)#[^\n]*", re.MULTILINE)


def _plain(text: str, path: str, *, sql: bool) -> Iterator[Pin]:
    """Judge a text without a syntax tree, line by line (SQL: statement by statement, comments taken out)."""
    text = sql_strings(text) if sql else _HASH_COMMENT.sub("", text)
    known = defined_in(text)
    for number, line in enumerate(text.splitlines(), 1):
        pin = _pinned(line, known)
        if pin is not None:
            yield Pin(path, number, pin, _fix_for(pin))


def _warns(text: str) -> bool:
    """Whether a text is a sentence that speaks of pins, such as "never write models:/NAME/3"."""
    return bool(_ADVICE.search(text)) and not _COMMANDS.search(text)
