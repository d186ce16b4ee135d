"""The guide's decision tree, severities, triggers and cool-downs, row by row."""

import datetime as dt

import numpy as np
import pytest

from pytest_mlgates.config import COOLDOWN_DAYS
from pytest_mlgates.drift.concept import ConceptDrift, concept_drift, rising_trend
from pytest_mlgates.drift.decide import Facts, cooling, decide, severity
from pytest_mlgates.drift.performance import MetricDrift, PerformanceDrift, performance_drift
from pytest_mlgates.drift.report import DriftReport, DriftVerdict, FeatureDrift

QUIET_CONCEPT = ConceptDrift(DriftVerdict.STABLE, 0.95, 0.2)


def feature(psi, *, drifted=True, **more):
    verdict = DriftVerdict.DRIFT if drifted else DriftVerdict.STABLE
    return FeatureDrift(
        "x", "number", verdict, 1800, 140, psi=psi, psi_present=psi, q=1e-6 if drifted else 0.5,
        retrain=drifted and psi >= 0.1, **more,
    )  # fmt: skip


def report(*features):
    return DriftReport(features, 1800, 140, 0.01, 0.1, "")


def performance(change, metric="rmse", *, sure=True):
    verdict = DriftVerdict.DRIFT if change >= 0.1 and sure else DriftVerdict.STABLE
    low = change / 2 if sure else -1.0
    return PerformanceDrift((MetricDrift(metric, 1.0, 1 + change, change, low, change * 2, 140, verdict),))


def facts(psi=0.0, *, drifted=False, worse=0.0, prediction=None, **more):
    base = {"label": None, "concept": QUIET_CONCEPT}
    return Facts(
        inputs=report(feature(psi, drifted=drifted)), prediction=prediction, performance=performance(worse), **{**base, **more}
    )


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (facts(0.4, drifted=True, worse=0.3), "data drift; retrain"),
        (
            facts(0.05, worse=0.12),
            "performance worse (RMSE +12.0%), inputs stable: concept drift; retrain on fresh labels, review",
        ),
        (facts(0.15, drifted=True, worse=0.3), "mixed data and concept drift"),
        (facts(0.4, drifted=True, prediction=feature(0.3)), "robust model, watch"),
        (facts(prediction=feature(0.3)), "suspect instrumentation"),
        (facts(), "healthy"),
        (facts(0.4, drifted=True), "predictions stable: watch"),
        (facts(label=feature(0.5)), "labels shifted"),
    ],
)
def test_decision_tree(given, words):
    assert words in decide(given).sentence


@pytest.mark.parametrize(
    ("given", "level"),
    [
        (facts(0.26, drifted=True), "P1"),
        (facts(0.22, drifted=True), "P3"),
        (facts(0.22, drifted=True, earlier_psi=(0.21, 0.24)), "P2"),
        (facts(0.22, drifted=True, earlier_psi=(0.21, 0.1)), "P3"),
        (facts(0.16, drifted=True), "P3"),
        (facts(0.40), ""),  # large, and within chance
        (facts(prediction=feature(0.21)), "P2"),
        (facts(volume_drop=0.55), "P1"),
        (facts(volume_drop=0.3), "P2"),
        (facts(volume_drop=0.12), "P3"),
        (facts(ece=0.11), "P2"),
        (facts(concept=ConceptDrift(DriftVerdict.DRIFT, 0.45, 0.6)), "P1"),
        (facts(concept=ConceptDrift(DriftVerdict.DRIFT, 0.65, 0.68)), "P2"),
        (facts(worse=0.3), "P1"),
    ],
)
def test_severity(given, level):
    assert severity(given) == level


@pytest.mark.parametrize(("drop", "level"), [(0.11, "P1"), (0.06, "P2"), (0.03, "P3"), (0.01, "")])
def test_severity_of_an_auc_drop(drop, level):
    given = Facts(report(feature(0.0, drifted=False)), None, None, performance(drop, "auc"), QUIET_CONCEPT)
    assert severity(given) == level


@pytest.mark.parametrize(
    ("given", "kinds"),
    [
        (facts(), ()),
        (facts(0.4, drifted=True), ("drift",)),
        (facts(0.05, drifted=True), ()),  # significant, and of no size
        (facts(worse=0.2), ("performance", "concept")),
        (facts(labelled_growth=0.11), ("volume",)),
        (facts(age_days=31, schedule_days=30), ("schedule",)),
        (facts(concept=ConceptDrift(DriftVerdict.DRIFT, 0.3, 0.5)), ("concept",)),
    ],
)
def test_triggers(given, kinds):
    assert decide(given).triggers == kinds


def test_nothing_triggers_on_thin_or_broken_data():
    thin = FeatureDrift("x", "number", DriftVerdict.INSUFFICIENT)
    broken = FeatureDrift("x", "number", DriftVerdict.DRIFT, broken=True, reason="gone")
    for one in (thin, broken):
        given = Facts(report(one), None, None, performance(0.5), QUIET_CONCEPT, labelled_growth=0.5)
        assert decide(given).triggers == ()


def test_cool_downs():
    now = dt.datetime(2026, 5, 1, tzinfo=dt.UTC)
    ago = {days: now - dt.timedelta(days=days) for days in (6, 8, 13, 29)}
    assert "drift" in cooling(["drift"], {"drift": ago[6]}, now, COOLDOWN_DAYS)
    assert cooling(["drift"], {"drift": ago[8]}, now, COOLDOWN_DAYS) == {}
    assert "performance" in cooling(["performance"], {"performance": ago[13]}, now, COOLDOWN_DAYS)
    assert cooling(["drift", "performance"], {"performance": ago[8]}, now, COOLDOWN_DAYS) == {}  # hybrid: 7 days
    assert "concept" in cooling(["concept"], {"concept": ago[29]}, now, COOLDOWN_DAYS)
    assert cooling(["manual"], {"manual": now}, now, COOLDOWN_DAYS) == {}


def test_a_rise_within_chance_gives_no_number_to_the_alert_rule():
    assert performance(0.3, sure=False).rmse_delta is None
    assert performance(0.05, sure=False).rmse_delta == pytest.approx(0.05)
    assert performance(0.3).rmse_delta == pytest.approx(0.3)


def test_importances_that_turn_over_are_concept_drift():
    """Ten inputs whose weights are reversed in the current window; and the same weights again."""
    rng = np.random.default_rng(1)
    weights = np.arange(1, 11) ** 1.5

    def window(rows, w):
        x = rng.normal(size=(rows, 10))
        return x, x @ w + rng.normal(size=rows)

    reference, blocks = window(3600, weights), np.repeat(np.arange(12), 300)
    turned = concept_drift("regression", reference, window(300, weights[::-1]), reference_blocks=blocks)
    same = concept_drift("regression", reference, window(300, weights), reference_blocks=blocks)
    assert turned.verdict == "drift"
    assert turned.rho < 0
    assert same.verdict == "stable"


def test_trend():
    assert rising_trend([0.0, 0.01, 0.03, 0.02, 0.05, 0.08])
    assert not rising_trend([0.05, 0.01, 0.03, 0.02, 0.0])
    assert not rising_trend([0.1, 0.2])


def test_thin_labels_have_no_verdict():
    found = performance_drift("regression", (np.ones(20), np.ones(20)), None, trained={"rmse": 1.0})
    assert found.verdict == "insufficient"
    assert found.rmse_delta is None
