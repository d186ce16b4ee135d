"""One self-contained page: template, style sheet, content security policy; no script, no request, nothing trusted.

Names, tags and slices come from registries and tables, where anybody may have written them. Every expression of a template is
escaped (autoescape) and freed of control and direction characters (`finalize`); secrets are taken out of the whole
(`redaction`). The policy forbids scripts and requests; the only style sheet is the one whose hash it names.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_mlgates import redaction
from pytest_mlgates.errors import UsageProblem
from pytest_mlgates.report.text import number, printable

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

MOST_ROWS = 200
"""Rows of a table on a page; what is left out is said."""
_BESIDE = 14
"""Rows of tables that stand beside a picture rather than folded below it."""


@dataclasses.dataclass(frozen=True)
class Table:
    """Cells are text or `Markup` of `Source`; columns in ``words`` are aligned as text, all others as numbers."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[Any]]
    words: tuple[int, ...] = (0,)
    left_out: int = 0

    @classmethod
    def of(cls, caption: str, head: Sequence[str], rows: Sequence[Sequence[Any]], words: tuple[int, ...] = (0,)) -> Table:
        """Make a table of at most `MOST_ROWS` rows."""
        return cls(caption, head, rows[:MOST_ROWS], words, max(len(rows) - MOST_ROWS, 0))


@dataclasses.dataclass(frozen=True)
class Fact:
    """A named value of a document; ``bar`` is a small picture of it, ``tone`` a class."""

    name: str
    value: Any
    remark: Any = ""
    bar: Markup | None = None
    tone: str = ""
    link: str = ""


@dataclasses.dataclass(frozen=True)
class Block:
    """A picture with its caption and the numbers that it shows; each part may be absent."""

    title: str = ""
    picture: Markup | None = None
    words: Sequence[Any] = ()
    tables: Sequence[Table] = ()
    folded: bool = True
    """Whether the tables are folded away behind the picture."""
    wide: bool = False
    facts: Sequence[Fact] = ()
    key: Sequence[tuple[str, Any]] = ()
    """What the colours mean: ``(class, words)``."""

    @property
    def beside(self) -> bool:
        """Whether the picture leaves room for its tables beside it, where the block stands alone."""
        return self.picture is not None and not self.wide and 0 < sum(len(t.rows) for t in self.tables) <= _BESIDE


@dataclasses.dataclass(frozen=True)
class HeatMap:
    """Features by run: ``rows`` hold the strip of cells of each feature and its newest numbers."""

    title: Any
    first: Any
    last: Any
    rows: Sequence[Mapping[str, Any]]
    folded: Sequence[Mapping[str, Any]] = ()
    left_out: int = 0


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of a page under its heading; ``verdict`` is shown as a badge, ``facts`` as cards."""

    key: str
    title: str
    verdict: str = ""
    lead: Sequence[Any] = ()
    blocks: Sequence[Block] = ()
    note: Any = ""
    facts: Sequence[Fact] = ()
    maps: Sequence[HeatMap] = ()
    timeline: Sequence[Mapping[str, Any]] = ()


class Source:
    """Values of one document by path, as markup that says where each stands: ``<data value=… data-from=/results/0/estimate>``.

    A page takes its numbers from here only, so that each can be traced to the document, and none is made on the page.
    """

    def __init__(self, document: Mapping[str, Any], prefix: str = "") -> None:
        self._document = document
        self._prefix = prefix

    def value(self, *path: str | int) -> Any:
        """Return what stands at a path; ``None`` where nothing does."""
        found: Any = self._document
        for key in path:
            try:
                found = found[key]
            except (KeyError, IndexError, TypeError):
                return None
        return found

    def num(self, *path: str | int, kind: str = "", unit: str = "") -> Any:
        """A number: ``kind`` is that of `shown`, ``unit`` is written before it."""
        value = self.value(*path)
        if value is None or isinstance(value, bool) or not isinstance(value, int | float):
            return "–" if value is None else self.text(*path)
        words = shown(value, kind)
        words = f"<{unit}{words[1:]}" if words.startswith("<") else unit + words
        return self._mark("data", path, words, f' value="{value!r}"')

    def text(self, *path: str | int) -> Any:
        """Text as it stands there, freed of control characters."""
        value = self.value(*path)
        return "–" if value is None else self._mark("span", path, str(value), "")

    def time(self, *path: str | int) -> Any:
        """A moment, to the minute, in UTC; what is no moment is shown as it stands there."""
        import datetime as dt

        from markupsafe import Markup, escape

        value = self.value(*path)
        try:
            moment = dt.datetime.fromisoformat(str(value))
        except ValueError:
            return self.text(*path)
        moment = moment.replace(tzinfo=moment.tzinfo or dt.UTC).astimezone(dt.UTC)
        raw = Markup(f' datetime="{escape(printable(str(value)))}"')  # noqa: S704 escaped
        return self._mark("time", path, f"{moment:%Y-%m-%d %H:%M} UTC", raw)

    def _mark(self, tag: str, path: Sequence[str | int], words: str, more: str) -> Any:
        from markupsafe import Markup, escape

        place = self._prefix + "".join(f"/{str(p).replace('~', '~0').replace('/', '~1')}" for p in path)
        where = escape(printable(place))
        return Markup(f'<{tag}{more} data-from="{where}">{escape(printable(words))}</{tag}>')  # noqa: S704 each part is escaped


def shown(value: float, kind: str = "") -> str:
    """A number as a page shows it.

    Parameters
    ----------
    kind
        Empty, ``count``, ``percent`` (a share, shown times 100), ``ms`` (seconds, shown in ms), ``seconds`` (as seconds, minutes or
        hours), ``bytes`` (as kB, MB, GB or TB) or ``money``.
    """
    return _KINDS[kind](value)


def _seconds(value: float) -> str:
    for size, unit in ((7200.0, "h"), (120.0, "min")):
        if value >= size:
            return f"{value / (3600 if unit == 'h' else 60):,.1f} {unit}"
    return f"{number(value)} s"


def _bytes(value: float) -> str:
    for size, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:,.0f} bytes"


_LEAST_MONEY = 0.0001


def _money(value: float) -> str:
    """Hundredths; two figures of what is less than one."""
    if value == 0 or abs(value) >= 1:
        return f"{value:,.2f}"
    return f"{value:.2g}" if abs(value) >= _LEAST_MONEY else f"<{_LEAST_MONEY}"


_KINDS: dict[str, Callable[[float], str]] = {
    "": number,
    "count": lambda value: f"{value:,.0f}",
    "percent": lambda value: f"{number(100 * value)} %",
    "ms": lambda value: f"{number(1e3 * value)} ms",
    "seconds": _seconds,
    "bytes": _bytes,
    "money": _money,
}


def drawn(svg: str) -> Any:
    """Mark a picture of `report.svg`, which escapes its text itself, as safe."""
    from markupsafe import Markup

    return Markup(svg)  # noqa: S704 report.svg escapes every text


@functools.cache
def style() -> str:
    """The style sheet of all pages."""
    return resources.files("pytest_mlgates.report").joinpath("templates", "style.css").read_text("utf-8")


def policy() -> str:
    """The content security policy: nothing but the style sheet by its hash, and the empty icon."""
    digest = base64.b64encode(hashlib.sha256(style().encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"


@functools.cache
def _environment() -> Environment:
    import jinja2
    from markupsafe import Markup

    def finalize(value: Any) -> Any:
        if isinstance(value, Markup):
            return value
        return printable(value) if isinstance(value, str) else value

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pytest_mlgates.report", "templates"),
        autoescape=True,
        finalize=finalize,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(policy=policy, style=lambda: Markup(style()))  # noqa: S704 our own file
    return environment


def render(template: str, **values: Any) -> str:
    """Render a template of the package with its values escaped, and without secrets."""
    return redaction.redacted(_environment().get_template(template).render(**values))


def write(path: Path, page: str) -> Path:
    """Write a page whole or not at all and return its absolute path. Raises UsageProblem where it cannot be written."""
    path = path.resolve()
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch.write_text(page, "utf-8")
        scratch.replace(path)
    except OSError as error:
        scratch.unlink(missing_ok=True) if scratch.parent.is_dir() else None
        raise UsageProblem(f"cannot write {path}: {error.strerror or error}; choose another path") from None
    return path
