"""Every rank simulated: the same as one replica where nothing differs."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from costmodels.compilation import compile_columns
from costmodels.errors import SpecError
from costmodels.pipelining.schedules import ScheduleName
from simulator.expanded import Expansion, agrees_with_folded, simulate_expanded
from simulator.metrics import makespan_s
from simulator.pipeline import simulate_pipeline
from simulator.program import PipelineProgram
from simulator.training import step_program
from tests.simulator.pipeline_programs import Size, equal_program, unequal_programs
from tests.simulator.witnesses import FILES, witness


@settings(max_examples=50)
@given(unequal_programs(), st.integers(1, 3), st.integers(1, 2))
def test_equal_ranks_do_exactly_what_one_replica_does(
    program: PipelineProgram, replicas: int, tensor_ranks: int
) -> None:
    expansion = Expansion(replicas=replicas, tensor_ranks=tensor_ranks, stragglers={})
    assert agrees_with_folded(program, simulate_expanded(program, expansion))


@pytest.mark.parametrize("name", FILES)
def test_the_witnesses_agree_expanded(name: str) -> None:
    scenario = witness(name)
    program = step_program(scenario, compile_columns(scenario))
    expansion = Expansion(replicas=2, tensor_ranks=2, stragglers={})
    assert agrees_with_folded(program, simulate_expanded(program, expansion))


def test_a_slow_rank_holds_up_its_tensor_group_and_all_replicas_at_the_end() -> None:
    program = equal_program(Size(ScheduleName.ONE_F_ONE_B, 2, 1, 4).order(), 2)
    slow = Expansion(replicas=2, tensor_ranks=2, stragglers={(1, 0, 1): 2})
    found = simulate_expanded(program, slow)
    assert not agrees_with_folded(program, found)
    ends = {span.rank: span.end_s for span in found.trace.spans}
    alone_s = makespan_s(simulate_pipeline(program))
    # Replica 0 has its pipelines' ends as before; both tensor ranks of replica 1 are late alike.
    assert [ends[rank] for rank in (0, 2)] == [alone_s] * 2
    assert ends[4] == ends[6] > alone_s
    # All meet at the reduction.
    assert set(found.ends_s[0::2]) == {found.makespan_s}


@pytest.mark.parametrize(
    ("sizes", "message"),
    [((0, 1, {}), "at least one replica"), ((1, 1, {(0, 0, 0): -1}), "must be a positive factor")],
)
def test_wrong_expansions_are_refused(
    sizes: tuple[int, int, dict[tuple[int, int, int], float]], message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        Expansion(replicas=sizes[0], tensor_ranks=sizes[1], stragglers=sizes[2])
