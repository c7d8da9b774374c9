"""The page of formats shows what `shardwise format` and `memory --compare-formats` print."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodels.number_formats.encoding import decode, encode
from costmodels.number_formats.explaining import explain
from costmodels.number_formats.scalars import scalar_formats
from costmodels.units import format_bytes
from dashboard.pages.formats import flipped
from dashboard.state import DEFAULT, scenario_of
from simulator.format_comparison import compare_formats
from tests.dashboard.asking import texts
from tests.dashboard.test_app import ask, later

PATH = "/formats"


@given(st.data())
def test_a_flipped_bit_leads_to_the_code_with_that_bit_flipped(data: st.DataObject) -> None:
    source = scalar_formats()[data.draw(st.sampled_from(sorted(scalar_formats())))]
    code = data.draw(st.integers(0, (1 << source.bits) - 1))
    place = data.draw(st.integers(0, source.bits - 1))
    number = float(flipped(code, place, source))
    expected = float(decode(code ^ (1 << place), source))
    assert number == expected or (math.isnan(number) and math.isnan(expected))
    if number == expected and number != 0:
        assert int(encode(number, source)) == code ^ (1 << place)


@pytest.mark.parametrize("number", ["3.14", "420.89938", "-1e-8", "inf", "nan"])
def test_every_code_is_that_of_the_command_line(app: Any, number: str) -> None:
    found = ask(app, {}, pathname=PATH, view={"number": number, "format": "fp8_e5m2"})
    assert found["result"]["className"] == ""
    text = texts(found["result"]["children"])
    for target in scalar_formats().values():
        assert explain(float(number), target).hexadecimal in text
    for step in explain(float(number), scalar_formats()["fp8_e5m2"]).steps:
        assert step in text


def test_weights_are_those_of_the_command_line(app: Any) -> None:
    text = texts(later(app, "?model=llama-3.1-8b&view.storages=bf16,nf4", PATH))
    scenario = scenario_of(DEFAULT, (("model", "llama-3.1-8b"),))
    for entry in compare_formats(scenario, ("bf16", "nf4")).storages:
        assert format_bytes(entry.weights_bytes) in text
        assert f"{entry.bits_per_weight:.4f}" in text


@pytest.mark.parametrize(
    ("view", "said"),
    [
        ({"number": "three"}, "expected a number"),
        ({"format": "fp7"}, "number format"),
        ({"library": "jax"}, "semantics"),
        ({"rounding": "up"}, "rounding"),
    ],
)
def test_what_is_wrong_is_said(app: Any, view: dict[str, str], said: str) -> None:
    assert said in texts(ask(app, {}, pathname=PATH, view=view)["banner"]["children"])


@pytest.mark.parametrize("query", ["?view.distribution=flat", "?view.storages=fp7"])
def test_what_is_wrong_with_storages_is_said(app: Any, query: str) -> None:
    assert query.partition("=")[2] in texts(later(app, query, PATH))
