"""The checkout's mlgates.toml and the quickstart's are one text, and valid."""

import tomllib
from pathlib import Path

from pytest_mlgates.config import load_settings, parse_settings
from pytest_mlgates.reference.settings import BASELINE, CHALLENGER, settings_text

ROOT = Path(__file__).parents[2]


def test_the_checkout_has_the_text_of_the_template():
    plain = settings_text(
        tracking_uri="sqlite:///mlflow.db", lakehouse="lakehouse", port=8787, retrain=["python", "pipelines/retrain.py"]
    )
    assert (ROOT / "mlgates.toml").read_text("utf-8") == plain
    settings = load_settings(ROOT / "mlgates.toml", env={})
    assert settings.model(BASELINE).metric == "r2"
    assert settings.model("loan-approval").regulated
    assert settings.model(CHALLENGER).retrain.command == ("python", "pipelines/retrain.py")


def test_odd_paths_stay_what_they_are():
    odd = 'C:\\data\\"quoted" ü'
    text = settings_text(tracking_uri="sqlite:///x", lakehouse=odd, port=1, retrain=[odd])
    assert tomllib.loads(text)["lakehouse"] == odd
    assert parse_settings(tomllib.loads(text)).model(CHALLENGER).retrain.command == (odd,)
