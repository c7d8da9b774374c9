"""Addresses: what they state comes back, whatever they state."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodels.errors import ShardwiseError, SpecError
from costmodels.scenario import field_paths, scenario_hash
from dashboard.fields import MICROBATCHES, field_named, fields, first_fields, shown_value
from dashboard.state import (
    DEFAULT,
    LONGEST,
    State,
    plain_text,
    query_of,
    read_state,
    scenario_of,
)

TEXTS = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cf", "Zl", "Zp", "Co", "Cn", "Zs")),
    min_size=1,
    max_size=40,
).filter(lambda text: text == text.strip() and text.isprintable())


@given(
    base=st.sampled_from(["", "12", "opened"]),
    changes=st.dictionaries(st.sampled_from(field_paths()), TEXTS, max_size=6),
    view=st.dictionaries(st.sampled_from(["against", "axis"]), TEXTS, max_size=2),
)
def test_an_address_states_what_was_written_into_it(
    base: str, changes: dict[str, str], view: dict[str, str]
) -> None:
    state = State(base, tuple(changes.items()), tuple(view.items()))
    query = query_of(state)
    if len(query) <= LONGEST:
        assert read_state(query) == state


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused_by_a_sentence(query: str) -> None:
    try:
        state = read_state(query)
        scenario_of(DEFAULT, state.changes)
    except ShardwiseError as error:
        assert str(error)


def test_the_default_has_an_empty_address() -> None:
    assert query_of(State()) == ""
    assert scenario_of(DEFAULT, ()).model.name == "llama-3.1-405b"


def test_an_address_may_name_a_cluster_with_its_size() -> None:
    """As the command line takes it: the form has a field for each, and neither is lost."""
    state = read_state("?cluster=dgx-a100:1024")
    assert state.changes == (("cluster", "dgx-a100"), ("cluster.accelerator_count", "1024"))
    assert scenario_of(DEFAULT, state.changes).cluster.accelerator_count == 1024


def test_a_long_address_is_refused() -> None:
    with pytest.raises(SpecError, match="characters"):
        read_state("?model=" + "x" * LONGEST)


@pytest.mark.parametrize("value", [[1], {"a": 1}, object(), "x" * 501])
def test_what_is_no_plain_value_is_refused(value: object) -> None:
    with pytest.raises(SpecError, match="a value"):
        plain_text(value)


def test_lone_surrogates_and_control_characters_do_not_survive() -> None:
    assert plain_text("a\ud800b\x00c") == "a?b?c"


def test_microbatches_state_the_sequences_of_a_step() -> None:
    found = scenario_of(
        DEFAULT,
        (
            (MICROBATCHES, "24"),
            ("plan.micro_batch_size", "2"),
            ("plan.pipeline_parallel_size", "8"),
        ),
    )
    # 16,384 accelerators over 8 x 8 ranks are 256 replicas.
    assert found.workload.global_batch_size == 24 * 2 * 256


def test_microbatches_and_sequences_are_not_both_stated() -> None:
    with pytest.raises(SpecError, match="stated twice"):
        scenario_of(DEFAULT, ((MICROBATCHES, "4"), ("workload.global_batch_size", "2048")))


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "many"])
def test_microbatches_are_whole(text: str) -> None:
    with pytest.raises(SpecError, match=MICROBATCHES):
        scenario_of(DEFAULT, ((MICROBATCHES, text),))


def test_another_cluster_keeps_the_number_of_accelerators() -> None:
    found = scenario_of(DEFAULT, (("cluster", "h200-sxm"),))
    assert found.cluster.accelerator_count == 16_384
    found = scenario_of(DEFAULT, (("cluster", "h200-sxm"), ("cluster.accelerator_count", "8192")))
    assert found.cluster.accelerator_count == 8192


def test_every_field_is_read_again_as_it_is_shown() -> None:
    scenario = scenario_of(DEFAULT, ())
    for field in fields():
        text = shown_value(scenario, field.path)
        if not text or field.path in _NOT_READ:
            continue
        again = scenario_of(DEFAULT, ((field.path, text),))
        assert shown_value(again, field.path) == text


# Names of presets are those of descriptions; what is rounded or has a sign of dollars is not read.
_NOT_READ = {
    *("model", "cluster", "precision"),
    *("cluster.accelerator.memory_bytes", "cluster.accelerator.price_usd_per_s"),
}


def test_fields_say_what_they_are() -> None:
    for field in fields():
        assert field.label
        assert field.definition
        assert field.allowed
    assert len({field.path for field in fields()}) == len(fields())
    assert [field.path for field in first_fields()][:2] == ["model", "cluster"]
    assert field_named("plan.zero_stage").label == "zero stage"


def test_a_saved_field_counts_in_the_hash_only_where_it_differs() -> None:
    same = scenario_of(DEFAULT, (("plan.zero_stage", "1"),))
    other = scenario_of(DEFAULT, (("plan.zero_stage", "2"),))
    assert scenario_hash(same) == scenario_hash(scenario_of(DEFAULT, ()))
    assert scenario_hash(other) != scenario_hash(same)
