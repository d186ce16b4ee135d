"""Numbers on a page against the document that they come from: pages mark each with its path."""

from __future__ import annotations

import datetime as dt
import html.parser

from pytest_mlgates.report.page import shown

_KINDS = ("", "count", "percent", "ms", "seconds", "bytes", "money")


class Values(html.parser.HTMLParser):
    """Every element that says where its content is from, and all text outside of them, of pictures and of the style sheet."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.found = []
        self.loose = []
        self._open = []
        self._inside = None

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag not in ("meta", "link", "path", "circle", "rect", "polyline", "polygon", "br"):
            self._open.append(tag)
        if "data-from" in attrs:
            self._inside = [tag, attrs["data-from"], attrs.get("value"), attrs.get("datetime"), ""]

    def handle_endtag(self, tag):
        if self._inside and tag == self._inside[0]:
            self.found.append(tuple(self._inside[1:]))
            self._inside = None
        if self._open and self._open[-1] == tag:
            self._open.pop()

    def handle_data(self, data):
        if self._inside:
            self._inside[-1] += data
        elif "svg" not in self._open and "style" not in self._open:
            self.loose.append(data)


def at(document, path):
    for step in path.split("/")[1:]:
        part = step.replace("~1", "/").replace("~0", "~")
        document = document[int(part)] if isinstance(document, list) else document[part]
    return document


def read(text: str) -> Values:
    """Parse a page."""
    page = Values()
    page.feed(text)
    return page


def untrue(page, document):
    """What the page says otherwise than the document: path, value and text on the page, and the document's."""
    wrong = []
    for path, value, moment, text in page.found:
        real = at(document, path)
        if moment is not None:
            true = moment == real and text == f"{dt.datetime.fromisoformat(real):%Y-%m-%d %H:%M} UTC"
        elif value is None:
            true = text == str(real).replace("\n", " ")
        else:
            true = float(value) == real and text.replace("$", "") in {shown(real, kind) for kind in _KINDS}
        if not true:
            wrong.append((path, value, text, real))
    return wrong
