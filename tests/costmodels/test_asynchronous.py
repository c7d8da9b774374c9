"""PipeDream: versions of weights and staleness, against a replay of its order with updates."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodels.errors import NotModelledError, SpecError
from costmodels.pipelining.actions import ActionKind
from costmodels.pipelining.asynchronous import pipedream, staleness_count, weight_version_count
from costmodels.scenario import scenario_from_table


@given(st.integers(1, 12), st.integers(1, 40))
def test_versions_and_staleness_are_those_of_a_replay(p: int, m: int) -> None:
    order = pipedream(pipeline_parallel_size=p, virtual_stages=1, microbatch_count=m)
    for rank, row in enumerate(order):
        newest, used, kept, stalest = 0, dict[int, int](), 0, 0
        for _, kind, microbatch in row:
            if kind is ActionKind.FORWARD:
                used[microbatch] = newest
                # Versions that some microbatch goes back through, and the newest for the next one.
                kept = max(kept, len({*used.values(), newest}))
            else:
                stalest = max(stalest, newest - used.pop(microbatch))
                newest += 1
        # While the pipeline fills nothing is updated: all its versions are of later microbatches.
        warm = min(p - rank, m)
        assert kept <= weight_version_count(p, m, rank)
        assert stalest <= staleness_count(p, m, rank)
        if m >= 2 * warm:
            assert kept == weight_version_count(p, m, rank)
            assert stalest == staleness_count(p, m, rank)


def test_what_it_does_not_answer_is_refused() -> None:
    with pytest.raises(SpecError, match="pipedream requires one virtual stage per rank"):
        pipedream(pipeline_parallel_size=2, virtual_stages=2, microbatch_count=4)
    with pytest.raises(NotModelledError, match=r"plan.schedule \(pipedream\): memory and time"):
        scenario_from_table(
            {
                "model": "llama-3.1-8b",
                "cluster": "h100-sxm:2",
                "plan": {"pipeline_parallel_size": 2, "schedule": "pipedream"},
                "workload": {"global_batch_size": 4, "sequence_length": 2048},
            }
        )
