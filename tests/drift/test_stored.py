"""The reference distribution stored at training: what it holds, where it lies, and that a check needs nothing else."""

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest

from pytest_mlgates.config import load_settings
from pytest_mlgates.drift import compare
from pytest_mlgates.drift.blocks import designs, designs_from
from pytest_mlgates.drift.stored import ARTIFACT, PREDICTION, ReferenceDistribution
from pytest_mlgates.errors import DataUnusable
from pytest_mlgates.services import windows as windows_module
from pytest_mlgates.services.monitor import run_drift
from pytest_mlgates.tables import REFERENCE_DISTRIBUTION

from .test_monitor import NOW, edit, shifted

RNG = np.random.default_rng(3)


def rows_of(days, shift=0.0):
    n = days.size
    return pa.table(
        {
            "smooth": RNG.normal(shift, 1, n) + 0.3 * np.sin(days),
            "gaps": pa.array(np.where(RNG.random(n) < 0.1, np.nan, RNG.normal(size=n)), from_pandas=True),
            "count": RNG.poisson(2, n),
            "colour": RNG.choice(list("abc"), n),
            "flag": RNG.random(n) < 0.2,
            "empty": pa.nulls(n, pa.float64()),
        }
    )


def test_it_says_as_much_as_the_rows():
    """After a round trip: the same statistics at its edges, and the same chance variation to the last digit."""
    then, now = np.repeat(np.arange(19_000, 19_090), 30), np.repeat(np.arange(19_090, 19_097), 30)
    reference, current = rows_of(then), rows_of(now, 0.1)
    stored = ReferenceDistribution.from_bytes(ReferenceDistribution.of(reference, then).to_bytes())
    assert stored.span == (19_000, 19_089)
    known = designs(reference, current, reference.column_names, reference_days=then, current_days=now, window_days=7)
    assert set(known) == {"smooth", "gaps", "count", "colour", "flag"}
    assert designs_from(stored.cells, current, current_days=now, window_days=7) == known
    a = compare(reference, current, mode="exact", designs=known)
    b = compare(stored.profile, current, designs=known)
    assert [f.verdict for f in a.features] == [f.verdict for f in b.features]
    for x, y in zip(a.features, b.features, strict=True):
        if x.ks is not None:
            assert y.ks_low - 1e-12 <= x.ks <= y.ks_high + 1e-12
        if x.psi is not None:
            # cells of a smooth column are cut at edges, which moves a row or two of 210 to the next cell
            assert y.psi == pytest.approx(x.psi, abs=0.02 if x.feature in ("smooth", "gaps") else 1e-9)


def test_a_damaged_one_is_one_line():
    with pytest.raises(DataUnusable, match="stored reference distribution cannot be read"):
        ReferenceDistribution.from_bytes(b"PAR1 no")


def training(ring, **how):
    return run_drift(ring.registry, ring.store, ring.project.settings, ring.model, reference_days="training", now=NOW, **how)


def test_training_stores_it_with_the_version_and_in_the_lakehouse(ring):
    version = ring.registry.get(ring.model, "1")
    artifact = ReferenceDistribution.from_bytes(ring.registry.read_artifact(version, ARTIFACT))
    assert {"lag_7_revenue", "revenue", PREDICTION} <= set(artifact.profile.kinds)
    rows = ring.store.read(REFERENCE_DISTRIBUTION)
    assert set(rows["model_version"].to_pylist()) == {"1"}
    assert set(rows["run_id"].to_pylist()) == {version.run_id}
    assert sorted(rows["column"].to_pylist()) == sorted(artifact.profile.kinds)
    assert ring.store.guarded(REFERENCE_DISTRIBUTION)


def test_a_check_reads_the_current_window_only(ring, monkeypatch):
    """Inputs, prediction and label against the stored distribution; no row of the reference is read."""
    reads = []
    read = type(ring.store).read
    monkeypatch.setattr(type(ring.store), "read", lambda self, table, **how: reads.append(how) or read(self, table, **how))
    found = training(ring, write=False)
    assert found.verdict == "stable", found.decision
    assert found.windows.reference.rows.num_rows == 0
    assert found.windows.reference.row_count > 2000
    assert found.windows.reference.span_days > 90
    assert found.windows.current.rows.num_rows == 140
    spans = [how["where"] for how in reads if "play_date" in (how.get("where") or "")]
    assert len(spans) == 1
    assert "2026-04-20" in spans[0]
    assert found.facts.prediction.verdict == "stable"
    assert found.facts.performance.metrics
    assert all(f.design_effect >= 1 for f in found.report.features)


def test_a_shift_is_found_and_recorded_once(ring):
    edit(ring, lambda t: shifted(t, "lag_7_revenue", 1.6))
    found = training(ring)
    assert found.exit_code == 3
    assert "lag_7_revenue" in [f.feature for f in found.report.drifted]
    assert found.to_dict()["windows"]["reference"]["rows"] == found.windows.reference.row_count
    assert not training(ring).written


def test_without_the_artifact_the_lakehouse_has_it(ring, monkeypatch):
    read = type(ring.registry).read_artifact
    monkeypatch.setattr(
        type(ring.registry),
        "read_artifact",
        lambda self, version, path: None if path == ARTIFACT else read(self, version, path),
    )
    assert training(ring, write=False).windows.reference.stored is not None


def test_a_column_that_it_lacks_sends_the_check_to_the_rows(ring, monkeypatch):
    thin = ReferenceDistribution.of(pa.table({"lag_7_revenue": RNG.normal(size=500)}))
    monkeypatch.setattr(windows_module, "stored_distribution", lambda *_: thin)
    found = training(ring, write=False)
    assert found.windows.reference.stored is None
    assert found.windows.reference.rows.num_rows > 2000


def test_the_settings_can_make_it_the_reference(ring):
    path = ring.folder / "mlgates.toml"
    path.write_text(path.read_text() + 'reference = "training"\n')
    settings = load_settings(path)
    found = run_drift(ring.registry, ring.store, settings, ring.model, now=NOW, write=False)
    assert found.windows.reference.stored is not None
    days = run_drift(ring.registry, ring.store, settings, ring.model, reference_days="90d", now=NOW, write=False)
    assert days.windows.reference.span_days == 90
    assert isinstance(days.windows.reference.first, dt.date)
