"""The sealed document: one spelling, one seal, a signature by a known key."""

from __future__ import annotations

import datetime as dt
import json

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from pytest_mlgates import evidence as ev
from pytest_mlgates.errors import ConfigError, EvidenceInvalid, PromotionRefused
from pytest_mlgates.results import GateResult, RunReport, Verdict

from .world import MODEL, World


def document(**changes: object) -> ev.Evidence:
    results = (GateResult("performance", Verdict.PASS, 0.9, 0.8, 1.0, details={"metric": "r2", "größe": [1, 2.5, None]}),)
    given = {
        "model": {"name": "m", "version": 2, "run_id": "r", "artifact_digest": "sha256:a"},
        "holdout": {"table": "t", "version": 3, "digest": "sha256:b", "rows": 4},
        "baseline": None,
        "settings_digest": "sha256:c",
        "git": {"sha": "d", "dirty": True},
        "environment": {"python": "3.11"},
        "created": dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
        **changes,
    }
    return ev.build(RunReport("m", "2", results, ("performance",)), **given)  # type: ignore[arg-type]


def test_it_reads_back_as_it_was_written():
    made = document(looks=4, kill_score=0.75)
    back = ev.parse(made.to_bytes())
    assert back == made
    assert back.id == "ev-" + made.seal[7:31]
    assert back.report().verdict is Verdict.PASS
    assert back.report().results[0].details["größe"] == [1, 2.5, None]
    assert (back.body["looks"], back.body["kill_score"], back.created.year) == (4, 0.75, 2026)


def test_two_runs_have_two_ids():
    assert document().id == document().id != document(looks=2).id


def test_time_zone_and_names_must_fit():
    with pytest.raises(ValueError, match="no time zone"):
        document(created=dt.datetime(2026, 1, 1))  # noqa: DTZ001 that is the point
    with pytest.raises(ValueError, match="the report is of m v2, the model is m v3"):
        document(model={"name": "m", "version": 3})


@given(st.data())
def test_any_changed_byte_is_found(data: st.DataObject):
    original = document().to_bytes()
    at = data.draw(st.integers(0, len(original) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda b: b != original[at]))
    with pytest.raises(EvidenceInvalid):
        ev.parse(original[:at] + bytes([byte]) + original[at + 1 :])


def test_another_spelling_of_the_same_document_is_found():
    with pytest.raises(EvidenceInvalid, match="not the ones that were written"):
        ev.parse(json.dumps(json.loads(document().to_bytes()), indent=1).encode())


class TestSignature:
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)

    def test_a_signature_holds_and_survives_storage(self):
        signed = ev.parse(ev.sign(document(), self.private).to_bytes())
        ev.verify_signature(signed, self.public)
        ev.verify_signature(ev.sign(document(), bytes(range(32))), self.public)
        assert signed.id == document().id

    def test_none_another_key_or_another_document_is_found(self):
        with pytest.raises(EvidenceInvalid, match="is not signed and a key is configured"):
            ev.verify_signature(document(), self.public)
        with pytest.raises(EvidenceInvalid, match="not by the configured key"):
            ev.verify_signature(ev.sign(document(), bytes(32)), self.public)
        other = ev.Evidence(document(looks=9).body, document(looks=9).seal, ev.sign(document(), self.private).signature)
        with pytest.raises(EvidenceInvalid, match="not by the configured key"):
            ev.verify_signature(other, self.public)

    def test_a_bad_key_is_named_and_not_shown(self):
        with pytest.raises(ConfigError) as caught:
            ev.sign(document(), b"secret nonsense")
        assert "secret" not in str(caught.value)

    def test_with_a_configured_key_unsigned_evidence_does_not_promote(self, world: World, monkeypatch: pytest.MonkeyPatch):
        version = world.add_version()
        key_file = world.folder / "key.pub"
        key_file.write_bytes(self.public)
        monkeypatch.setenv("MLGATES_VERIFY_KEY_FILE", str(key_file))
        with pytest.raises(PromotionRefused, match="is not signed"):
            world.promote("1", "Staging")
        monkeypatch.setenv("MLGATES_SIGNING_KEY", self.private.decode())
        world.judge(version)
        assert world.promote("1", "Staging").to_stage == "Staging"
        monkeypatch.setenv("MLGATES_VERIFY_KEY_FILE", str(world.folder / "nosuch"))
        with pytest.raises(ConfigError, match="nosuch cannot be read"):
            world.hotfix("1")
        assert world.stages(MODEL) == {"1": "Staging"}
