"""The evidence report: every number in it stands in the evidence; it needs nothing else."""

from __future__ import annotations

import datetime as dt
import html.parser
import re

import numpy as np
import pytest

from pytest_mlgates import evidence
from pytest_mlgates.report.html import evidence_report
from pytest_mlgates.report.page import policy, shown
from pytest_mlgates.report.text import compact, number
from pytest_mlgates.results import GateResult, RunReport, Verdict
from tests.report.ready import rich_results


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
            self._inside = [tag, attrs["data-from"], attrs.get("value"), ""]

    def handle_endtag(self, tag):
        if self._inside and tag == self._inside[0]:
            self.found.append(tuple(self._inside[1:]))
            self._inside = None
        if self._open and self._open[-1] == tag:
            self._open.pop()

    def handle_data(self, data):
        if self._inside:
            self._inside[3] += data
        elif "svg" not in self._open and "style" not in self._open:
            self.loose.append(data)


def at(document, path):
    for step in path.split("/")[1:]:
        part = step.replace("~1", "/").replace("~0", "~")
        document = document[int(part)] if isinstance(document, list) else document[part]
    return document


def document(results, **changes):
    report = RunReport("model", "3", tuple(results), tuple(r.gate for r in results))
    values = {
        "model": {"name": "model", "version": "3", "run_id": "r", "artifact_digest": "sha256:a"},
        "holdout": {"table": "lh_gold.h", "version": 7, "digest": "sha256:h", "rows": 4000},
        "baseline": {"model": "base", "version": "1", "digest": "sha256:b"},
        "settings_digest": "sha256:s",
        "git": {"sha": "abc", "dirty": False},
        "environment": {"python": "3.11"},
        "created": dt.datetime(2026, 11, 24, tzinfo=dt.UTC),
        "kill_score": 0.9,
    }
    return evidence.build(report, **{**values, **changes})


@pytest.fixture(scope="module")
def sealed():
    return document(rich_results(np.random.default_rng(3)))


def test_every_number_stands_in_the_evidence(sealed):
    """Each is marked with its path; value and shown text are those of the document, and no digit stands outside."""
    page = Values()
    page.feed(evidence_report(sealed))
    assert len(page.found) > 150
    kinds = ("", "count", "percent", "ms")
    for path, value, text in page.found:
        real = at(dict(sealed.body), path)
        if value is None:
            assert text == str(real), path
        else:
            assert float(value) == real, path
            assert text in {shown(real, kind) for kind in kinds}, path
    known = {sealed.id, sealed.seal, "model v3: ", "sealed "}
    said = re.sub(r"segment \d", "", " ".join(page.loose))  # names of groups
    for words in (*known, "p50", "p95", "p99", "95 %", "10 % below", "10 % above", "model v3", "v3"):
        said = said.replace(words, "")
    methods = " ".join(r["method"] for r in sealed.body["results"])
    loose = [w for w in said.split() if any(c.isdigit() for c in w) and w not in methods]
    assert loose == []


def test_the_same_bytes_make_the_same_page(sealed):
    """Read back from its bytes the document gives the page that it gave: no registry, clock or environment is in it."""
    assert evidence_report(evidence.parse(sealed.to_bytes())) == evidence_report(sealed)


def test_a_picture_for_each_gate(sealed):
    """ROC, group rates, latency, reliability and weak slices are drawn, and named for those who do not see them."""
    page = evidence_report(sealed)
    for title in ("ROC curves", "Selection rate by", "Latency of single calls", "Reliability diagram", "<desc"):
        assert title in page
    assert page.count("<svg") == page.count('role="img"')


def test_residuals_of_a_regression():
    """A regression shows its residuals beside the baseline's, and the table holds the numbers of the picture."""
    from pytest_mlgates import checks

    rng = np.random.default_rng(4)
    y = rng.normal(size=500)
    found = checks.performance(y, y + rng.normal(size=500) / 9, y + rng.normal(size=500) / 3, metric="r2", task="regression")
    page = evidence_report(document([found]))
    assert "Residuals by prediction" in page
    bands = found.details["picture"]["residuals"]["candidate"]
    assert sum(b["n"] for b in bands) == 500


def test_verdict_first():
    """The verdict stands before anything else, also where a gate failed, erred or could not be settled."""
    for verdict in Verdict:
        page = evidence_report(document([GateResult("performance", verdict, summary="why", hint="do this")]))
        body = page[page.index("<main") :]
        expected = verdict.value if verdict is not Verdict.SKIP else "inconclusive"
        assert body.index(f'class="badge {expected}"') < body.index("<h1>")
        assert ("do this" in page) == (verdict is not Verdict.PASS)


def test_no_script_and_a_policy(sealed):
    """The policy allows the style sheet by its hash and nothing else."""
    page = evidence_report(sealed)
    assert "<script" not in page
    assert " style=" not in page
    assert policy().startswith("default-src 'none'; style-src 'sha256-")
    assert "http-equiv" in page


def test_several_documents_make_one_page(sealed):
    """Identifiers differ between the parts."""
    page = evidence_report(sealed, sealed)
    identifiers = [part.split('"')[0] for part in page.split(' id="')[1:]]
    assert len(identifiers) - len(set(identifiers)) <= 1  # the content's own anchor


def test_a_million_rows_weigh_little():
    """Pictures are made of a few dozen numbers, however many rows: document and page stay small."""
    from pytest_mlgates import checks

    rng = np.random.default_rng(5)
    n = 200_000
    p = rng.random(n)
    y = rng.random(n) < p
    slices = {f"s{i}": rng.integers(0, 50, n) for i in range(4)}
    results = [
        checks.performance(y, p, p, metric="auc", task="binary"), checks.latency(rng.lognormal(-4, 1, 16_000)),
        checks.calibration(y, p, task="binary", slices=slices),
    ]  # fmt: skip
    sealed = document(results)
    assert len(sealed.to_bytes()) < 60_000
    assert len(evidence_report(sealed).encode()) < 400_000


@pytest.mark.parametrize(
    ("value", "text"), [(0.12345, "0.1235"), (1234.5, "1,234"), (12345.6, "1.2e+04"), (None, "–"), (0, "0")]
)
def test_numbers_in_few_characters(value, text):
    assert number(value) == text


def test_numbers_beside_an_axis():
    assert [compact(v) for v in (0.5, 1500, 20_000, 3e6, 2e9)] == ["0.5", "1500", "20k", "3M", "2G"]
