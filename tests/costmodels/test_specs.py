"""Descriptions: frozen, documented, checked however they are made, and compiled in full."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodels.analysis import CATALOGUE
from costmodels.attention.layouts import LAYOUTS
from costmodels.compilation import compile_columns
from costmodels.errors import NoReferenceDataError, SpecError
from costmodels.formats import FORMATS, format_named
from costmodels.leaves import SECTIONS, leaves
from costmodels.pipelining.schedules import ScheduleName
from costmodels.quantities import Basis, weakest
from costmodels.scenario import field_paths
from costmodels.specs.base import SourcedSpec, Spec, declaration, field_types, plain_type
from costmodels.specs.cluster import PEAK_FORMATS, Cluster
from costmodels.specs.plan import Plan
from costmodels.specs.precision import (
    ACTIVATION_FORMATS,
    SCALE_FORMATS,
    WEIGHT_FORMATS,
    Quantization,
)
from costmodels.specs.workload import Workload
from costmodels.stages import balanced_layers, stage_classes
from tests.costmodels.witnesses import witness

GROUPS = {entry.group for entry in CATALOGUE.values() if entry.group} | {"label"}


def descriptions(description: type[Spec]) -> list[type[Spec]]:
    found = [description]
    for declared in field_types(description).values():
        kind = plain_type(declared)
        if isinstance(kind, type) and issubclass(kind, Spec):
            found += descriptions(kind)
    return found


ALL = [spec for section in SECTIONS.values() for spec in descriptions(section)]


@pytest.mark.parametrize("description", ALL, ids=lambda spec: spec.__name__)
def test_every_field_is_declared_and_documented(description: type[Spec]) -> None:
    inherited = (description.__doc__ or "") + (description.__mro__[1].__doc__ or "")
    for name, declared in field_types(description).items():
        if name == "sources":
            assert issubclass(description, SourcedSpec)
            continue
        meta = declaration(declared)
        assert meta is not None, name
        assert meta.description, name
        assert meta.extra is not None
        assert set(meta.extra["influences"]) <= GROUPS, name
        assert name in inherited, name


def test_descriptions_cannot_be_changed() -> None:
    scenario = witness("small")
    for name in SECTIONS:
        section = getattr(scenario, name)
        with pytest.raises(AttributeError):
            section.name = "other"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"zero_stage": 4},
            r"plan.zero_stage \(4\): expected a whole number, at least 0, at most 3",
        ),
        ({"zero_stage": "1"}, r"plan.zero_stage \('1'\): expected a whole number"),
        ({"sequence_parallel": 1}, r"plan.sequence_parallel \(1\): expected true or false"),
        ({"tensor_parallel_size": 0}, r"plan.tensor_parallel_size \(0\): .* at least 1"),
        ({"schedule": "zigzag"}, r"unknown plan.schedule 'zigzag'"),
        ({"layers_per_stage": (-1,)}, r"plan.layers_per_stage \(\(-1,\)\): expected a list"),
    ],
)
def test_python_is_checked_as_files_are(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match="^" + message):
        Plan(**change)
    with pytest.raises(SpecError, match="^" + message):
        msgspec.structs.replace(Plan(), **change)


def test_required_fields_and_unknown_ones_are_refused() -> None:
    with pytest.raises(TypeError):
        Workload()  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        Plan(tensor_paralel_size=1)  # type: ignore[call-arg]


def test_defaults_of_a_plan_are_those_of_one_gpu() -> None:
    plan = Plan()
    assert plan.tensor_parallel_size == plan.pipeline_parallel_size == plan.virtual_stages == 1
    assert plan.data_parallel_size is None
    assert plan.attention_kernel == "flash"
    assert plan.schedule is ScheduleName.ONE_F_ONE_B


# Formats


@given(st.sampled_from(sorted(FORMATS)), st.integers(0, 10**15))
def test_a_float_takes_the_bytes_of_its_bits(name: str, count: int) -> None:
    entry = FORMATS[name]
    bits = 1 + entry.exponent_bits + entry.mantissa_bits
    # TF32 has 19 bits and is kept as fp32.
    packed = -(-count // entry.packed_count) * entry.packed_count
    assert entry.tensor_bytes(count) * 8 == packed * (bits if entry.stored else 32)
    assert entry.element_bits == (bits if entry.stored else 32)
    assert str(entry.exponent_bits) in entry.description
    assert entry.source


def test_an_unknown_format_suggests_the_nearest() -> None:
    with pytest.raises(SpecError, match="unknown number format 'fp23': did you mean 'fp32'"):
        format_named("fp23")


def test_bases_from_strong_to_weak() -> None:
    assert [basis.value for basis in sorted(Basis, key=lambda basis: basis.weakness)] == [
        "exact",
        "measured",
        "datasheet",
        "fitted",
        "assumed",
    ]
    assert weakest([]) is Basis.EXACT
    assert weakest([Basis.FITTED, Basis.DATASHEET]) is Basis.FITTED


QUANTIZED: dict[str, Any] = {
    "method": "gptq",
    "weight_format": "int4",
    "group_rows": 1,
    "group_columns": 128,
    "scale_format": "fp16",
}


@pytest.mark.parametrize(
    ("field", "formats"),
    [
        ("weight_format", WEIGHT_FORMATS),
        ("scale_format", SCALE_FORMATS),
        ("activation_format", (None, *ACTIVATION_FORMATS)),
    ],
)
def test_quantization_knows_its_formats(field: str, formats: tuple[str, ...]) -> None:
    for name in formats:
        assert getattr(Quantization(**{**QUANTIZED, field: name}), field) == name
    for name in ("int5", "fp8", ""):
        with pytest.raises(SpecError, match=f"^unknown precision.quantization.{field} '{name}'"):
            Quantization(**{**QUANTIZED, field: name})


@pytest.mark.parametrize(
    "change", [{"group_rows": -1}, {"zero_points": 1}, {"excluded": "lm_head"}]
)
def test_quantization_is_checked_field_by_field(change: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=rf"^precision.quantization.{next(iter(change))} \("):
        Quantization(**{**QUANTIZED, **change})


def test_an_accelerator_has_peaks_of_formats_that_there_are() -> None:
    accelerator = witness("small").cluster.accelerator
    peaks = dict.fromkeys(PEAK_FORMATS, 1e15)
    assert msgspec.structs.replace(accelerator, peak_flop_per_s=peaks).peak_flop_per_s == peaks
    for name in ("bf17", "fp64", "BF16", ""):
        message = f"^unknown cluster.accelerator.peak_flop_per_s '{name}'"
        with pytest.raises(SpecError, match=message):
            msgspec.structs.replace(accelerator, peak_flop_per_s={**peaks, name: 1e15})


# Compilation


@given(st.integers(1, 200), st.integers(1, 64))
def test_balanced_layers_are_as_equal_as_they_can_be(layers: int, stages: int) -> None:
    counts = balanced_layers(layers, stages)
    assert len(counts) == stages
    if stages > layers + 2:
        return
    assert sum(counts) == layers
    if stages > 1:
        loads = [counts[0] + 1, *counts[1:-1], counts[-1] + 1]
        assert max(loads) - min(loads) <= 1
        assert loads[0] == min(loads)


@given(
    pipeline=st.integers(1, 12),
    microbatches=st.integers(1, 24),
    layers=st.integers(12, 40),
    schedule=st.sampled_from([ScheduleName.GPIPE, ScheduleName.ONE_F_ONE_B]),
)
def test_classes_partition_the_stages(
    pipeline: int, microbatches: int, layers: int, schedule: ScheduleName
) -> None:
    classes = stage_classes((0,) * layers, pipeline, 1, microbatches, schedule, None)
    stages = [stage for entry in classes for stage in entry.stages]
    assert sorted(stages) == list(range(pipeline))
    firsts = [entry.stages[0] for entry in classes]
    assert firsts == sorted(firsts)
    assert sum(len(entry.stages) * entry.layer_counts[0][0] for entry in classes) == layers
    ends = [(entry.holds_embedding[0], entry.holds_head[0]) for entry in classes]
    assert sum(len(entry.stages) * end[0] for entry, end in zip(classes, ends, strict=True)) == 1
    assert sum(len(entry.stages) * end[1] for entry, end in zip(classes, ends, strict=True)) == 1


def test_layouts_are_kinds_of_layer() -> None:
    layouts = [{"type": "dense", "causal": True}, {"type": "dense", "causal": False}]
    scenario = witness("small", model__layouts=layouts, model__num_hidden_layers=5)
    columns = compile_columns(scenario)
    assert columns.layouts == ("dense", "dense")
    assert columns.values["causal"] == (1, 0)
    assert columns.values["kind_layer_count"] == (3, 2)
    assert set(columns.layouts) <= set(LAYOUTS)


def test_kinds_of_layer_differ_in_layout_and_in_having_experts() -> None:
    layouts = [{"type": "dense", "causal": True}, {"type": "dense", "causal": False}]
    scenario = witness(
        "mixture",
        model__num_hidden_layers=6,
        model__layouts=layouts,
        model__mixture__dense_layers=[0, 1, 3],
        model__mixture__expert_intermediate_size=1408,
        model__mixture__shared_intermediate_size=2816,
    )
    values = compile_columns(scenario).values
    # Layers 0, and 1 with 3, have no experts; 2 with 4, and 5, have.
    assert values["kind_layer_count"] == (1, 2, 2, 1)
    assert values["causal"] == (1, 0, 1, 0)
    assert values["is_mixture"] == (0, 0, 1, 1)
    assert values["expert_count"] == (1, 1, 8, 8)
    assert values["experts_per_token"] == (1, 1, 2, 2)
    assert values["expert_intermediate_size"] == (0, 0, 1408, 1408)
    assert values["shared_intermediate_size"] == (0, 0, 2816, 2816)


def test_every_leaf_comes_from_a_field() -> None:
    paths = set(field_paths()) | {"model.mixture"}
    for name, leaf in leaves().items():
        assert leaf.path in paths, name
        assert leaf.definition, name


def test_a_scenario_compiles_to_every_leaf() -> None:
    assert set(compile_columns(witness("small")).values) == set(leaves())


def test_a_format_without_a_sourced_peak_is_refused() -> None:
    with pytest.raises(NoReferenceDataError, match=r"precision.compute \(bf16\): .* known: fp32"):
        witness("cpu", precision="bf16")


def test_a_cluster_needs_its_links() -> None:
    cluster = witness("small").cluster
    fields = {name: getattr(cluster, name) for name in cluster.__struct_fields__}
    with pytest.raises(SpecError, match=r"cluster.network"):
        Cluster(**{**fields, "network": None})
