"""Quantities that each attention layout computes in its own way."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from costmodels.attention import (
    dense,
    elements,
    in_layers,
    latent,
    projections,
    running,
    shares,
)
from costmodels.attention.formulas import FORMULAS
from costmodels.columns import Column
from costmodels.quantities import ALGORITHM, KIND, OF_SOFTMAX_HEADS, Basis, Quantity, Scope

_DAO = "Dao et al. 2022, arXiv:2205.14135, section 3; Dao 2023, arXiv:2307.08691, section 3.1"

ATTENDED_PAIRS = Quantity(
    name="attended_pairs",
    symbol="P",
    unit="pair",
    scope=Scope.LAYER,
    axes=(KIND,),
    definition="Pairs of query and key that are not masked, for one head and sequence.",
    basis=Basis.EXACT,
    formula=ALGORITHM,
    source="by definition: s (s + 1) / 2 for dense causal attention, s^2 without a mask",
    variants=MappingProxyType(
        {
            "dense": dense.attended_pairs,
            "sliding": in_layers.sliding_attended_pairs,
            "chunked": in_layers.chunked_attended_pairs,
            "dilated": in_layers.dilated_attended_pairs,
            "dilated-heads": shares.dilated_heads_attended_pairs,
            "infini": in_layers.infini_attended_pairs,
            "linear": in_layers.recurrent_attended_pairs,
            "compressive": running.compressive_attended_pairs,
            "latent": latent.attended_pairs,
            "gated-delta": in_layers.recurrent_attended_pairs,
            "lightning": in_layers.recurrent_attended_pairs,
        }
    ),
    selector="layout",
)

EXECUTED_PAIRS = Quantity(
    name="executed_pairs",
    unit="pair",
    scope=Scope.LAYER,
    axes=(KIND,),
    basis=Basis.ASSUMED,
    definition="Pairs of query and key whose score is computed, for one head and sequence.",
    formula=ALGORITHM,
    source=_DAO,
    variants=MappingProxyType(
        {
            "dense": dense.executed_pairs,
            "sliding": in_layers.sliding_executed_pairs,
            "chunked": in_layers.chunked_executed_pairs,
            "dilated": in_layers.dilated_executed_pairs,
            "dilated-heads": shares.dilated_heads_executed_pairs,
            "infini": in_layers.infini_executed_pairs,
            "linear": in_layers.recurrent_executed_pairs,
            "compressive": running.compressive_executed_pairs,
            "latent": latent.executed_pairs,
            "gated-delta": in_layers.recurrent_executed_pairs,
            "lightning": in_layers.recurrent_executed_pairs,
        }
    ),
    selector="layout",
)

LAYOUTS = MappingProxyType(
    {
        "dense": "every key, or every key that is not in the future",
        "sliding": "the nearest keys that are not in the future",
        "chunked": "the past of the query's own chunk",
        "dilated": "branches of sparse segments, mixed by softmax sums",
        "dilated-heads": "every r-th key, another r for each share of the heads",
        "infini": "the past of a segment, and a memory of all segments before",
        "linear": "a sum of all past keys times values, in chunks or token by token",
        "compressive": "the past of a segment, and compressed states of segments before",
        "gated-delta": "a state of all past tokens, by a gated delta rule in chunks of 64",
        "lightning": "a state of all past tokens, in blocks",
        "latent": "every key that is not in the future, keys and values from one small vector",
    }
)
"""The layouts whose work, memory and time are modelled, by the `type` of their description."""

_KERNELS = (
    "Munkhdalai et al. 2024, arXiv:2404.07143, equations 7 and 8; Yang et al. 2024, "
    "arXiv:2412.06464, section 3.3; MiniMax 2025, arXiv:2501.08313, section 2.2; Katharopoulos et al. "
    "2020, arXiv:2006.16236, section 3.4; Rae et al. 2019, arXiv:1911.05507, section 3"
)


def _of_state(
    name: str,
    unit: str,
    definition: str,
    own: Mapping[str, Callable[..., Column]],
    none: Callable[..., Column],
    *,
    basis: Basis = Basis.EXACT,
) -> Quantity:
    """Return a quantity of layouts that do more than one softmax; `none` gives that of others."""
    return Quantity(
        name=name,
        unit=unit,
        scope=Scope.LAYER,
        axes=(KIND,),
        definition=definition,
        basis=basis,
        formula=ALGORITHM,
        source=_KERNELS,
        variants=MappingProxyType(dict.fromkeys(LAYOUTS, none) | dict(own)),
        selector="layout",
    )


ATTENTION_STATE_FLOP = _of_state(
    "attention_state_flop",
    "FLOP",
    "Forward work of reading and updating a layer's state, chunks included, for one sequence.",
    {
        "dilated-heads": shares.dilated_heads_state_flop,
        "infini": in_layers.infini_state_flop,
        "linear": running.linear_state_flop,
        "compressive": running.compressive_state_flop,
        "gated-delta": in_layers.gated_delta_state_flop,
        "lightning": in_layers.lightning_state_flop,
    },
    in_layers.softmax_state_flop,
)
ATTENTION_STATE_SPARED_FLOP = _of_state(
    "attention_state_spared_flop",
    "FLOP",
    "What the backward of a layer's state has less than twice its forward, for one sequence.",
    {
        "infini": in_layers.infini_state_spared_flop,
        "compressive": running.compressive_state_spared_flop,
    },
    in_layers.no_spared_flop,
)
ATTENTION_REPEATED_FLOP = _of_state(
    "attention_repeated_flop",
    "FLOP",
    "Forward work of a layer's projections on states of earlier segments, for one sequence.",
    {"compressive": running.compressive_repeated_flop},
    in_layers.no_repeated_flop,
)
ATTENTION_STATE_MODEL_FLOP = _of_state(
    "attention_state_model_flop",
    "FLOP",
    "Forward work that a layer's state needs, token by token, for one sequence.",
    {
        "dilated-heads": shares.dilated_heads_state_model_flop,
        "infini": in_layers.infini_state_model_flop,
        "linear": running.linear_state_model_flop,
        "compressive": running.compressive_state_model_flop,
        "gated-delta": in_layers.gated_delta_state_model_flop,
        "lightning": in_layers.lightning_state_model_flop,
    },
    in_layers.softmax_state_flop,
)
ATTENTION_STATE_KEPT_BYTES = _of_state(
    "attention_state_kept_bytes",
    "byte",
    "What a layer's state, or branches beside dense tensors, keep for the backward, one sequence.",
    {
        "dilated": in_layers.dilated_state_kept_bytes,
        "dilated-heads": shares.dilated_heads_state_kept_bytes,
        "infini": in_layers.infini_state_kept_bytes,
        "linear": running.linear_state_kept_bytes,
        "compressive": running.compressive_state_kept_bytes,
        "gated-delta": in_layers.gated_delta_state_kept_bytes,
    },
    in_layers.softmax_state_kept_bytes,
    basis=Basis.ASSUMED,
)
ATTENTION_STATE_TRAFFIC_BYTES = _of_state(
    "attention_state_traffic_bytes",
    "byte",
    "A layer's states between chunks, or its branches, written and read, forward, one sequence.",
    {
        "dilated": in_layers.dilated_state_traffic_bytes,
        "dilated-heads": shares.dilated_heads_state_traffic_bytes,
        "infini": in_layers.infini_state_traffic_bytes,
        "linear": running.linear_state_traffic_bytes,
        "compressive": running.compressive_state_traffic_bytes,
        "gated-delta": in_layers.gated_delta_state_traffic_bytes,
        "lightning": in_layers.lightning_state_traffic_bytes,
    },
    in_layers.softmax_state_traffic_bytes,
    basis=Basis.ASSUMED,
)

_PROJECTIONS = (
    "Vaswani et al. 2017, arXiv:1706.03762, section 3.2; latent: DeepSeek-AI 2024, "
    "arXiv:2405.04434, section 2.1; gated delta: Yang et al. 2024, arXiv:2412.06464, section 3.3; "
    "lightning: MiniMax 2025, arXiv:2501.08313, section 2.2; counts equal to the modules of torch"
)


def _by_layout(what: str, softmax: Callable[..., Column]) -> Mapping[str, Callable[..., Column]]:
    """Return a function for each layout: that of softmax attention, or the layout's own."""
    own = {
        name: getattr(projections, f"{name.replace('-', '_')}_{what}_parameters")
        for name in ("latent", "gated-delta", "lightning")
    }
    return MappingProxyType(dict.fromkeys(OF_SOFTMAX_HEADS, softmax) | own)


def _stated(variants: Mapping[str, Callable[..., Column]]) -> Mapping[str, str]:
    """Return the expression of each layout's function."""
    return MappingProxyType({name: FORMULAS[each.__name__] for name, each in variants.items()})


_MATRIX = _by_layout("matrix", projections.softmax_matrix_parameters)
_VECTOR = MappingProxyType(
    dict(_by_layout("vector", projections.softmax_vector_parameters))
    | {"infini": projections.infini_vector_parameters}
)
_WHOLE = MappingProxyType(
    dict(_by_layout("whole", projections.softmax_whole_parameters))
    | {"compressive": projections.compressive_whole_parameters}
)

ATTENTION_MATRIX_PARAMETERS = Quantity(
    name="attention_matrix_parameters",
    unit="parameter",
    scope=Scope.LAYER,
    axes=(KIND,),
    definition="Weights of the projections of a layer's attention that are split by heads.",
    basis=Basis.EXACT,
    formula=ALGORITHM,
    source=_PROJECTIONS,
    variants=_MATRIX,
    formulas=_stated(_MATRIX),
    selector="layout",
)

ATTENTION_VECTOR_PARAMETERS = Quantity(
    name="attention_vector_parameters",
    unit="parameter",
    scope=Scope.LAYER,
    axes=(KIND,),
    definition="Biases and other vectors of a layer's attention that are split by heads.",
    basis=Basis.EXACT,
    formula=ALGORITHM,
    source=_PROJECTIONS,
    variants=_VECTOR,
    formulas=_stated(_VECTOR),
    selector="layout",
)

ATTENTION_WHOLE_PARAMETERS = Quantity(
    name="attention_whole_parameters",
    unit="parameter",
    scope=Scope.LAYER,
    axes=(KIND,),
    definition="Parameters of a layer's attention that every tensor-parallel rank holds.",
    basis=Basis.EXACT,
    formula=ALGORITHM,
    source=_PROJECTIONS,
    variants=_WHOLE,
    formulas=_stated(_WHOLE),
    selector="layout",
)


_MEGATRON_LATENT = (
    "by counting tensors; latent attention as Megatron-LM computes it, "
    "github.com/NVIDIA/Megatron-LM megatron/core/transformer/multi_latent_attention.py"
)


def _of_heads(
    name: str, definition: str, *, unit: str = "element", basis: Basis = Basis.EXACT
) -> Quantity:
    """Return a quantity that layouts have as softmax attention has it, or in their own way."""
    stem = name.removeprefix("attention_")
    softmax = getattr(elements, f"softmax_{stem}")
    own = {
        layout: getattr(elements, f"{layout.replace('-', '_')}_{stem}", softmax)
        for layout in ("latent", "gated-delta", "lightning")
    }
    variants = MappingProxyType(dict.fromkeys(OF_SOFTMAX_HEADS, softmax) | own)
    return Quantity(
        name=name,
        unit=unit,
        scope=Scope.LAYER,
        axes=(KIND,),
        definition=definition,
        basis=basis,
        formula=ALGORITHM,
        source=_MEGATRON_LATENT,
        variants=variants,
        formulas=_stated(variants),
        selector="layout",
    )


ATTENTION_QUERY_SIZE = _of_heads(
    "attention_query_size", "Width of a head's query and key.", unit="count"
)
ATTENTION_VALUE_SIZE = _of_heads("attention_value_size", "Width of a head's value.", unit="count")
ATTENTION_COMPRESSING_PARAMETERS = _of_heads(
    "attention_compressing_parameters",
    "Weights of a layer's attention that multiply a token for all heads, on every rank.",
    unit="parameter",
)
ATTENTION_PROJECTED_ELEMENTS = _of_heads(
    "attention_projected_elements",
    "Elements of heads that a layer's projections write and read, for one token.",
)
ATTENTION_COMPRESSED_ELEMENTS = _of_heads(
    "attention_compressed_elements",
    "Elements for all heads that a layer's projections write and read, for one token.",
)
ATTENTION_ROTATED_ELEMENTS = _of_heads(
    "attention_rotated_elements",
    "Elements that rotation, norms and gate of a layer's heads read and write, for one token.",
    basis=Basis.ASSUMED,
)
ATTENTION_KEPT_ELEMENTS = _of_heads(
    "attention_kept_elements",
    "Elements that a layer's heads keep for the backward beside scores, for one token.",
    basis=Basis.ASSUMED,
)
ATTENTION_KEPT_COMPRESSED_ELEMENTS = _of_heads(
    "attention_kept_compressed_elements",
    "Elements for all heads that a layer keeps for the backward, for one token.",
    basis=Basis.ASSUMED,
)
