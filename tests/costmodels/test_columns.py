"""Columns: many plans at once give what each gives alone, bit for bit, and nothing wraps."""

from collections.abc import Mapping
from functools import cache
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from costmodels import rules
from costmodels.analysis import CATALOGUE, axes_of, evaluate
from costmodels.columns import (
    as_float,
    ceil_div,
    first_of_largest,
    largest,
    maximum,
    minimum,
    total,
    weighted_total,
    where,
)
from costmodels.compilation import Columns, compile_columns
from costmodels.errors import SpecError
from costmodels.quantities import STAGE, parameters_of
from costmodels.rules.counts import counts_fit
from costmodels.scenario import Scenario
from tests.costmodels.witnesses import witness

ROWS = 10_000
QUICK_ROWS = 100
BASES = ("small", "interleaved", "mixture", "tied")
Varied = Mapping[str, list[Any]]


# Rows


def drawn_rows(base: str, count: int, seed: int) -> Varied:
    """Return rows of plans, most of them legal."""
    draw = np.random.default_rng(seed)
    heads = witness(base).model.num_attention_heads
    kv_heads = witness(base).model.num_key_value_heads
    tensor = draw.choice([t for t in (1, 2, 3, 4, 8, 32) if heads % t == kv_heads % t == 0], count)
    tensor[draw.random(count) < 0.05] = 3
    pipeline = draw.choice([1, 2, 3, 4, 8, 16], count)
    data = draw.integers(1, 65, count)
    micro = draw.choice([1, 2, 3, 4], count)
    microbatches = draw.integers(1, 50, count)
    ragged = draw.random(count) < 0.1
    kernel = draw.choice(["flash", "naive"], count)
    rows = {
        "plan.tensor_parallel_size": tensor,
        "plan.pipeline_parallel_size": pipeline,
        "plan.micro_batch_size": micro,
        "plan.sequence_parallel": (tensor > 1) & (draw.random(count) < 0.5),
        "plan.zero_stage": draw.integers(0, 4, count),
        "plan.recompute": draw.choice(["none", "selective", "full"], count),
        "plan.attention_kernel": kernel,
        "plan.saved_tensors": np.where(
            (kernel == "flash") & (draw.random(count) < 0.5), "transformer-engine", "megatron"
        ),
        "plan.overlap_gradient_reduction": draw.random(count) < 0.5,
        "plan.overlap_parameter_gather": draw.random(count) < 0.5,
        "workload.optimizer": draw.choice(
            ["adam", "adam-8bit", "adafactor", "muon", "sgd-momentum", "sgd"], count
        ),
        "workload.sequence_length": 96 * draw.integers(1, 20, count) + ragged,
        "workload.global_batch_size": micro * microbatches * data + (draw.random(count) < 0.05),
        "workload.total_tokens": draw.integers(1, 10**14, count),
        "cluster.accelerator_count": np.where(
            draw.random(count) < 0.05, draw.integers(1, 64, count), tensor * pipeline * data
        ),
        "cluster.accelerators_per_node": draw.choice([1, 4, 8, 6, 72], count),
        "cluster.accelerator.memory_bytes": draw.integers(2**30, 2**38, count),
        "cluster.accelerator.memory_bandwidth_bytes_per_s": draw.uniform(1e11, 1e13, count),
        "cluster.network.bandwidth_bytes_per_s": draw.uniform(1e9, 1e11, count),
        "cluster.scale_up.latency_s": draw.uniform(0.0, 1e-5, count),
    }
    if base == "interleaved":
        rows["plan.virtual_stages"] = draw.choice([1, 2, 3, 4], count, p=[0.1, 0.3, 0.3, 0.3])
    listed = {path: values.tolist() for path, values in rows.items()}
    return listed | optional_rows(base, count, draw, zero_stage=listed["plan.zero_stage"])


def optional_rows(
    base: str, count: int, draw: np.random.Generator, *, zero_stage: list[int]
) -> dict[str, list[Any]]:
    """Return rows of fields that a plan may leave out, None where one does."""

    def chosen(values: list[Any], share: float = 0.5) -> list[Any]:
        stated = draw.choice(values, count).tolist()
        return [
            value if kept else None
            for value, kept in zip(stated, draw.random(count) < share, strict=True)
        ]

    sharded = chosen([1, 2, 4, 8])
    rows = {
        "plan.recompute_method": draw.choice(["uniform", "block"], count).tolist(),
        "plan.recompute_num_layers": chosen([1, 2, 3, 5, 40]),
        "plan.sharding_group_size": [
            size if stage else None for size, stage in zip(sharded, zero_stage, strict=True)
        ],
        "cluster.host_bandwidth_bytes_per_s": chosen([16e9, 32e9, 64e9], 0.9),
        "plan.scatter_gather_handovers": (draw.random(count) < 0.05).tolist(),
        "plan.offload_activations_num_layers": (
            draw.choice([0, 1, 2, 5, 40], count, p=[0.6, 0.1, 0.1, 0.1, 0.1]).tolist()
        ),
        "plan.offload_optimizer": (draw.random(count) < 0.3).tolist(),
    }
    if base == "mixture":
        rows["plan.expert_tensor_parallel_size"] = chosen([1, 2, 4])
        rows["plan.expert_parallel_size"] = draw.choice([1, 2, 4, 8], count).tolist()
        rows["plan.expert_capacity_factor"] = chosen([0.75, 1.0, 1.25, 2.0])
    return rows


def legal_rows(base: str, count: int, seed: int) -> Varied:
    """Return `count` rows that obey every rule."""
    rows = drawn_rows(base, 8 * count, seed)
    legal = np.flatnonzero(rules.valid(compile_columns(witness(base), rows)))[:count]
    assert len(legal) == count
    return {path: [values[index] for index in legal] for path, values in rows.items()}


def changed(spec: Any, changes: Mapping[tuple[str, ...], Any]) -> Any:
    """Return a description with the fields at some paths changed, and checked by itself."""
    here = {path[0]: value for path, value in changes.items() if len(path) == 1}
    for name in {path[0] for path in changes if len(path) > 1}:
        inner = {path[1:]: value for path, value in changes.items() if path[0] == name}
        here[name] = changed(getattr(spec, name), inner)
    fields = {name: getattr(spec, name) for name in spec.__struct_fields__}
    kinds = {name: type(value) for name, value in fields.items()}
    texts = {name: kinds[name](value) for name, value in here.items() if isinstance(value, str)}
    return type(spec)(**(fields | here | texts))


def row_sections(base: str, rows: Varied, index: int) -> SimpleNamespace:
    """Return the five descriptions of one row, each checked, not yet against each other."""
    scenario = witness(base)
    result = {name: getattr(scenario, name) for name in scenario.__struct_fields__}
    for section in ("plan", "workload", "cluster"):
        changes = {
            tuple(path.split(".")[1:]): values[index]
            for path, values in rows.items()
            if path.startswith(section)
        }
        result[section] = changed(result[section], changes)
    return SimpleNamespace(**result)


def row_scenario(base: str, rows: Varied, index: int) -> Scenario:
    return Scenario(**vars(row_sections(base, rows, index)))


# Many at once and one by one


def assert_same(many: Any, one: Any, index: int, axes: tuple[str, ...]) -> None:
    """Compare a row of columns with the same plan alone, members of axes in turn.

    Among others a row may have members too many: classes of stages that count zero times, before
    its last one, and chunks without layers, after its own. Those that it has alone must agree.
    """
    if axes:
        assert len(many) >= len(one)
        own = [*many[: len(one) - 1], many[-1 if axes[0] == STAGE else len(one) - 1]]
        for among_others, alone in zip(own, one, strict=True):
            assert_same(among_others, alone, index, axes[1:])
        return
    many, one = np.atleast_1d(many), np.atleast_1d(one)
    row = many[index] if len(many) > 1 else many[0]
    assert row.dtype == one.dtype
    assert row.tobytes() == one[0].tobytes(), (row, one[0])


@cache
def answers(base: str, count: int) -> tuple[Varied, Mapping[str, Any]]:
    rows = legal_rows(base, count, seed=17)
    return rows, evaluate(compile_columns(witness(base), rows), CATALOGUE)


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize(
    ("first", "last"),
    [
        (0, QUICK_ROWS),
        *[
            pytest.param(start, start + ROWS // 20, marks=pytest.mark.slow)
            for start in range(0, ROWS // len(BASES), ROWS // 20)
        ],
    ],
)
def test_a_row_has_the_same_bits_alone_and_among_thousands(
    base: str, first: int, last: int
) -> None:
    rows, many = answers(base, ROWS // len(BASES))
    for index in range(first, last):
        one = evaluate(compile_columns(row_scenario(base, rows, index)), CATALOGUE)
        for name in CATALOGUE:
            assert_same(many[name], one[name], index, axes_of(name))


@pytest.mark.parametrize("base", BASES)
def test_rows_are_refused_where_a_scenario_is(base: str) -> None:
    rows = drawn_rows(base, QUICK_ROWS, seed=23)
    accepted = rules.valid(compile_columns(witness(base), rows)).tolist()
    assert 0 < sum(accepted) < QUICK_ROWS
    for index, is_accepted in enumerate(accepted):
        sections = row_sections(base, rows, index)
        if is_accepted:
            rules.check(sections)
        else:
            with pytest.raises(SpecError):
                rules.check(sections)


def test_the_example_alone_is_a_row_of_length_one() -> None:
    values = evaluate(compile_columns(witness("example")), ["step_s", "fits", "stage_bytes"])
    assert values["step_s"].shape == values["fits"].shape == (1,)
    assert all(column.shape == (1,) for column in values["stage_bytes"])


def test_what_cannot_vary_within_columns_is_refused() -> None:
    for path in ("model.hidden_size", "plan.schedule", "plan.layers_per_stage", "plan.tp"):
        with pytest.raises(SpecError, match=path):
            compile_columns(witness("small"), {path: [1]})


@pytest.mark.parametrize(
    ("path", "rows"),
    [
        ("plan.sharding_group_size", [None, 0]),
        ("plan.expert_capacity_factor", [1.0, float("nan")]),
        ("plan.expert_tensor_parallel_size", [1.5, 2]),
        ("plan.recompute_num_layers", [None, -1]),
        ("plan.recompute_method", ["uniform", "blocks"]),
        ("plan.zero_stage", [None, 1]),
    ],
)
def test_a_row_that_no_plan_could_have_is_refused(path: str, rows: list[Any]) -> None:
    with pytest.raises(SpecError, match=path):
        compile_columns(witness("mixture"), {path: rows})


# Nothing wraps


def as_plain(value: Any) -> Any:
    """Return inputs as plain Python numbers, whose integers have no bound."""
    if isinstance(value, tuple):
        return tuple(as_plain(member) for member in value)
    return np.asarray(value).reshape(-1)[0].item()


def assert_exact(wrapped: Any, exact: Any, name: str) -> None:
    if isinstance(exact, tuple):
        for left, right in zip(wrapped, exact, strict=True):
            assert_exact(left, right, name)
        return
    value = np.asarray(wrapped).reshape(-1)[0].item()
    if isinstance(exact, int) and not isinstance(exact, bool) and isinstance(value, int):
        assert value == exact, name
    else:
        # Sums of large integers round once in double precision, at each of some ten additions.
        assert value == pytest.approx(exact, rel=1e-13, abs=1e-300), name


def assert_no_wrap(scenario: Any) -> None:
    columns = compile_columns(scenario)
    plain = Columns(
        {name: as_plain(value) for name, value in columns.values.items() if value is not None},
        columns.schedule,
        columns.layouts,
        columns.sizes,
    )
    wrapped, exact = evaluate(columns, CATALOGUE), evaluate(plain, CATALOGUE)
    for name in CATALOGUE:
        assert_exact(wrapped[name], exact[name], name)


@pytest.mark.parametrize("recompute", ["none", "selective", "full"])
@pytest.mark.parametrize("kernel", ["flash", "naive"])
@pytest.mark.parametrize("layout", [(8, 16), (1, 1), (8, 126), (1, 128)])
def test_nothing_wraps_at_405b_and_15_6t(
    recompute: str, kernel: str, layout: tuple[int, int]
) -> None:
    tensor, pipeline = layout
    assert_no_wrap(
        witness(
            "example",
            plan__recompute=recompute,
            plan__attention_kernel=kernel,
            plan__tensor_parallel_size=tensor,
            plan__pipeline_parallel_size=pipeline,
            plan__sequence_parallel=tensor > 1,
            cluster__accelerator_count=128 * tensor * pipeline,
        )
    )


def boundary_length(base: str, **changes: Any) -> int:
    """Return the longest sequence that `counts_fit` accepts, by bisection over columns."""
    scenario = witness(base, **changes)
    low, high = 1, 2**40
    while high - low > 1:
        lengths = np.unique(np.linspace(low, high, 64).astype(np.int64))
        columns = compile_columns(scenario, {"workload.sequence_length": lengths})
        fit = counts_fit(**evaluate(columns, parameters_of(counts_fit)))
        low, high = int(lengths[fit].max()), int(lengths[~fit].min())
    return low


@pytest.mark.parametrize("base", ["small", "mixture", "example"])
@pytest.mark.parametrize("micro", [1, 16])
@pytest.mark.parametrize("recompute", ["none", "full"])
def test_nothing_wraps_up_to_the_bound_and_beyond_it_is_refused(
    base: str, micro: int, recompute: str
) -> None:
    plan = {
        "plan__tensor_parallel_size": 1,
        "plan__pipeline_parallel_size": 1,
        "plan__sequence_parallel": False,
        "plan__micro_batch_size": micro,
        "plan__recompute": recompute,
        "plan__attention_kernel": "naive",
        "cluster__accelerator_count": 1,
        "workload__global_batch_size": 16,
    }
    length = boundary_length(base, **plan)
    assert length > 20_000
    assert_no_wrap(witness(base, **plan, workload__sequence_length=length))
    with pytest.raises(SpecError, match=r"workload.sequence_length \(\d+\): counts for one GPU"):
        witness(base, **plan, workload__sequence_length=length + 1)


sizes = st.integers(0, 20).map(lambda exponent: 2**exponent)


@given(
    hidden=sizes,
    head=sizes,
    inner=sizes,
    vocabulary=sizes,
    length=st.integers(0, 40).map(lambda exponent: 2**exponent),
    batch=st.integers(0, 40).map(lambda exponent: 2**exponent),
    schedule=st.sampled_from(["gpipe", "1f1b"]),
)
@settings(max_examples=300)
def test_no_legal_sizes_wrap(
    hidden: int, head: int, inner: int, vocabulary: int, length: int, batch: int, schedule: str
) -> None:
    try:
        scenario = witness(
            "small",
            model__hidden_size=hidden,
            model__head_size=min(head, 2**16),
            model__intermediate_size=inner,
            model__vocabulary_size=vocabulary,
            model__positions="learned",
            model__max_position_embeddings=2**40,
            workload__sequence_length=length,
            workload__global_batch_size=batch,
            workload__total_tokens=10**18,
            plan__schedule=schedule,
            plan__attention_kernel="naive",
            cluster__accelerator_count=1,
        )
    except SpecError:
        return
    assert_no_wrap(scenario)


# Helpers


numbers = st.integers(-(2**50), 2**50)


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=8))
def test_helpers_treat_rows_as_they_treat_numbers(pairs: list[tuple[int, int]]) -> None:
    first, second = np.array(pairs).T
    for helper in (minimum, maximum):
        assert helper(first, second).tolist() == [helper(a, b) for a, b in pairs]
    assert where(first > second, first, second).tolist() == [max(a, b) for a, b in pairs]
    positive = np.abs(second) + 1
    assert ceil_div(first, positive).tolist() == [ceil_div(a, abs(b) + 1) for a, b in pairs]
    assert as_float(first).tolist() == [float(a) for a, _ in pairs]


@given(st.lists(numbers, min_size=1, max_size=8))
def test_sums_and_maxima_over_an_axis(members: list[int]) -> None:
    columns = [np.array([member, -member]) for member in members]
    assert total(members) == sum(members)
    assert total(columns).tolist() == [sum(members), -sum(members)]
    assert largest(members) == max(members)
    assert largest(columns).tolist() == [max(members), -min(members)]
    assert weighted_total([2] * len(members), members) == 2 * sum(members)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=8))
def test_the_first_of_the_largest_is_named(members: list[int]) -> None:
    labels = list(range(len(members)))
    assert first_of_largest(labels, members) == members.index(max(members))
    columns = [np.array([member]) for member in members]
    assert first_of_largest(labels, columns).tolist() == [members.index(max(members))]


@given(st.integers(-(2**60), 2**60), st.integers(1, 2**40))
def test_ceil_div_is_the_least_integer_that_is_enough(numerator: int, denominator: int) -> None:
    quotient = ceil_div(numerator, denominator)
    assert (quotient - 1) * denominator < numerator <= quotient * denominator


def test_descriptions_are_records() -> None:
    assert msgspec.structs.replace(witness("small").plan, zero_stage=3).zero_stage == 3
