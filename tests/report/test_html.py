"""The evidence report: every number in it stands in the evidence; it needs nothing else."""

from __future__ import annotations

import datetime as dt
import re

import numpy as np
import pytest

from pytest_mlgates import evidence
from pytest_mlgates.report.html import evidence_report
from pytest_mlgates.report.page import policy
from pytest_mlgates.report.text import compact, number
from pytest_mlgates.results import GateResult, RunReport, Verdict
from tests.report.ready import rich_results
from tests.report.traced import read, untrue


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
    page = read(evidence_report(sealed))
    assert len(page.found) > 150
    assert untrue(page, dict(sealed.body)) == []
    known = {sealed.id, sealed.seal, "model v3: ", "sealed ", "mlgates promote model 3"}
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
    named = page.count('role="img" aria-labelledby=')
    assert named == page.count('class="chart"') == page.count("<desc")


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
    ("value", "text"),
    [
        (0.12345, "0.1235"),
        (1234.5, "1,234"),
        (12345.6, "12,346"),
        (1234567.8, "1.2e+06"),
        (-999_999.4, "-999,999"),
        (None, "–"),
        (0, "0"),
    ],
)
def test_numbers_in_few_characters(value, text):
    assert number(value) == text


def test_numbers_beside_an_axis():
    assert [compact(v) for v in (0.5, 1500, 20_000, 3e6, 2e9)] == ["0.5", "1500", "20k", "3M", "2G"]
