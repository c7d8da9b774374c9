"""What an answer says of sizes that would end buckets of whole tensors at the same ones."""

import re
from typing import Any

from simulator import whatif
from simulator.answer import Answer
from tests.costmodels.witnesses import witness

PATH = "plan.gradient_bucket_parameters"


def answered(**changes: Any) -> Answer:
    described = witness("cpu", plan__gradient_buckets="torch-ddp", **changes)
    return whatif.estimate(described, ignore_memory=True)


def with_size(size: int) -> tuple[Any, ...]:
    answer = answered(plan__gradient_bucket_parameters=size)
    return answer.memory, answer.communication, answer.time


def test_the_noted_sizes_move_nothing_and_those_beside_them_do() -> None:
    notes = answered(plan__gradient_bucket_parameters=40_000_000).notes
    (note,) = [note for note in notes if note.startswith(PATH)]
    found = re.match(rf"{PATH}: from (\d+) to (\d+) would move nothing: buckets", note)
    assert found is not None
    least, most = map(int, found.groups())
    assert least <= 40_000_000 <= most
    same = with_size(40_000_000)
    assert with_size(least) == with_size(most) == same
    assert with_size(least - 1) != same
    assert with_size(most + 1) != same


def test_one_replica_reduces_nothing() -> None:
    answer = answered(plan__tensor_parallel_size=4)
    said = f"{PATH} and plan.gradient_buckets have no effect: there is one replica"
    assert said in answer.notes
    assert (
        answer.memory["buffers_bytes"]
        == whatif.estimate(witness("cpu", plan__tensor_parallel_size=4), ignore_memory=True).memory[
            "buffers_bytes"
        ]
    )
