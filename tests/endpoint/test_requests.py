"""Bodies against a signature: what is read, and how what is refused is named."""

from __future__ import annotations

import json

import pytest

from pytest_mlgates.endpoint.schema import BadRequest, InputSchema
from pytest_mlgates.ports import Column

SCHEMA = InputSchema([Column("day", "long"), Column("x", "double"), Column("when", "datetime"), Column("word", "string")])
ROW = [1, 2.5, "2026-01-31T12:00:00", "a"]


def body(row, columns=("day", "x", "when", "word")):
    return json.dumps({"input_data": {"columns": list(columns), "data": [row]}}).encode()


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("2026-01-31", "2026-01-31T00:00:00"), ("2026-01-31T12:00:00+02:00", "2026-01-31T10:00:00"),
        ("2026-01-31T12:00:00.5Z", "2026-01-31T12:00:00.500000"), (None, None),
    ],
)  # fmt: skip
def test_a_moment_is_read_in_utc(given, read):
    assert SCHEMA.parse(body([1, 2.5, given, "a"])).values == [[1, 2.5, read, "a"]]


@pytest.mark.parametrize(
    "given", ["yesterday", "", 1769860800, "1066-10-14", "9999-12-31T23:59:59-01:00", "0001-01-01T00:00:00+05:00"]
)
def test_what_is_no_moment_names_its_column(given):
    with pytest.raises(BadRequest, match="expected datetime") as caught:
        SCHEMA.parse(body([1, 2.5, given, "a"]))
    assert caught.value.column == "when"


@pytest.mark.parametrize("number", [b"1e999", b"-" + b"9" * 5000])
def test_a_number_that_nothing_holds_names_its_column_too(number):
    text = body([7, 2.5, "2026-01-31", "a"], ["x", "day", "when", "word"]).replace(b"[7,", b"[" + number + b",")
    for content, column in [(text, "x"), (b'{"inputs": [[1, 2, "2026-01-31", "a"], [1, ' + number + b', "", ""]]}', "x")]:
        with pytest.raises(BadRequest) as caught:
            SCHEMA.parse(content)
        assert (caught.value.status, caught.value.column) == (422, column)
        assert column in str(caught.value)


@pytest.mark.parametrize("word", [b"NaN", b"-Infinity"])
def test_a_literal_that_json_does_not_have_is_refused_with_what_to_send(word):
    with pytest.raises(BadRequest, match="a missing number is null") as caught:
        SCHEMA.parse(body(ROW).replace(b"2.5", word))
    assert caught.value.status == 400


def test_a_word_of_that_name_is_just_a_word():
    assert SCHEMA.parse(body([1, 2.5, "2026-01-31", "NaN, Infinity"])).values[0][3] == "NaN, Infinity"
