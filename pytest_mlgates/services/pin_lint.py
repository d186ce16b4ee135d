"""Find version pins in consumers' code: ``models:/NAME/3``, ``get_model_version(NAME, 3)``, and what builds one.

A pinned consumer needs a code change to roll back; a stage reference (``models:/NAME/Production``) or an alias
(``models:/NAME@champion``) needs none. Python is read as a syntax tree: strings that are put together by ``+``, ``%``,
``format``, ``join`` or an f-string are put together here too, with a hole for what is not known. A hole where the version
stands is a pin when its name says version. Comments, docstrings, messages (``print``, logging, ``raise``) are no consumers.
A line with ``mlgates: allow-pin`` is let through.
"""

from __future__ import annotations

import ast
import dataclasses
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from pytest_mlgates.errors import UsageProblem
from pytest_mlgates.services.pin_strings import HOLE, Constants, render, template_holes

SUFFIXES = (".py", ".ipynb", ".sql", ".yaml", ".yml")
ALLOW = "mlgates: allow-pin"
_FIX = "use models:/{name}/Production or models:/{name}@champion, which roll back without a code change"
_SKIPPED_FOLDERS = frozenset(
    {".git", ".venv", "venv", "node_modules", "__pycache__", ".ipynb_checkpoints", "mlruns", "mlartifacts"}
)

_NAME = rf"(?:[^\s'\"/\\,;()<>{HOLE}]|{HOLE}[^{HOLE}]*{HOLE})+"
_URI = re.compile(
    rf"(?<![\w-])models:/+(?P<name>(?:{_NAME}/)*?{_NAME})/(?P<version>\d+|{HOLE}[^{HOLE}]*{HOLE})"
    rf"(?=$|[\s'\"`,;:)\]>?#|&/\\]|\.(?:\s|$)|{HOLE})"
)
_VERSION_WORD = re.compile(r"(?:^|_)(?:v|ver|vers|version)s?(?:_?(?:id|no|num|nr|number|str|int|\d))*$")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_GETTERS = frozenset({"get_model_version", "get_model_version_download_uri"})
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
        found = list(_python(text, path))
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


def _pinned(text: str) -> str | None:
    """Return the pin in a text with holes, written for people; ``None`` without one."""
    for match in _URI.finditer(template_holes(text)):
        version = match["version"]
        if version.isdigit() or says_version(version.strip(HOLE)):
            return re.sub(rf"{HOLE}([^{HOLE}]*){HOLE}", r"{\1}", match[0])
    return None


def says_version(name: str) -> bool:
    """Whether a variable's name says that it holds a version number."""
    words = _CAMEL.sub("_", name).lower()
    return bool(_VERSION_WORD.search(words))


def _fix_for(found: str) -> str:
    name = found.partition(":/")[2].lstrip("/").rpartition("/")[0]
    return _FIX.format(name=name or "NAME")


def _python(text: str, path: str) -> Iterator[Pin]:
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):  # another Python, or a template: judge its lines as text
        yield from _plain(text, path, sql=False)
        return
    visitor = _Visitor(Constants.of(tree), path)
    visitor.visit(tree)
    yield from visitor.pins


class _Visitor(ast.NodeVisitor):
    """Walks a tree; a string expression is judged as a whole, and its parts only when the whole is no pin."""

    def __init__(self, constants: Constants, path: str) -> None:
        self._constants = constants
        self._path = path
        self.pins: list[Pin] = []

    def visit(self, node: ast.AST) -> None:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            return  # a docstring, or a string that nobody reads
        if isinstance(node, ast.Raise) or (isinstance(node, ast.Call) and _called(node) in _MESSAGES):
            return
        if isinstance(node, ast.Call) and self._pinned_call(node):
            return
        if isinstance(node, (ast.Constant, ast.JoinedStr, ast.BinOp, ast.Call)):
            text = render(node, self._constants)
            pin = _pinned(text) if text is not None else None
            if pin is not None:
                self._add(node, pin, _fix_for(pin))
                return
        self.generic_visit(node)

    def _pinned_call(self, node: ast.Call) -> bool:
        name = _called(node)
        given = next((k.value for k in node.keywords if k.arg == "version"), node.args[1] if len(node.args) > 1 else None)
        if name in _GETTERS and given is not None:
            text = render(given, self._constants)
            if text is not None and text.isdigit():
                self._add(node, f"{name}(…, {text})", "use get_model_version_by_alias(NAME, 'champion') or a stage reference")
                return True
        if name == "search_model_versions":
            for argument in [*node.args, *(k.value for k in node.keywords)]:
                text = render(argument, self._constants)
                if text is not None and _FILTER.search(text):
                    self._add(node, f"search_model_versions({text!r})", "use get_model_version_by_alias(NAME, 'champion')")
                    return True
        return False

    def _add(self, node: ast.AST, found: str, fix: str) -> None:
        self.pins.append(Pin(self._path, getattr(node, "lineno", 1), found, fix))


def _called(node: ast.Call) -> str:
    function = node.func
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _notebook(text: str, path: str) -> Iterator[Pin]:
    try:
        cells = json.loads(text)["cells"]
        sources = [(n, c["source"]) for n, c in enumerate(cells, 1) if c.get("cell_type") == "code"]
    except (ValueError, KeyError, TypeError):
        return  # no notebook
    raw = text.splitlines()
    position = 0
    for number, source in sources:
        lines = source if isinstance(source, list) else source.splitlines(keepends=True)
        places = []
        for line in lines:
            wanted = json.dumps(line, ensure_ascii=False)[1:-1]
            at = next((i for i in range(position, len(raw)) if wanted in raw[i] or json.dumps(line)[1:-1] in raw[i]), position)
            position = at
            places.append(at + 1)
        for pin in _cell("".join(lines), path):
            line = places[min(pin.line, len(places)) - 1]
            yield dataclasses.replace(pin, line=line, place=f"cell {number}, line {pin.line}")


def _cell(source: str, path: str) -> Iterator[Pin]:
    first = source.lstrip().splitlines()[:1]
    if first and first[0].startswith("%%"):
        kind = first[0][2:].split()[:1]
        yield from _plain(source, path, sql=kind == ["sql"])
        return
    lines = source.splitlines()
    magic = [line.lstrip().startswith(("%", "!")) for line in lines]
    yield from _python("\n".join("" if m else line for m, line in zip(magic, lines, strict=True)), path)
    for number, line in enumerate(lines, 1):
        if magic[number - 1]:
            for pin in _plain(line, path, sql=False):
                yield dataclasses.replace(pin, line=number)


_SQL_COMMENT = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|(--[^\n]*|/\*.*?\*/)", re.DOTALL)
_HASH_COMMENT = re.compile(r"(?:(?<=\s)|^)#[^\n]*", re.MULTILINE)
_SQL_TERM = r"(?:'(?:[^']|'')*'|cast\s*\([^()]*\)|[:@$]?[\w.]+)"
_SQL_CHAIN = re.compile(rf"{_SQL_TERM}(?:\s*\|\|\s*{_SQL_TERM})+", re.IGNORECASE)
_SQL_CONCAT = re.compile(rf"concat(_ws)?\s*\(\s*({_SQL_TERM}(?:\s*,\s*{_SQL_TERM})*)\s*\)", re.IGNORECASE)
_SQL_ONE = re.compile(_SQL_TERM, re.IGNORECASE)


def _plain(text: str, path: str, *, sql: bool) -> Iterator[Pin]:
    """Judge a text without a syntax tree, line by line (SQL: statement by statement, comments taken out)."""
    if sql:
        text = _SQL_COMMENT.sub(lambda m: _blank(m[0]) if m[1] else m[0], text)
        text = _sql_joined(text)
    else:
        text = _HASH_COMMENT.sub("", text)
    for number, line in enumerate(text.splitlines(), 1):
        pin = _pinned(line)
        if pin is not None:
            yield Pin(path, number, pin, _fix_for(pin))


def _sql_joined(text: str) -> str:
    """Put ``'a' || b || 'c'``, ``concat('a', b)`` and ``concat_ws('/', 'a', b)`` together, with holes for what is not known."""
    text = _SQL_CHAIN.sub(lambda m: _quoted("".join(map(_sql_value, _SQL_ONE.findall(m[0]))), m[0]), text)

    def concat(match: re.Match[str]) -> str:
        values = [_sql_value(term) for term in _SQL_ONE.findall(match[2])]
        return _quoted(values[0].join(values[1:]) if match[1] else "".join(values), match[0])

    return _SQL_CONCAT.sub(concat, text)


def _sql_value(term: str) -> str:
    if term.startswith("'"):
        return term[1:-1].replace("''", "'")
    word = re.sub(r"(?i)^cast\s*\(\s*([\w.:@$]+).*", r"\1", term, flags=re.DOTALL).rpartition(".")[2].lstrip(":@$")
    return word if word.isdigit() else f"{HOLE}{word}{HOLE}"


def _quoted(value: str, original: str) -> str:
    """One SQL string in place of an expression; the line breaks that it spanned come after it."""
    return f"'{value}'" + _blank(original)


def _blank(text: str) -> str:
    return "\n" * text.count("\n")
