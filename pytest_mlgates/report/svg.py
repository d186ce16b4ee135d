"""Pictures as inline SVG: small pure functions, numbers in, text out.

A picture is as wide as its place and of a fixed height: what lies along the x axis is placed in percent, so that text keeps its
size on a phone, on paper and on a wide screen. Colours are classes of the page's own style sheet and follow light, dark and
print. Each picture has a title and a description for those who do not see it; the numbers stand beside it in a table. Text is
escaped here and nowhere else.
"""

from __future__ import annotations

import dataclasses
import html
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from pytest_mlgates.report.text import clipped, compact, printable

_LEFT, _RIGHT = 13.0, 98.0
"""Where a plot begins and ends beside the labels of its y axis, in percent of the picture's width."""
_BARE = 2.0
"""Where a plot without such labels begins."""
_APART = 14.0
"""Least distance of two labels of the x axis, in percent."""
_WORD_PERCENT = 2.1
"""Width of a letter on the narrowest page (some 310 pixels), in percent."""


@dataclasses.dataclass(frozen=True, slots=True)
class Interval:
    """A labelled value with its bounds; ``tone`` is a class: ``good``, ``bad``, ``open``, ``accent``, ``muted``."""

    label: str
    value: float | None
    low: float | None
    high: float | None
    tone: str = "muted"


@dataclasses.dataclass(frozen=True, slots=True)
class Mark:
    """A value that is drawn across a picture: a limit, or with the tone ``base`` a place to compare with."""

    label: str
    value: float
    tone: str = "limit"


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """A polyline; points are (x, y)."""

    label: str
    points: Sequence[tuple[float, float]]
    tone: str = "accent"


@dataclasses.dataclass(frozen=True, slots=True)
class Axis:
    """Range of one axis in data units; ``words`` writes a tick, by default as a compact number."""

    low: float
    high: float
    label: str = ""
    log: bool = False
    words: Callable[[float], str] = compact

    @classmethod
    def around(cls, values: Iterable[float | None], label: str = "", *, margin: float = 0.06) -> Axis:
        """Return an axis that holds every finite value with some air."""
        known = [float(v) for v in values if v is not None and math.isfinite(v)]
        low, high = (min(known), max(known)) if known else (0.0, 1.0)
        air = (high - low) * margin or abs(high) * 0.1 or 1.0
        return cls(low - air, high + air, label)

    def place(self, value: float, begin: float, end: float) -> float:
        """Map a value to a place between two ends, clipped to the axis."""
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log(max(low, 1e-12)), math.log(max(high, 1e-12)), math.log(max(value, 1e-12))
        share = (value - low) / (high - low) if high > low else 0.5
        return round(begin + min(max(share, 0.0), 1.0) * (end - begin), 2)

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
        step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * (1 - 1e-9))
        first = math.ceil(self.low / step)
        return [round(step * (first + i), 12) for i in range(most + 2) if step * (first + i) <= self.high + step * 1e-9]


def _safe(words: str) -> str:
    return html.escape(printable(words))


def text(x: float, y: float, words: str, *, at: str = "start", tone: str = "", shift: float = 0) -> str:
    """One line of text, escaped: ``x`` in percent, ``shift`` and ``y`` in pixels."""
    anchor = f' text-anchor="{at}"' if at != "start" else ""
    kind = f' class="{tone}"' if tone else ""
    moved = f' dx="{shift:g}"' if shift else ""
    return f'<text x="{x:g}%" y="{y:g}"{moved}{anchor}{kind}>{_safe(words)}</text>'


def picture(body: Iterable[str], *, title: str, about: str, height: float, key: str) -> str:
    """Wrap shapes into an image with a title and a description; ``key`` makes the identifiers unique on the page."""
    name = html.escape(f"svg-{key}", quote=True)
    return (
        f'<svg class="chart" width="100%" height="{height:g}" role="img" aria-labelledby="{name}-t {name}-d">'
        f'<title id="{name}-t">{_safe(title)}</title><desc id="{name}-d">{_safe(about)}</desc>{"".join(body)}</svg>'
    )


def _upright(x: float, y1: float, y2: float, tone: str) -> str:
    return f'<line class="{tone}" x1="{x:g}%" x2="{x:g}%" y1="{y1:g}" y2="{y2:g}"/>'


def _level(x1: float, x2: float, y: float, tone: str) -> str:
    return f'<line class="{tone}" x1="{x1:g}%" x2="{x2:g}%" y1="{y:g}" y2="{y:g}"/>'


def _dot(x: float, y: float, tone: str, radius: float = 4.5) -> str:
    return f'<circle class="dot {tone}" cx="{x:g}%" cy="{y:g}" r="{radius:g}"/>'


def _column(x: float, width: float, y: float, height: float, tone: str) -> str:
    return f'<rect class="fill {tone}" x="{x:g}%" y="{y:g}" width="{width:g}%" height="{height:g}"/>'


def _plot(body: Iterable[str], top: float, bottom: float) -> str:
    """Shapes in a frame of their own, 0 to 1000 along and pixels upright, stretched to the plot's width."""
    tall = bottom - top
    place = f'x="{_LEFT:g}%" y="{top:g}" width="{_RIGHT - _LEFT:g}%" height="{tall:g}"'
    return f'<svg class="plot" {place} viewBox="0 0 1000 {tall:g}" preserveAspectRatio="none">{"".join(body)}</svg>'


def _x_axis(axis: Axis, y: float, top: float, left: float = _LEFT, right: float = _RIGHT) -> Iterable[str]:
    taken = -1e9
    for tick in axis.ticks():
        x = axis.place(tick, left, right)
        yield _upright(x, top, y, "grid")
        if x - taken >= _APART:
            taken = x
            at = "start" if x < 4 else "end" if x > 95 else "middle"
            yield text(x, y + 16, axis.words(tick), at=at, tone="tick")
    yield _level(left, right, y, "base")
    if axis.label:
        yield text((left + right) / 2, y + 34, axis.label, at="middle", tone="tick")


def _y_axis(axis: Axis, top: float, bottom: float, left: float = _LEFT, right: float = _RIGHT) -> Iterable[str]:
    for tick in axis.ticks(5):
        y = axis.place(tick, bottom, top)
        yield _level(left, right, y, "grid")
        yield text(left, y + 4, axis.words(tick), at="end", tone="tick", shift=-6)
    if axis.label:
        yield text(0, top - 12, axis.label, tone="tick")


def _marked(mark: Mark, x: float, top: float, bottom: float) -> Iterable[str]:
    """An upright limit with its words above, on the side where there is room."""
    yield _upright(x, top - 4, bottom, mark.tone)
    if mark.label:
        end = x > 50
        yield text(x, top - 9, clipped(mark.label, 34), at="end" if end else "start", tone="limit-text", shift=3 if end else -3)


def intervals(
    rows: Sequence[Interval],
    marks: Sequence[Mark],
    *,
    title: str,
    about: str,
    key: str,
    unit: str = "",
    numbered: bool = True,
) -> str:
    """Values with their bounds, one below the other, each under its label, and limits across them.

    Parameters
    ----------
    numbered
        Whether the axis has numbers; false where rows of different units are drawn as shares of their limits.
    """
    ends = [v for r in rows for v in (r.value, r.low, r.high)] + [m.value for m in marks]
    axis = Axis.around(ends, unit)
    left, right, top, tall = _BARE, 100 - _BARE, 26.0 if marks else 6.0, 42
    bottom = top + tall * len(rows) + 2
    out = list(_x_axis(axis, bottom, top, left, right)) if numbered else [_level(left, right, bottom, "base")]
    for mark in marks:  # beside the bars only: the labels between them stay free
        x = axis.place(mark.value, left, right)
        out += _marked(mark, x, top, top)
        out += [_upright(x, top + tall * index + 19, top + tall * index + 41, mark.tone) for index in range(len(rows))]
    for index, row in enumerate(rows):
        y = top + tall * index + 30
        out.append(text(left, y - 13, clipped(row.label, 44)))
        out += _whisker(row, axis, y, left, right)
    return picture(out, title=title, about=about, height=bottom + (42 if unit else 22 if numbered else 6), key=key)


def _whisker(row: Interval, axis: Axis, y: float, left: float, right: float) -> Iterable[str]:
    if row.low is not None and row.high is not None:
        a, b = axis.place(row.low, left, right), axis.place(row.high, left, right)
        yield _level(a, b, y, f"bar {row.tone}")
        yield from (_upright(x, y - 5, y + 5, f"bar {row.tone}") for x in (a, b))
    elif (
        row.low is not None or row.high is not None
    ):  # one bound is known: the bar begins there and has an end on that side only
        known = axis.place(row.low if row.low is not None else row.high or 0.0, left, right)
        other = axis.place(row.value, left, right) if row.value is not None else known
        yield _level(min(known, other), max(known, other), y, f"bar {row.tone}")
        yield _upright(known, y - 5, y + 5, f"bar {row.tone}")
    if row.value is not None:
        yield _dot(axis.place(row.value, left, right), y, row.tone)


def gauge(row: Interval, limit: float | None) -> str:
    """One interval beside its limit, as small as a word, for a cell of a table that has the numbers."""
    known = [v for v in (row.value, row.low, row.high, limit) if v is not None]
    if not known or row.value is None:
        return ""
    axis = Axis.around(known, margin=0.25)
    body = [_level(0, 100, 10, "grid"), *_whisker(row, axis, 10, 4, 96)]
    if limit is not None:
        body.append(_upright(axis.place(limit, 4, 96), 1, 19, "limit"))
    return f'<svg class="gauge" width="100%" height="20" aria-hidden="true">{"".join(body)}</svg>'


def lines(
    series: Sequence[Line],
    x: Axis,
    y: Axis,
    *,
    title: str,
    about: str,
    key: str,
    marks: Sequence[Mark] = (),
    height: float = 240,
) -> str:
    """Polylines over two axes, with a legend above; marks lie across the y axis."""
    top, bottom = 46.0, height
    out = [*_x_axis(x, bottom, top), *_y_axis(y, top, bottom), *_legend([(s.label, s.tone) for s in series if s.label])]
    for mark in marks:
        at = y.place(mark.value, bottom, top)
        out.append(_level(_LEFT, _RIGHT, at, "limit"))
        out.append(text(_RIGHT, at - 5, clipped(mark.label, 34), at="end", tone="limit-text"))
    drawn = []
    for one in series:
        if len(one.points) == 1:
            a, b = one.points[0]
            out.append(_dot(x.place(a, _LEFT, _RIGHT), y.place(b, bottom, top), one.tone, 3.5))
        else:
            points = " ".join(f"{x.place(a, 0, 1000):g},{y.place(b, bottom - top, 0):g}" for a, b in one.points)
            drawn.append(f'<polyline class="line {one.tone}" points="{points}"/>')
    return picture(
        [*out, _plot(drawn, top, bottom)], title=title, about=about, height=bottom + (42 if x.label else 22), key=key
    )


def _legend(entries: Sequence[tuple[str, str]]) -> Iterable[str]:
    x = 0.0
    for label, tone in entries:
        words = clipped(label, max(int(80 / len(entries) / _WORD_PERCENT) - 3, 8))
        yield f'<svg x="{x:g}%" y="0" width="22" height="24"><path class="line {tone}" d="M1 12h20"/></svg>'
        yield text(x, 16, words, shift=27)
        x += 12 + _WORD_PERCENT * len(words)


def histogram(
    edges: Sequence[float], counts: Sequence[int], mark: Mark | None, *, title: str, about: str, key: str, unit: str
) -> str:
    """Bars over a logarithmic axis, with a limit; the bars beyond it stand out."""
    high = max([edges[-1], *([mark.value * 1.1] if mark else [])])
    axis = Axis(edges[0], high, unit, log=True)
    top, bottom = 34.0, 214.0
    most = max(max(counts, default=0), 1)
    upright = Axis(0, most)
    out = [*_x_axis(axis, bottom, top), *_y_axis(upright, top, bottom)]
    for (low, up), count in zip(itertools.pairwise(edges), counts, strict=True):
        if count:
            a, b = axis.place(low, _LEFT, _RIGHT), axis.place(up, _LEFT, _RIGHT)
            tall = round(max(count / most * (bottom - top), 1.5), 1)
            tone = "bad" if mark is not None and low >= mark.value else "accent"
            out.append(_column(a, max(b - a - 0.2, 0.3), bottom - tall, tall, tone))
    if mark is not None:
        out += _marked(mark, axis.place(mark.value, _LEFT, _RIGHT), top, bottom)
    return picture(out, title=title, about=about, height=bottom + 42, key=key)


def reliability(points: Sequence[tuple[float, float, float, int]], *, title: str, about: str, key: str, unit: str) -> str:
    """Predicted against observed with bars of uncertainty, the diagonal, and the rows of each bin beneath.

    Parameters
    ----------
    points
        ``(predicted, observed, half width, rows)`` of each bin.
    """
    ends = [v for p, o, h, _ in points for v in (p, o - h, o + h)]
    around = Axis.around(ends, margin=0.03)
    top, bottom, floor = 30.0, 260.0, 330.0
    x, y = Axis(around.low, around.high, unit), Axis(around.low, around.high, "observed")
    out = [*_x_axis(x, floor, top), *_y_axis(y, top, bottom), _level(_LEFT, _RIGHT, bottom, "base")]
    out.append(f'<line class="limit" x1="{_LEFT:g}%" y1="{bottom:g}" x2="{_RIGHT:g}%" y2="{top:g}"/>')
    most = max((n for *_, n in points), default=1)
    for predicted, observed, half, n in points:
        at = x.place(predicted, _LEFT, _RIGHT)
        low, high = (y.place(v, bottom, top) for v in (observed - half, observed + half))
        out.append(_upright(at, low, high, "bar accent"))
        out.append(_dot(at, y.place(observed, bottom, top), "accent"))
        tall = round(max(n / max(most, 1) * (floor - bottom - 14), 1.5), 1)
        out.append(_column(at - 1.1, 2.2, floor - tall, tall, "muted"))
    out.append(text(_LEFT, (bottom + floor) / 2 + 10, "rows", at="end", tone="tick", shift=-6))
    return picture(out, title=title, about=about, height=floor + 42, key=key)


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
    top, bottom = 46.0, 240.0
    out = [*_x_axis(x, bottom, top), *_y_axis(y, top, bottom), *_legend([(label, tone) for label, _, tone in series])]
    out.append(_level(_LEFT, _RIGHT, y.place(0.0, bottom, top), "limit"))
    drawn = []
    for _, some, tone in series:
        at = [(x.place(p[0], 0, 1000), *(y.place(v, bottom - top, 0) for v in p[1:])) for p in some]
        around = [f"{a:g},{low:g}" for a, low, _, _ in at] + [f"{a:g},{high:g}" for a, _, _, high in reversed(at)]
        drawn.append(f'<polygon class="area {tone}" points="{" ".join(around)}"/>')
        drawn.append(f'<polyline class="line {tone}" points="{" ".join(f"{a:g},{m:g}" for a, _, m, _ in at)}"/>')
    return picture([*out, _plot(drawn, top, bottom)], title=title, about=about, height=bottom + 42, key=key)


_GAPS_UP_TO = 70
"""Cells of a strip that are drawn apart; beyond, they touch."""


def strip(cells: Sequence[int], tones: Sequence[str], about: str) -> str:
    """One row of a heat map: its cells from left to right, one path a tone, so that 18,000 cells weigh little.

    Parameters
    ----------
    cells
        Tone of each cell by its number in ``tones``; 0 is the ground and is not drawn, -1 is a gap.
    """
    strokes: dict[str, list[str]] = {}
    apart = len(cells) <= _GAPS_UP_TO
    for tone, group in itertools.groupby(enumerate(cells), key=lambda pair: pair[1]):
        some = [index for index, _ in group]
        if tone:
            strokes.setdefault("gap" if tone < 0 else tones[tone], []).append(f"M{some[0]} 0h{len(some)}")
    body = "".join(f'<path class="cell {kind}" d="{"".join(some)}"/>' for kind, some in strokes.items())
    if apart:
        body += f'<path class="between" d="{"".join(f"M{i} -1v2" for i in range(1, len(cells)))}"/>'
    name = f'role="img" aria-label="{_safe(about)}"'
    return f'<svg class="strip" viewBox="0 -1 {max(len(cells), 1)} 2" preserveAspectRatio="none" {name}>{body}</svg>'


@dataclasses.dataclass(frozen=True, slots=True)
class Tile:
    """A rectangle of a treemap: ``group`` are the tiles that are laid together, ``label`` and ``note`` are written into it."""

    group: str
    label: str
    note: str
    value: float
    tone: str


def treemap(tiles: Sequence[Tile], *, title: str, about: str, key: str, height: float = 260) -> str:
    """Rectangles whose areas are as the values; groups first, then their tiles, each cut by halves, largest first."""
    groups: dict[str, list[Tile]] = {}
    for tile in sorted(tiles, key=lambda t: -t.value):
        if tile.value > 0:
            groups.setdefault(tile.group, []).append(tile)
    out: list[str] = []
    boxes = _cut([(sum(t.value for t in some), some) for some in groups.values()], (0.0, 0.0, 100.0, height))
    for some, box in boxes:
        for tile, place in _cut([(t.value, t) for t in some], box):
            out.append(_tile(tile, place))
    return picture(out, title=title, about=about, height=height, key=key)


_T = TypeVar("_T")
_Box = tuple[float, float, float, float]
_NARROWEST = 310 / 100
"""Pixels that a percent of the picture's width is on the narrowest page."""


def _cut(parts: Sequence[tuple[float, _T]], box: _Box) -> list[tuple[_T, _Box]]:
    """Lay parts, the largest first, into a box: cut by halves of what they weigh, across its longer side."""
    x, y, wide, tall = box
    if len(parts) <= 1:
        return [(part, box) for _, part in parts]
    order = sorted(parts, key=lambda p: -p[0])
    total = sum(value for value, _ in order)
    head, share = 1, order[0][0]
    while head < len(order) - 1 and share + order[head][0] <= total / 2:
        share += order[head][0]
        head += 1
    part = share / total
    if wide * 2 * _NARROWEST >= tall:
        first, second = (x, y, wide * part, tall), (x + wide * part, y, wide * (1 - part), tall)
    else:
        first, second = (x, y, wide, tall * part), (x, y + tall * part, wide, tall * (1 - part))
    return [*_cut(order[:head], first), *_cut(order[head:], second)]


def _tile(tile: Tile, box: _Box) -> str:
    """A tile with its words as text of the page, which ends them with an ellipsis where the tile does."""
    x, y, wide, tall = box
    words = "".join(f"<span>{_safe(w)}</span>" for w in (tile.label, tile.note)[: int(tall // 20)] if w)
    place = f'x="{x:.3f}%" y="{y:.1f}" width="{wide:.3f}%" height="{max(tall, 0.1):.1f}"'
    return (
        f"<svg {place}><title>{_safe(f'{tile.label} {tile.note}')}</title>"
        f'<rect class="tile {tile.tone}" width="100%" height="100%"/>'
        f'<foreignObject width="100%" height="100%"><div class="on-tile {tile.tone}">{words}</div></foreignObject></svg>'
    )


def meter(value: float, goal: float, tone: str = "accent") -> str:
    """How far a value is on its way to a goal, as a bar; the numbers stand beside it."""
    share = min(max(value / goal, 0.0), 1.0) if goal > 0 else 0.0
    return (
        f'<svg class="meter" width="100%" height="8" aria-hidden="true"><rect class="track" width="100%" height="8" rx="4"/>'
        f'<rect class="fill {tone}" width="{100 * share:.1f}%" height="8" rx="4"/></svg>'
    )
