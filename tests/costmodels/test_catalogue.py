"""Every entry of the catalogue against itself: formula and function, names, inputs, graph."""

import math
from collections.abc import Iterable, Mapping
from graphlib import TopologicalSorter
from random import Random
from typing import Any

import pytest

from costmodels.analysis import CATALOGUE, axes_of, inputs_of
from costmodels.attention.formulas import FORMULAS
from costmodels.leaves import leaves
from costmodels.quantities import ALGORITHM, AXES, Basis, Quantity, parameters_of
from costmodels.rules import RULES
from tests.costmodels.formula_language import FormulaError, names_in, value_of

DRAWS = 40
MEMBERS = {"kind": 3, "stage": 4, "chunk": 2}
WITH_FORMULA = [name for name, entry in CATALOGUE.items() if entry.formula != ALGORITHM]

TRUTHS = {
    "gated",
    "attention_bias",
    "attention_output_bias",
    "ffn_bias",
    "shared_gate",
    "router_bias",
}
REALS = {"ratio", "s", "byte/s", "FLOP/s", "token/s", "USD/s", "USD", "J", "W", "fraction"}
SMALL = {"zero_stage": 3, "moment_count": 2}
POSSIBLY_ZERO = {
    "main_weight_element_bytes",
    "tied_embedding_bytes",
    "chunk_layer_count",
    "stage_layer_count",
    "class_stage_count",
}

ONE_HOT = "the case that is left where the other members of its choice are zero"
UNUSED_LEAVES = {
    "optimizer_is_sgd": ONE_HOT,
    "norm_is_layernorm_no_bias": ONE_HOT,
    "positions_is_alibi": "a bias of the scores, computed in the kernel",
    "positions_is_none": ONE_HOT,
    "recompute_is_none": ONE_HOT,
    "kind_is_prefill": ONE_HOT,
    "gradient_buckets_is_in_place": ONE_HOT,
}

ENDINGS: Mapping[str, tuple[str, ...]] = {
    "byte": ("_bytes",),
    "FLOP": ("_flop",),
    "s": ("_s",),
    "J": ("_j",),
    "USD": ("_usd",),
    "byte/s": ("_bytes_per_s",),
    "FLOP/s": ("_flop_per_s", "_flop_per_s_per_gpu"),
    "token/s": ("tokens_per_s", "tokens_per_s_per_gpu"),
    "fraction": ("_fraction",),
    "parameter": ("_parameters",),
    "index": ("_index",),
    "rank": ("_stride",),
    "token": ("_tokens",),
    "pair": ("_pairs",),
    "row": ("_rows",),
    "element": ("_elements",),
    "ratio": ("_ratio",),
    "step": ("_steps",),
    "replica": ("_size",),
    "microbatch": ("_count",),
    "truth": ("fits", "_apart", "_is_repeated"),
    # Counts name what is counted where that is no unit.
    "count": (
        "_count",
        "_members",
        "_layers",
        "_reduces",
        "_passes",
        "regathers",
        "_hops",
        "_calls",
        "_size",
    ),
}


def inner_axes(name: str, outer: Iterable[str]) -> tuple[str, ...]:
    """Return the axes of an input that its function sees, those of the quantity taken away."""
    own = axes_of(name)
    for axis in outer:
        if own[:1] == (axis,):
            own = own[1:]
    return own


def unit_of(name: str) -> str:
    return CATALOGUE[name].unit if name in CATALOGUE else leaves()[name].unit


def draw_number(name: str, random: Random) -> int | float:
    unit = unit_of(name)
    if unit == "truth" or name in TRUTHS:
        return random.randint(0, 1)
    if unit in REALS:
        return random.choice([random.uniform(1e-3, 1.0), random.uniform(1.0, 1e3)])
    if name in SMALL or unit == "index":
        return random.randint(0, SMALL.get(name, 3))
    largest = random.choice([1, 8, 1000])
    return random.randint(0 if name in POSSIBLY_ZERO else 1, largest)


def draw(name: str, axes: tuple[str, ...], random: Random) -> Any:
    if not axes:
        return draw_number(name, random)
    return [draw(name, axes[1:], random) for _ in range(MEMBERS[axes[0]])]


def drawn_inputs(entry: Quantity, random: Random) -> dict[str, Any]:
    return {
        name: draw(name, inner_axes(name, entry.axes), random) for name in inputs_of(entry.name)
    }


def is_equal(computed: Any, stated: Any) -> bool:
    if isinstance(computed, int) and isinstance(stated, int):
        return computed == stated
    # Terms may be added in another order; a small difference of two terms of some 1e3 is then good
    # to 1e3 times the rounding of a double.
    return math.isclose(computed, stated, rel_tol=1e-12, abs_tol=1e-12)


@pytest.mark.parametrize("name", WITH_FORMULA)
def test_formula_says_what_the_function_computes(name: str) -> None:
    entry = CATALOGUE[name]
    function = entry.chosen(None)
    random = Random(name)
    for _ in range(DRAWS):
        inputs = drawn_inputs(entry, random)
        computed, stated = function(**inputs), value_of(entry.formula, inputs)
        assert is_equal(computed, stated), (inputs, computed, stated)


@pytest.mark.parametrize("name", WITH_FORMULA)
def test_formula_names_every_input_and_nothing_else(name: str) -> None:
    assert names_in(CATALOGUE[name].formula) == set(inputs_of(name))


VARIANTS = [(name, option) for name, entry in CATALOGUE.items() for option in entry.formulas]


@pytest.mark.parametrize(("name", "option"), VARIANTS)
def test_formula_of_a_variant_says_what_its_function_computes(name: str, option: str) -> None:
    entry = CATALOGUE[name]
    function, formula = entry.chosen(option), entry.formula_of(option)
    assert names_in(formula) == set(inputs_of(name, option))
    random = Random(name + option)
    for _ in range(DRAWS):
        inputs = {needed: draw_number(needed, random) for needed in inputs_of(name, option)}
        assert is_equal(function(**inputs), value_of(formula, inputs)), inputs


def test_every_function_of_an_attention_layout_has_its_formula() -> None:
    functions = {
        each.__name__
        for entry in CATALOGUE.values()
        for option, each in entry.variants.items()
        if option in entry.formulas and entry.selector == "layout"
    }
    assert functions == set(FORMULAS)


@pytest.mark.parametrize(
    "formula", ["__import__('os')", "a.real", "[1]", "lambda: 1", "a ** 2", "open(a)", "b", "'a'"]
)
def test_formulas_allow_nothing_but_arithmetic(formula: str) -> None:
    with pytest.raises(FormulaError):
        value_of(formula, {"a": 1})


@pytest.mark.parametrize("entry", CATALOGUE.values(), ids=lambda entry: entry.name)
def test_entry_is_complete(entry: Quantity) -> None:
    assert entry.source
    assert entry.definition.endswith(".")
    assert len(entry.definition) > len("Weights.")
    assert (entry.function is None) == bool(entry.variants)
    assert (entry.selector is None) == (entry.function is not None)
    if entry.formula == ALGORITHM:
        assert len(entry.source) >= len("by definition")
    if entry.function is not None:
        assert entry.function.__name__ == entry.name
    assert list(entry.axes) == [axis for axis in AXES if axis in entry.axes]


@pytest.mark.parametrize("entry", CATALOGUE.values(), ids=lambda entry: entry.name)
def test_name_ends_with_its_unit(entry: Quantity) -> None:
    assert entry.name.endswith(ENDINGS[entry.unit])


def test_every_input_is_a_quantity_or_a_leaf() -> None:
    for name in CATALOGUE:
        for needed in inputs_of(name):
            assert (needed in CATALOGUE) != (needed in leaves()), (name, needed)


def test_every_variant_takes_inputs_that_exist() -> None:
    for entry in CATALOGUE.values():
        for variant in entry.variants.values():
            assert set(parameters_of(variant)) <= set(CATALOGUE) | set(leaves())


def test_every_leaf_is_used() -> None:
    used = {needed for name in CATALOGUE for needed in inputs_of(name)}
    used |= {needed for rule in RULES for needed in parameters_of(rule.function)}
    unused = set(leaves()) - used
    assert unused == set(UNUSED_LEAVES)


def test_graph_has_no_cycle() -> None:
    graph = {name: [n for n in inputs_of(name) if n in CATALOGUE] for name in CATALOGUE}
    assert set(TopologicalSorter(graph).static_order()) == set(CATALOGUE)


def test_catalogue_is_in_the_order_of_derivation_within_a_module() -> None:
    places = {name: place for place, name in enumerate(CATALOGUE)}
    for name, entry in CATALOGUE.items():
        for needed in inputs_of(name):
            same_module = (
                needed in CATALOGUE
                and entry.function is not None
                and CATALOGUE[needed].function is not None
                and entry.function.__module__ == CATALOGUE[needed].function.__module__
            )
            assert not same_module or places[needed] < places[name], (name, needed)


def test_a_time_never_claims_to_be_exact() -> None:
    """No time is validated yet: its formula rests on an assumption, or only chooses an input."""
    for entry in CATALOGUE.values():
        if entry.unit in ("s", "token/s") and "latency" not in entry.name:
            assert entry.basis is Basis.ASSUMED, entry.name
