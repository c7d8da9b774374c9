"""One linear layer, split by columns and by rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodels import linear
from costmodels.errors import SpecError
from simulator.linear import LinearLayer, linear_account

SIZES = st.integers(1, 5000)
RANKS = st.integers(1, 70)


@given(SIZES, RANKS)
def test_shards_are_those_of_array_chunks_and_sum_to_the_dimension(size: int, ranks: int) -> None:
    shards = [linear.shard_size(size, ranks, rank) for rank in range(ranks)]
    part = -(-size // ranks)
    chunks = [len(chunk) for chunk in np.split(np.arange(size), range(part, size, part))]
    assert shards == chunks + [0] * (ranks - len(chunks))
    assert linear.idle_rank_count(size, ranks) == shards.count(0)
    assert linear.load_ratio(size, ranks) == pytest.approx(max(shards) * ranks / size)


@given(SIZES, SIZES, st.integers(1, 100), RANKS, st.sampled_from([1, 2, 4]), st.booleans())
def test_parts_sum_to_the_layer(
    inputs: int, outputs: int, tokens: int, ranks: int, element_bytes: int, has_bias: bool
) -> None:
    account = linear_account(
        LinearLayer(
            input_size=inputs,
            output_size=outputs,
            token_count=tokens,
            rank_count=ranks,
            element_bytes=element_bytes,
            has_bias=has_bias,
        )
    )
    for split in (account.column, account.row):
        assert sum(r.weight_bytes for r in split.ranks) == inputs * outputs * element_bytes
        assert sum(r.forward_flop for r in split.ranks) == 2 * tokens * inputs * outputs
        assert sum(r.backward_flop for r in split.ranks) == 4 * tokens * inputs * outputs
        assert split.sent_bytes == sum(message.sent_bytes for message in split.messages)
        assert (split.sent_bytes == 0) == (ranks == 1)
    shares = {split.by: split.load_ratio for split in (account.column, account.row)}
    assert shares[account.better] == min(shares.values())


@pytest.mark.parametrize(
    ("inputs", "outputs", "better"), [(4096, 16384, "column"), (16384, 4096, "row")]
)
def test_the_wider_side_is_split_where_both_divide(inputs: int, outputs: int, better: str) -> None:
    layer = LinearLayer(input_size=inputs, output_size=outputs, token_count=2048, rank_count=8)
    account = linear_account(layer)
    assert account.better == better
    assert account.column.paired_sent_bytes == account.column.messages[1].sent_bytes
    by_forward = {s.by: s.messages[0].sent_bytes for s in (account.column, account.row)}
    # Adding sends twice what concatenating sends.
    assert by_forward["row"] == 2 * by_forward["column"]


def test_a_size_out_of_bounds_is_named() -> None:
    with pytest.raises(SpecError, match=r"rank_count \(0\): must be from 1"):
        LinearLayer(input_size=1, output_size=1, token_count=1, rank_count=0)
