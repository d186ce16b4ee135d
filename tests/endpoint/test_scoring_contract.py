"""What a caller of a running endpoint sees: the tutorial's contract, refusals that name the column, ids, limits, pages."""

from __future__ import annotations

import json
import subprocess
import time

import httpx
import pytest

from pytest_mlgates.endpoint import server
from pytest_mlgates.endpoint.client import EndpointClient
from pytest_mlgates.errors import EndpointError
from pytest_mlgates.lakehouse import Lakehouse
from pytest_mlgates.tables import PREDICTION_LOG
from tests.endpoint.serving_project import NUMERIC, TUTORIAL_ROW

BODY = {"input_data": {"columns": NUMERIC, "data": [[5, 0, 1, 412900.0, 405200.0]]}}


def test_the_tutorials_own_curl_answers_in_its_shape(ridge):
    command = [
        "curl",
        "-s",
        "-X",
        "POST",
        ridge.uri,
        "-H",
        "Authorization: Bearer TOKEN",
        "-H",
        "Content-Type: application/json",
    ]
    answer = json.loads(subprocess.run([*command, "-d", json.dumps(BODY)], capture_output=True, check=True, text=True).stdout)
    assert list(answer) == ["predictions", "model_name", "model_version", "latency_ms"]
    assert (answer["model_name"], answer["model_version"]) == ("ridge", "1")
    assert len(answer["predictions"]) == 1
    assert 3e5 < answer["predictions"][0] < 5e5


def test_health_schema_openapi_and_metrics(ridge):
    with EndpointClient(ridge.uri) as client:
        client.score([TUTORIAL_ROW])
        assert client.health()["status"] == "ok"
        assert [c["name"] for c in client.schema()["inputSignature"]] == NUMERIC
        assert 'mlgates_endpoint_requests_total{model="ridge",status="200"}' in client.metrics()
    assert httpx.get(f"{ridge.base}/openapi.json").json()["openapi"] == "3.1.0"


@pytest.mark.parametrize(
    ("change", "column"),
    [
        ({"columns": [*NUMERIC[:-1], "lag_3_revenue"]}, "lag_30_revenue"),
        ({"data": [[5, 0, "yes", 412900.0, 405200.0]]}, "promo_active"),
        ({"data": [[5, 0, 1, 412900.0, "405200"]]}, "lag_30_revenue"),
        ({"data": [[5.5, 0, 1, 412900.0, 405200.0]]}, "day_of_week"),
        ({"data": [[None, 0, 1, 412900.0, 405200.0]]}, "day_of_week"),
        ({"data": [[2**63, 0, 1, 412900.0, 405200.0]]}, "day_of_week"),
        ({"columns": ["day_of_week", *NUMERIC[:-1]]}, "day_of_week"),
    ],
)
def test_a_row_that_does_not_fit_is_a_422_that_names_the_column(ridge, change, column):
    answer = httpx.post(ridge.uri, json={"input_data": BODY["input_data"] | change})
    assert answer.status_code == 422
    assert answer.json()["column"] == column
    assert column in answer.json()["message"]


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400), (b"{", 400), (b"\xff\xfe", 400), (b"[]", 422), (b"{}", 422), (b'{"input_data":{"columns":[],"data":[]}}', 422),
        (b'{"inputs":[[1,2]]}', 422), (b'{"inputs":[[1,0,1,1.0,2.0]],"orientation":"table"}', 422), (b"[" * 100_000, 400),
    ],
)  # fmt: skip
def test_malformed_bodies_are_refused_with_a_reason(ridge, content, status):
    answer = httpx.post(ridge.uri, content=content)
    assert answer.status_code in (status, 422)
    assert answer.json()["message"]


def test_columns_in_another_order_and_extra_ones_score_the_same(ridge):
    with EndpointClient(ridge.uri) as client:
        straight = client.score([TUTORIAL_ROW])["predictions"]
        mixed = client.score([{"extra": "ignored", **dict(reversed(TUTORIAL_ROW.items()))}])["predictions"]
    assert straight == mixed


def test_fabrics_shape_is_understood_by_the_same_page(ridge):
    answer = httpx.post(
        ridge.uri, json={"formatType": "dataframe", "orientation": "values", "inputs": BODY["input_data"]["data"]}
    ).json()
    assert list(answer) == ["formatType", "orientation", "predictions"]
    assert isinstance(answer["predictions"][0][0], float)


def test_a_request_id_comes_back_and_one_is_made_where_none_was_given(ridge):
    given = httpx.post(ridge.uri, json=BODY, headers={"x-request-id": "abc-1"})
    assert given.headers["x-request-id"] == "abc-1"
    assert httpx.post(ridge.uri, json=BODY).headers["x-request-id"]
    injected = httpx.post(ridge.uri, json=BODY, headers={"x-request-id": "a b;c"})
    assert injected.headers["x-request-id"] != "a b;c"


def test_too_many_bytes_and_too_many_rows_are_413(ridge):
    assert httpx.post(ridge.uri, content=b"x" * 5_000_000).status_code == 413
    many = {"input_data": {"columns": NUMERIC, "data": [[1, 0, 1, 1.0, 2.0]] * 10_001}}
    assert httpx.post(ridge.uri, json=many).status_code == 413


def test_other_methods_and_pages_are_named(ridge):
    refused = httpx.get(ridge.uri), httpx.post(f"{ridge.base}/health")
    assert [(r.status_code, r.headers["allow"]) for r in refused] == [(405, "POST"), (405, "GET, HEAD")]
    assert httpx.get(f"{ridge.base}/nosuch").status_code == 404


def test_every_prediction_reaches_the_prediction_log_once(ridge, settings):
    with EndpointClient(ridge.uri) as client:
        for i in range(50):
            client.score([TUTORIAL_ROW, TUTORIAL_ROW], request_id=f"logged-{i}")
    store = Lakehouse(settings.parent / "lakehouse")
    deadline = time.monotonic() + 20
    found = []
    while time.monotonic() < deadline and len(found) < 100:
        time.sleep(0.5)
        if store.exists(PREDICTION_LOG):
            found = store.read(PREDICTION_LOG, where="request_id LIKE 'logged-%'").to_pylist()
    assert len(found) == 100
    assert {row["request_id"] for row in found} == {f"logged-{i}" for i in range(50)}
    assert json.loads(found[0]["inputs"]) == TUTORIAL_ROW
    assert found[0]["model_version"] == "1"


def test_a_token_is_asked_for_and_a_server_without_one_must_be_local(settings, tmp_path):
    with server.start(
        settings, model="ridge", state=tmp_path / "s", token="sesame", workers=1, log_predictions=False
    ) as running:
        assert httpx.post(running.uri, json=BODY).status_code == 401
        assert httpx.post(running.uri, json=BODY, headers={"authorization": "Bearer wrong"}).status_code == 401
        assert httpx.get(f"{running.base}/metrics").status_code == 401
        assert httpx.get(f"{running.base}/health").status_code == 200
        with EndpointClient(running.uri, "sesame") as client:
            assert client.score([TUTORIAL_ROW])["model_version"] == "1"


@pytest.mark.parametrize("arguments", [{"insecure_local": False}, {"host": "0.0.0.0"}])
def test_an_open_server_is_refused(settings, tmp_path, arguments):
    with pytest.raises(EndpointError, match="MLGATES_ENDPOINT_TOKEN"):
        server.start(settings, model="ridge", state=tmp_path / "s", **arguments)


def test_a_model_that_is_not_there_is_one_line_and_code_4(settings, tmp_path):
    with pytest.raises(EndpointError, match=r"code 4 .*'nosuch' is not in the registry"):
        server.start(settings, model="nosuch", state=tmp_path / "s")
