"""Activations against Korthikanti et al. 2022, arXiv:2205.05198, and tensors counted one by one."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodels.activations import megatron_core_bytes
from costmodels.analysis import evaluate
from costmodels.compilation import compile_columns
from costmodels.scenario import Scenario
from tests.costmodels.witnesses import witness

# Models of the paper's Table 3: heads a, hidden size h, layers L; s = 2048.
GPT_3, TURING_NLG = (96, 12288, 96), (128, 20480, 105)
LENGTH = 2048


def gpt(
    model: tuple[int, int, int], *, tensor: int = 1, sequence_parallel: bool = False, **plan: Any
) -> Scenario:
    """Return the paper's setting: 16 bits, dropout, the matrix of scores kept."""
    heads, hidden, layers = model
    return witness(
        "tied",
        precision="fp16-mixed",
        workload={"global_batch_size": plan.get("micro_batch_size", 1), "sequence_length": LENGTH},
        model__num_hidden_layers=layers,
        model__num_attention_heads=heads,
        model__num_key_value_heads=heads,
        model__hidden_size=hidden,
        model__head_size=hidden // heads,
        model__intermediate_size=4 * hidden,
        cluster__accelerator_count=tensor,
        plan__tensor_parallel_size=tensor,
        plan__sequence_parallel=sequence_parallel,
        **{f"plan__{name}": value for name, value in plan.items()},
    )


def of_layer(scenario: Scenario, name: str = "layer_stored_bytes") -> int:
    return int(evaluate(compile_columns(scenario), [name])[name][0][0])


@pytest.mark.parametrize("model", [GPT_3, TURING_NLG])
@pytest.mark.parametrize("micro", [1, 4])
def test_a_layer_keeps_34_sbh_and_5_as2b(model: tuple[int, int, int], micro: int) -> None:
    """Equation 1."""
    heads, hidden, _ = model
    kept = 34 * LENGTH * micro * hidden + 5 * heads * LENGTH**2 * micro
    assert of_layer(gpt(model, micro_batch_size=micro)) == kept


@pytest.mark.parametrize("model", [GPT_3, TURING_NLG])
@pytest.mark.parametrize("tensor", [2, 4, 8])
def test_tensor_parallelism_splits_24_of_34(model: tuple[int, int, int], tensor: int) -> None:
    """Equation 2: s b h (10 + 24 / t + 5 a s / (h t))."""
    heads, hidden, _ = model
    kept = LENGTH * hidden * 10 + (24 * LENGTH * hidden + 5 * heads * LENGTH**2) // tensor
    assert of_layer(gpt(model, tensor=tensor)) == kept


@pytest.mark.parametrize("model", [GPT_3, TURING_NLG])
@pytest.mark.parametrize("tensor", [2, 4, 8])
def test_sequence_parallelism_splits_everything(model: tuple[int, int, int], tensor: int) -> None:
    """Equation 4: s b h / t (34 + 5 a s / h)."""
    heads, hidden, _ = model
    kept = (34 * LENGTH * hidden + 5 * heads * LENGTH**2) // tensor
    assert of_layer(gpt(model, tensor=tensor, sequence_parallel=True)) == kept


@pytest.mark.parametrize("tensor", [1, 8])
def test_selective_recomputation_keeps_34(tensor: int) -> None:
    """Equation 6: 34 s b h / t."""
    scenario = gpt(GPT_3, tensor=tensor, sequence_parallel=tensor > 1, recompute="selective")
    assert of_layer(scenario) == 34 * LENGTH * 12288 // tensor


@pytest.mark.parametrize("tensor", [1, 8])
def test_full_recomputation_keeps_the_input(tensor: int) -> None:
    """Section 5: 2 s b h."""
    scenario = gpt(GPT_3, tensor=tensor, recompute="full")
    assert of_layer(scenario) == 2 * LENGTH * 12288


@pytest.mark.parametrize(("model", "printed"), [(GPT_3, 0.70), (TURING_NLG, 0.65)])
def test_selective_recomputation_saves_what_the_paper_prints(
    model: tuple[int, int, int], printed: float
) -> None:
    """Section 5: 70 % for GPT-3, 65 % for MT-NLG, printed in whole percent."""
    kept = of_layer(gpt(model, recompute="selective"))
    saved = 1 - kept / of_layer(gpt(model))
    assert saved == pytest.approx(printed, abs=0.005)


def test_gpt_3_by_hand() -> None:
    """For GPT-3, 5 a s / h = 80: a layer keeps 114 s b h."""
    assert of_layer(gpt(GPT_3)) == 114 * 2048 * 12288


def test_the_first_stage_of_1f1b_keeps_all_layers() -> None:
    """Section 4.2.3: p microbatches in flight of L / p layers each, s b h L (34 + ...) / t."""
    scenario = witness(
        "tied",
        precision="fp16-mixed",
        cluster="a100-80gb-sxm:64",
        workload={"global_batch_size": 64, "sequence_length": LENGTH},
        plan={
            "tensor_parallel_size": 8,
            "pipeline_parallel_size": 8,
            "sequence_parallel": True,
            "attention_kernel": "naive",
            "layers_per_stage": [12] * 8,
        },
    )
    activations = evaluate(compile_columns(scenario), ["activations_bytes"])["activations_bytes"]
    layers = 96 * 114 * LENGTH * 12288 // 8
    # Beside the layers: the mask of the embedding's dropout, a byte an element, p times.
    assert int(activations[0][0]) == layers + 8 * LENGTH * 12288 // 8


@given(
    heads=st.integers(1, 8),
    groups=st.integers(1, 4),
    head=st.integers(1, 64),
    length=st.integers(1, 64),
    micro=st.integers(1, 4),
    inner=st.integers(1, 100),
    flags=st.tuples(st.booleans(), st.booleans(), st.booleans()),
)
def test_a_layer_keeps_the_tensors_of_its_list(
    heads: int,
    groups: int,
    head: int,
    length: int,
    micro: int,
    inner: int,
    flags: tuple[bool, bool, bool],
) -> None:
    gated, dropout, flash = flags
    hidden, tokens = 48, micro * length
    scenario = witness(
        "small",
        workload={"global_batch_size": micro, "sequence_length": length},
        cluster__accelerator_count=1,
        model__hidden_size=hidden,
        model__num_attention_heads=heads * groups,
        model__num_key_value_heads=heads,
        model__head_size=head,
        model__intermediate_size=inner,
        model__gated=gated,
        model__dropout=dropout,
        plan__micro_batch_size=micro,
        plan__attention_kernel="flash" if flash else "naive",
    )
    # Elements in bf16: input and output of both norms; queries and output, keys and values; the
    # up projection (with its gate) and what enters the down projection.
    elements = tokens * (4 * hidden + 2 * heads * groups * head + 2 * heads * head)
    elements += tokens * inner * (3 if gated else 2)
    kept = 2 * elements + (2 * tokens * hidden if dropout else 0)
    scores = micro * heads * groups * length * length
    if flash:
        kept += 4 * micro * heads * groups * length
    else:
        kept += scores * (2 + (3 if dropout else 0))
    assert of_layer(scenario) == kept


@given(st.integers(1, 512), st.integers(1, 64), st.integers(0, 1))
def test_flash_keeps_no_matrix_of_scores(length: int, heads: int, dropout: int) -> None:
    pairs = length * (length + 1) // 2
    kept = megatron_core_bytes(1, length, pairs, 1, 1, 2, dropout, heads, 0, 1)
    assert kept == 4 * length * heads


def test_recomputation_needs_the_largest_layer_for_a_moment() -> None:
    scenario = gpt(GPT_3, recompute="full")
    assert of_layer(scenario, "layer_recomputed_bytes") == (114 - 2) * LENGTH * 12288
    assert of_layer(gpt(GPT_3), "layer_recomputed_bytes") == 0
    inside = of_layer(gpt(GPT_3, recompute="selective"), "layer_recomputed_bytes")
    assert inside == 5 * 96 * LENGTH**2


BESIDE_THE_STANDARD: list[tuple[dict[str, Any], int, int, int]] = [
    # Changes, and what a layer keeps more: elements of 2 bytes whole and split, and other bytes.
    # Queries of 32 heads and keys of 8 before their norm, each head 128 wide.
    ({"model__query_key_norm": "head"}, 0, 32 * 128 + 8 * 128, 0),
    ({"model__query_key_norm": "full"}, 0, 32 * 128 + 8 * 128, 0),
    ({"model__query_key_norm": "unscaled"}, 0, 32 * 128 + 8 * 128, 0),
    # The gate, and the product of gate and weighted values that the output projection reads.
    ({"model__attention_output_gate": True}, 0, 32 * 128 + 32 * 128, 0),
    # The output of attention and that of the feed-forward network, each input of a norm.
    ({"model__norms_per_layer": 4}, 4096 + 4096, 0, 0),
    ({"model__attention_sinks": True}, 0, 0, 0),
    ({"model__head_bias": True}, 0, 0, 0),
]


@pytest.mark.parametrize(("changes", "whole", "split", "other"), BESIDE_THE_STANDARD)
@pytest.mark.parametrize(("ranks", "sequence_parallel"), [(1, False), (4, False), (4, True)])
def test_what_a_layer_keeps_beside_the_standard(
    changes: dict[str, Any],
    whole: int,
    split: int,
    other: int,
    ranks: int,
    sequence_parallel: bool,
) -> None:
    plan = {"tensor_parallel_size": ranks, "sequence_parallel": sequence_parallel}
    plain, changed = (of_layer(witness("small", plan=plan, **fields)) for fields in ({}, changes))
    tokens = 1024
    held = tokens // ranks if sequence_parallel else tokens
    assert changed - plain == 2 * (held * whole + tokens * split // ranks) + other


def kinds_of(scenario: Scenario, name: str) -> list[int]:
    """Return a quantity of each kind of layer."""
    return [int(kind[0]) for kind in evaluate(compile_columns(scenario), [name])[name]]


@pytest.mark.parametrize("gate", [False, True])
@pytest.mark.parametrize(("ranks", "sequence_parallel"), [(1, False), (4, False), (4, True)])
def test_shared_experts_dense_layers_and_the_width_of_experts(
    gate: bool, ranks: int, sequence_parallel: bool
) -> None:
    scenario = witness(
        "mixture",
        plan={"tensor_parallel_size": ranks, "sequence_parallel": sequence_parallel},
        model__mixture__dense_layers=[0],
        model__mixture__expert_intermediate_size=1408,
        model__mixture__shared_intermediate_size=2816,
        model__mixture__shared_gate=gate,
    )
    tokens, hidden = 1024, 4096
    held = tokens // ranks if sequence_parallel else tokens
    # In bf16: input and output of both norms; queries and weighted values, keys and values. One
    # logsumexp of 4 bytes for each query of a head.
    attention = 2 * held * (2 * hidden) + 2 * tokens * (2 * 4096 + 2 * 1024) // ranks
    attention += 4 * tokens * 32 // ranks

    def network(width: int) -> int:
        """Gate and up projections, and what enters the down projection."""
        return 2 * tokens * (3 * width) // ranks

    norm = 2 * held * (2 * hidden)
    # Tokens sorted to two experts and what these return, and fp32 probabilities of eight and two.
    routed = 2 * (2 * tokens * hidden + 2 * tokens * hidden) + 4 * held * (8 + 2)
    # With a gate, the output of the shared experts in bf16 and the gate in fp32.
    gated = 2 * held * hidden + 4 * held if gate else 0
    without = attention + norm + network(14336)
    having = attention + norm + 2 * network(1408) + network(2816) + routed + gated
    assert kinds_of(scenario, "layer_stored_bytes") == [without, having]


def test_a_norm_of_the_embedding_keeps_its_input() -> None:
    plain, normed = (
        int(
            evaluate(
                compile_columns(witness("small", model__embedding_norm=norm)),
                ["embedding_saved_bytes"],
            )["embedding_saved_bytes"][0]
        )
        for norm in (False, True)
    )
    assert (plain, normed) == (0, 2 * 1024 * 4096)


def test_a_mixture_keeps_routed_tokens_for_each_chosen_expert() -> None:
    """Permuted inputs and outputs of two experts in bf16, and fp32 probabilities of eight and two."""
    scenario = witness("mixture")
    tokens = 1024
    kept = tokens * (2 * 2 * 4096 * 2 + 4 * (8 + 2))
    assert of_layer(scenario, "mixture_saved_bytes") == kept
    assert of_layer(witness("small"), "mixture_saved_bytes") == 0


ENGINE = {"plan__saved_tensors": "transformer-engine"}


def test_transformer_engine_keeps_statistics_of_norms() -> None:
    """RMSNorm: one number of fp32 a token, LayerNorm two."""
    for norm, statistics in {"rmsnorm": 1, "layernorm": 2}.items():
        plain, engine = (
            of_layer(witness("small", model__norm=norm, **fields)) for fields in ({}, ENGINE)
        )
        assert engine - plain == 2 * statistics * 4 * 1024


def test_transformer_engine_keeps_no_output_of_experts() -> None:
    plain, engine = (
        of_layer(witness("mixture", **fields), "mixture_saved_bytes") for fields in ({}, ENGINE)
    )
    assert plain - engine == 2 * 1024 * 4096 * 2


def test_torch_on_cuda_keeps_the_tensors_of_its_kernels() -> None:
    """Llama 3.1 8B: norms, rotated queries and keys, values, output, logsumexp, gate, silu, up."""
    scenario = witness("small", plan__saved_tensors="torch-cuda")
    tokens = 1024
    norms = 2 * tokens * (2 * 4096 * 2 + 4)
    heads = 2 * tokens * (2 * 4096 + 2 * 1024) + 4 * 32 * tokens + 16
    network = 2 * tokens * 4 * 14336
    assert of_layer(scenario) == norms + heads + network
    ends = evaluate(compile_columns(scenario), ["embedding_saved_bytes", "head_saved_bytes"])
    assert int(ends["embedding_saved_bytes"][0]) == 8 * tokens
    head = tokens * (2 * 2 * 4096 + 4) + tokens * (128256 * 4 + 8) + 4
    assert int(ends["head_saved_bytes"][0]) == head


def test_torch_on_cuda_keeps_latent_attention_with_its_views() -> None:
    """DeepSeek-V2's list: the expanded keys stay, since the value is a view of them."""
    scenario = witness(
        "small",
        plan__saved_tensors="torch-cuda",
        model__num_key_value_heads=32,
        model__layouts=[
            {
                "type": "latent",
                "query_rank": 1536,
                "key_value_rank": 512,
                "unrotated_size": 128,
                "rotated_size": 64,
                "value_size": 128,
            }
        ],
    )
    heads = 2 * 32 * (2 * 192 + 256 + 128)
    compressed = 2 * (2 * 1536 + 2 * 512 + 64) + 4 * 2
    whole = 1024 * (heads + compressed + 2 * 2 * 4096 + 4)
    assert of_layer(scenario, "attention_saved_bytes") == whole
