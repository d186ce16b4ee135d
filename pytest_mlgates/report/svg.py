"""Pictures as inline SVG: small pure functions, numbers in, text out.

Colours are classes of the page's own style sheet, so that a picture follows light, dark and print. Each picture has a title and
a description for those who do not see it; the numbers stand beside it in a table. Text is escaped here and nowhere else.
"""

from __future__ import annotations

import dataclasses
import html
import itertools
import math
from collections.abc import Iterable, Sequence

from pytest_mlgates.report.text import clipped, compact, printable

WIDTH = 400
_LEFT, _RIGHT = 44, 10


@dataclasses.dataclass(frozen=True, slots=True)
class Interval:
    """A labelled value with its bounds; ``tone`` is a class: ``good``, ``bad``, ``open``, ``muted``."""

    label: str
    value: float | None
    low: float | None
    high: float | None
    tone: str = "muted"


@dataclasses.dataclass(frozen=True, slots=True)
class Mark:
    """A limit that is drawn across a picture."""

    label: str
    value: float


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """A polyline; points are (x, y)."""

    label: str
    points: Sequence[tuple[float, float]]
    tone: str = "good"


@dataclasses.dataclass(frozen=True, slots=True)
class Axis:
    """Range of one axis in data units."""

    low: float
    high: float
    label: str = ""
    log: bool = False

    @classmethod
    def around(cls, values: Iterable[float | None], label: str = "", *, margin: float = 0.06) -> Axis:
        """Return an axis that holds every finite value with some air."""
        known = [float(v) for v in values if v is not None and math.isfinite(v)]
        low, high = (min(known), max(known)) if known else (0.0, 1.0)
        air = (high - low) * margin or abs(high) * 0.1 or 1.0
        return cls(low - air, high + air, label)

    def place(self, value: float, begin: float, end: float) -> float:
        """Map a value to pixels, clipped to the axis."""
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log(max(low, 1e-12)), math.log(max(high, 1e-12)), math.log(max(value, 1e-12))
        share = (value - low) / (high - low) if high > low else 0.5
        return round(begin + min(max(share, 0.0), 1.0) * (end - begin), 1)

    def ticks(self, most: int = 5) -> list[float]:
        """Return round places on the axis: 1, 2 or 5 times a power of ten; on a logarithmic one powers of ten and their like."""
        if self.log:
            decades = range(math.floor(math.log10(max(self.low, 1e-12))), math.ceil(math.log10(max(self.high, 1e-12))) + 1)
            found = [m * 10.0**d for d in decades for m in (1, 2, 5) if self.low <= m * 10.0**d <= self.high]
            return (
                found if len(found) <= most else [v for v in found if f"{v:e}"[0] == "1"][:most] or found[:: len(found) // most]
            )
        span = self.high - self.low
        if not math.isfinite(span) or span <= 0:
            return [self.low]
        rough = span / most
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough)
        first = math.ceil(self.low / step)
        return [round(step * (first + i), 12) for i in range(most + 2) if step * (first + i) <= self.high + step * 1e-9]


def _safe(words: str) -> str:
    return html.escape(printable(words))


def text(x: float, y: float, words: str, *, at: str = "start", tone: str = "") -> str:
    """One line of text, escaped."""
    anchor = f' text-anchor="{at}"' if at != "start" else ""
    kind = f' class="{tone}"' if tone else ""
    return f'<text x="{x:g}" y="{y:g}"{anchor}{kind}>{_safe(words)}</text>'


def picture(body: Iterable[str], *, title: str, about: str, height: float, key: str) -> str:
    """Wrap shapes into an image with a title and a description; ``key`` makes the identifiers unique on the page."""
    name = html.escape(f"svg-{key}", quote=True)
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-labelledby="{name}-t {name}-d">'
        f'<title id="{name}-t">{_safe(title)}</title><desc id="{name}-d">{_safe(about)}</desc>{"".join(body)}</svg>'
    )


def _x_axis(axis: Axis, y: float, top: float, left: float = _LEFT, right: float = WIDTH - _RIGHT) -> Iterable[str]:
    taken = -1e9
    for tick in axis.ticks():
        x = axis.place(tick, left, right)
        yield f'<path class="grid" d="M{x:g} {top:g}V{y:g}"/>'
        if x - taken >= 44:
            taken = x
            yield text(x, y + 14, compact(tick), at="middle", tone="tick")
    if axis.label:
        yield text((left + right) / 2, y + 29, axis.label, at="middle", tone="tick")


def _y_axis(axis: Axis, top: float, bottom: float, left: float = _LEFT, right: float = WIDTH - _RIGHT) -> Iterable[str]:
    for tick in axis.ticks(4):
        y = axis.place(tick, bottom, top)
        yield f'<path class="grid" d="M{left:g} {y:g}H{right:g}"/>'
        yield text(left - 4, y + 4, compact(tick), at="end", tone="tick")
    if axis.label:
        yield text(2, top - 6, axis.label, tone="tick")


def intervals(rows: Sequence[Interval], marks: Sequence[Mark], *, title: str, about: str, key: str, unit: str = "") -> str:
    """Values with their bounds, one below the other, each under its label, and limits across them."""
    ends = [v for r in rows for v in (r.value, r.low, r.high)] + [m.value for m in marks]
    axis = Axis.around(ends, unit)
    left, right, top = 10.0, float(WIDTH - _RIGHT), 20.0 if marks else 6.0
    bottom = top + 30 * len(rows) + 4
    out = list(_x_axis(axis, bottom, top, left, right))
    for mark in marks:
        x = axis.place(mark.value, left, right)
        out.append(f'<path class="limit" d="M{x:g} {top:g}V{bottom:g}"/>')
        side = "end" if x > WIDTH / 2 else "start"
        out.append(text(x + (3 if side == "start" else -3), top - 6, clipped(mark.label, 44), at=side, tone="limit-text"))
    for index, row in enumerate(rows):
        y = top + 30 * index + 22
        out.append(text(left, y - 9, clipped(row.label, 52)))
        out += _whisker(row, axis, y, left, right)
    return picture(out, title=title, about=about, height=bottom + (34 if unit else 20), key=key)


def _whisker(row: Interval, axis: Axis, y: float, left: float, right: float) -> Iterable[str]:
    if row.low is not None and row.high is not None:
        a, b = axis.place(row.low, left, right), axis.place(row.high, left, right)
        yield f'<path class="bar {row.tone}" d="M{a:g} {y:g}H{b:g}M{a:g} {y - 4:g}v8M{b:g} {y - 4:g}v8"/>'
    if row.value is not None:
        yield f'<circle class="dot {row.tone}" cx="{axis.place(row.value, left, right):g}" cy="{y:g}" r="4"/>'


def lines(
    series: Sequence[Line],
    x: Axis,
    y: Axis,
    *,
    title: str,
    about: str,
    key: str,
    marks: Sequence[Mark] = (),
    height: float = 220,
) -> str:
    """Polylines over two axes, with a legend above; marks lie across the y axis."""
    top, bottom = 44.0, height
    out = [*_x_axis(x, bottom, top), *_y_axis(y, top, bottom), *_legend([(s.label, s.tone) for s in series])]
    out += _across(marks, y, top, bottom)
    for one in series:
        points = " ".join(f"{x.place(a, _LEFT, WIDTH - _RIGHT):g},{y.place(b, bottom, top):g}" for a, b in one.points)
        if len(one.points) == 1:
            a, b = points.split(",")
            out.append(f'<circle class="dot {one.tone}" cx="{a}" cy="{b}" r="3"/>')
        else:
            out.append(f'<polyline class="line {one.tone}" points="{points}"/>')
    return picture(out, title=title, about=about, height=bottom + (34 if x.label else 20), key=key)


def _across(marks: Sequence[Mark], y: Axis, top: float, bottom: float) -> Iterable[str]:
    for mark in marks:
        at = y.place(mark.value, bottom, top)
        yield f'<path class="limit" d="M{_LEFT} {at:g}H{WIDTH - _RIGHT}"/>'
        yield text(WIDTH - _RIGHT, at - 4, clipped(mark.label, 40), at="end", tone="limit-text")


def _legend(entries: Sequence[tuple[str, str]]) -> Iterable[str]:
    x = float(_LEFT)
    for label, tone in entries:
        words = clipped(label, 24)
        yield f'<path class="line {tone}" d="M{x:g} 14h18"/>'
        yield text(x + 22, 18, words)
        x += 34 + 6.6 * len(words)


def histogram(
    edges: Sequence[float], counts: Sequence[int], mark: Mark | None, *, title: str, about: str, key: str, unit: str
) -> str:
    """Bars over a logarithmic axis, with a limit; the bars beyond it stand out."""
    high = max([edges[-1], *([mark.value * 1.1] if mark else [])])
    axis = Axis(edges[0], high, unit, log=True)
    top, bottom = 30.0, 170.0
    most = max(max(counts, default=0), 1)
    out = list(_x_axis(axis, bottom, top, 10))
    for (low, up), count in zip(itertools.pairwise(edges), counts, strict=True):
        if count:
            a, b = axis.place(low, 10, WIDTH - _RIGHT), axis.place(up, 10, WIDTH - _RIGHT)
            tall = round(max(count / most * (bottom - top), 1.0), 1)
            tone = "bad" if mark is not None and low >= mark.value else "good"
            out.append(
                f'<rect class="fill {tone}" x="{a:g}" y="{bottom - tall:g}" width="{max(b - a - 1, 1):g}" height="{tall:g}"/>'
            )
    if mark is not None:
        x = axis.place(mark.value, 10, WIDTH - _RIGHT)
        out.append(f'<path class="limit" d="M{x:g} {top - 8:g}V{bottom:g}"/>')
        side = "end" if x > WIDTH / 2 else "start"
        out.append(text(x + (3 if side == "start" else -3), top - 12, mark.label, at=side, tone="limit-text"))
    return picture(out, title=title, about=about, height=bottom + 34, key=key)


def reliability(points: Sequence[tuple[float, float, float, int]], *, title: str, about: str, key: str, unit: str) -> str:
    """Predicted against observed with bars of uncertainty, the diagonal, and the rows of each bin beneath.

    Parameters
    ----------
    points
        ``(predicted, observed, half width, rows)`` of each bin.
    """
    ends = [v for p, o, h, _ in points for v in (p, o - h, o + h)]
    axis = Axis.around(ends, margin=0.03)
    top, bottom, floor = 22.0, 230.0, 290.0
    y = Axis(axis.low, axis.high, "observed")
    x = Axis(axis.low, axis.high, unit)
    out = [*_x_axis(x, floor, top), *_y_axis(y, top, bottom)]
    out.append(f'<path class="limit" d="M{_LEFT} {bottom:g}L{WIDTH - _RIGHT} {top:g}"/>')
    most = max((n for *_, n in points), default=1)
    for predicted, observed, half, n in points:
        at = axis.place(predicted, _LEFT, WIDTH - _RIGHT)
        low, high = (axis.place(v, bottom, top) for v in (observed - half, observed + half))
        out.append(f'<path class="bar good" d="M{at:g} {low:g}V{high:g}"/>')
        out.append(f'<circle class="dot good" cx="{at:g}" cy="{axis.place(observed, bottom, top):g}" r="3.5"/>')
        tall = round(max(n / max(most, 1) * 44, 1.0), 1)
        out.append(f'<rect class="fill muted" x="{at - 4:g}" y="{floor - tall:g}" width="8" height="{tall:g}"/>')
    out.append(text(_LEFT - 4, floor - 30, "rows", at="end", tone="tick"))
    return picture(out, title=title, about=about, height=floor + 34, key=key)


def bands(
    series: Sequence[tuple[str, Sequence[tuple[float, float, float, float]], str]],
    *,
    title: str,
    about: str,
    key: str,
    unit: str,
) -> str:
    """A band with its middle line per series, over a common axis; points are ``(x, low, middle, high)``."""
    points = [p for _, some, _ in series for p in some]
    x = Axis.around([p[0] for p in points], unit)
    y = Axis.around([v for p in points for v in p[1:]] + [0.0])
    top, bottom = 44.0, 220.0
    out = [*_x_axis(x, bottom, top), *_y_axis(y, top, bottom), *_legend([(label, tone) for label, _, tone in series])]
    zero = y.place(0.0, bottom, top)
    out.append(f'<path class="limit" d="M{_LEFT} {zero:g}H{WIDTH - _RIGHT}"/>')
    for _, some, tone in series:
        at = [(x.place(p[0], _LEFT, WIDTH - _RIGHT), *(y.place(v, bottom, top) for v in p[1:])) for p in some]
        around = [f"{a:g},{low:g}" for a, low, _, _ in at] + [f"{a:g},{high:g}" for a, _, _, high in reversed(at)]
        out.append(f'<polygon class="area {tone}" points="{" ".join(around)}"/>')
        out.append(f'<polyline class="line {tone}" points="{" ".join(f"{a:g},{m:g}" for a, _, m, _ in at)}"/>')
    return picture(out, title=title, about=about, height=bottom + 34, key=key)


def heat_map(
    columns: int, rows: Sequence[tuple[str, Sequence[int]]], tones: Sequence[str], *, title: str, about: str, key: str
) -> str:
    """Cells by row and column, each of a tone; one path per tone, so that 18,000 cells weigh little.

    Parameters
    ----------
    columns
        Number of cells in a row.
    rows
        ``(label, tone of each cell)``; -1 draws nothing. A row's runs of one tone are drawn as one stroke.
    tones
        Classes of the style sheet, by number.
    """
    tall, wide = 12, max((WIDTH - 110) / max(columns, 1), 0.1)
    strokes: list[list[str]] = [[] for _ in tones]
    out = []
    for index, (label, cells) in enumerate(rows):
        begin = 0
        for tone, group in itertools.groupby(cells):
            length = len(list(group))
            if tone >= 0:
                strokes[tone].append(f"M{begin} {index}h{length}")
            begin += length
        out.append(text(104, index * tall + 9.5, clipped(label, 17), at="end", tone="tick"))
    for kind, some in zip(tones, strokes, strict=True):
        if some:
            shape = f"translate(110 {tall / 2 - 0.5:g}) scale({wide:.6g} {tall})"
            out.append(f'<path class="cell {kind}" transform="{shape}" d="{"".join(some)}"/>')
    return picture(out, title=title, about=about, height=tall * len(rows) + 4, key=key)


def treemap(tiles: Sequence[tuple[str, float, str]], *, title: str, about: str, key: str, height: float = 200) -> str:
    """Rectangles whose areas are as the values, largest first, cut alternately along and across (slice and dice by halves)."""
    out: list[str] = []
    some = sorted(((label, max(value, 0.0), tone) for label, value, tone in tiles), key=lambda t: -t[1])
    _cut([t for t in some if t[1] > 0], (0.0, 0.0, float(WIDTH), height), out)
    return picture(out, title=title, about=about, height=height, key=key)


def _cut(tiles: Sequence[tuple[str, float, str]], box: tuple[float, float, float, float], out: list[str]) -> None:
    x, y, wide, tall = box
    if len(tiles) == 1:
        label, _, tone = tiles[0]
        out.append(
            f'<rect class="tile {tone}" x="{x + 1:.1f}" y="{y + 1:.1f}" width="{max(wide - 2, 0):.1f}" height="{max(tall - 2, 0):.1f}"/>'
        )
        if wide > 50 and tall > 18:
            out.append(text(x + 6, y + 15, clipped(label, int(wide / 6.6) - 1), tone="on-tile"))
        return
    if not tiles:
        return
    total = sum(t[1] for t in tiles)
    head, share = 1, tiles[0][1]
    while head < len(tiles) - 1 and share + tiles[head][1] <= total / 2:
        share += tiles[head][1]
        head += 1
    part = share / total
    if wide >= tall:
        _cut(tiles[:head], (x, y, wide * part, tall), out)
        _cut(tiles[head:], (x + wide * part, y, wide * (1 - part), tall), out)
    else:
        _cut(tiles[:head], (x, y, wide, tall * part), out)
        _cut(tiles[head:], (x, y + tall * part, wide, tall * (1 - part)), out)
