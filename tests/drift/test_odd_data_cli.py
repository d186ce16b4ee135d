"""``mlgates drift`` on odd tables: the stated verdict or one line, and never a retrain trigger by accident."""

import json

import numpy as np
import pyarrow as pa
import pytest

from pytest_mlgates.cli import main as mlgates
from pytest_mlgates.tables import RETRAIN_TRIGGERS

from .test_monitor import edit, recent_days

RNG = np.random.default_rng(11)
FEATURE = "promo_active"


def replaced(table, name, values, kind=None):
    return table.set_column(table.column_names.index(name), name, pa.array(values, kind, from_pandas=True))


def recent(table, name, value):
    """The newest week of a column set to one value."""
    return replaced(table, name, np.where(recent_days(table), value, table[name].to_numpy()))


def text(table):
    return replaced(table, FEATURE, [f"{v:g}" for v in table[FEATURE].to_pylist()], pa.string())


def new_category(table):
    names = RNG.choice(["red", "blue"], table.num_rows).astype(object)
    names[recent_days(table)] = RNG.choice(["red", "blue", "green"], int(recent_days(table).sum()))
    return table.append_column("colour", pa.array(names.tolist(), pa.string()))


def zoned(table):
    return replaced(table, "play_date", table["play_date"].cast(pa.timestamp("us", tz="Asia/Tokyo")).to_pylist(),
                    pa.timestamp("us", tz="Asia/Tokyo"))  # fmt: skip


def mixed_zones(table):
    days = table["play_date"].cast(pa.timestamp("us"))
    return table.append_column("seen_at", days).append_column("seen", days.cast(pa.timestamp("us", tz="UTC")))


def drift(ring, capsys, *words):
    code = mlgates(["--settings", str(ring.folder / "mlgates.toml"), "drift", "--model", ring.model, "--json", *words])
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    found = json.loads(out) if out.startswith("{") else None
    features = {} if found is None else {f["feature"]: f for f in found["features"]}
    return code, found, features, err.strip()


def triggers(ring):
    return ring.store.read(RETRAIN_TRIGGERS).to_pylist() if ring.store.exists(RETRAIN_TRIGGERS) else []


def columns(ring, *names):
    path = ring.folder / "mlgates.toml"
    path.write_text(path.read_text() + f"columns = {list(names)}\n")


def test_thin_window(ring, capsys):
    code, found, features, _ = drift(ring, capsys, "--current", "3d")
    assert (code, found["verdict"]) == (0, "insufficient")
    assert all(f["psi"] is None and f["smallest_shift"] > 0 for f in features.values())
    assert triggers(ring) == []


def test_constant_column_that_stays(ring, capsys):
    edit(ring, lambda t: replaced(t, FEATURE, np.zeros(t.num_rows)))
    _, _, features, _ = drift(ring, capsys)
    assert features[FEATURE]["verdict"] == "stable"


@pytest.mark.parametrize("what", ["all missing", "changed type"])
def test_a_broken_source_is_mended_not_retrained(ring, capsys, what):
    """Rows of a file, for a table has one type per column."""
    import pyarrow.parquet as pq

    columns(ring, FEATURE, "day_of_week")
    table = ring.store.read("lh_gold.slot_revenue_features")
    broken = text(table) if what == "changed type" else replaced(table, FEATURE, [None] * table.num_rows, pa.float64())
    pq.write_table(table.slice(0, 3000), ring.folder / "then.parquet")
    pq.write_table(broken.slice(0, 500), ring.folder / "now.parquet")
    code, found, features, _ = drift(ring, capsys, "--reference", "then.parquet", "--current", "now.parquet")
    assert code == 3
    assert features[FEATURE]["verdict"] == "drift"
    assert "mend the source" in features[FEATURE]["reason"]
    assert found["trigger"] is None
    assert triggers(ring) == []


def test_all_missing_in_the_table(ring, capsys):
    edit(ring, lambda t: recent(t, FEATURE, np.nan))
    code, found, features, _ = drift(ring, capsys)
    assert code == 3
    assert "every current row is missing" in features[FEATURE]["reason"]
    assert found["trigger"] is None
    assert triggers(ring) == []


def test_new_category(ring, capsys):
    columns(ring, "colour", "day_of_week")
    edit(ring, new_category)
    code, _, features, _ = drift(ring, capsys)
    assert code == 3
    assert features["colour"]["verdict"] == "drift"
    assert "new category: green" in features["colour"]["reason"]
    assert features["day_of_week"]["verdict"] == "stable"


def test_dates_as_strings(ring, capsys):
    """Of the time column and of an input: one line with the cast, exit code 1 or 4, nothing written."""
    edit(ring, lambda t: replaced(t, "play_date", [str(d) for d in t["play_date"].to_pylist()], pa.string()))
    code, _, _, err = drift(ring, capsys)
    assert code in (1, 4)
    assert err.count("\n") == 0
    assert "CAST(play_date AS DATE)" in err
    assert triggers(ring) == []


def test_an_input_of_dates_as_strings(ring, capsys):
    columns(ring, "opened", "day_of_week")
    edit(ring, lambda t: t.append_column("opened", pa.array([str(d) for d in t["play_date"].to_pylist()])))
    code, _, _, err = drift(ring, capsys)
    assert code in (1, 4)
    assert err.count("\n") == 0
    assert "CAST(opened AS DATE)" in err


def test_time_zones(ring, capsys):
    """A zoned time column is cut by UTC days; inputs with and without a zone are compared each with its own kind."""
    columns(ring, "seen_at", "seen", "day_of_week")
    edit(ring, lambda t: zoned(mixed_zones(t)))
    code, found, features, err = drift(ring, capsys)
    assert code in (0, 3), err
    assert found["windows"]["current"]["last"] == "2026-04-26"
    assert {features[n]["kind"] for n in ("seen", "seen_at")} == {"time", "zoned time"}


def test_empty_current_window(ring, capsys):
    code, found, features, _ = drift(ring, capsys, "--now", "2027-01-01")
    assert (code, found["verdict"]) == (0, "insufficient")
    assert all(f["psi"] is None for f in features.values())
    assert triggers(ring) == []


def test_an_empty_table_is_one_line(ring, capsys):
    edit(ring, lambda t: t.slice(0, 0))
    code, _, _, err = drift(ring, capsys)
    assert code in (1, 4)
    assert err.count("\n") == 0
    assert "no rows with a play_date" in err
