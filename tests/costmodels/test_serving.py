"""Memory of inference: caches by layout, copies of heads, what a step holds, and its limits."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from costmodels.attention import (
    chunked,
    dilated,
    infini,
    linear,
    memories,
    per_head,
    shares,
    sliding,
)
from costmodels.attention.accounts import Account, Heads
from costmodels.errors import NotModelledError, ShardwiseError, SpecError
from costmodels.presets import model_preset
from costmodels.scenario import Scenario, scenario_from_table
from costmodels.serving.caches import cache_token_bytes, latent_cache_elements
from costmodels.serving.weights import softmax_copied_parameters
from costmodels.weight_storage import stored_tensors, weight_recipe
from simulator import whatif
from simulator.accounting import memory_account, traffic_account, work_account
from simulator.limits import limit

HEADS = Heads(1, 32, 8, 128, 128)


def serving(model: str = "llama-3.1-8b", gpus: int = 1, **changes: Any) -> Scenario:
    """Return a decode of one sequence of 8192 tokens; two underscores stand for a path's dot."""
    return scenario_from_table(
        {
            "model": model,
            "cluster": f"h200-sxm:{gpus}",
            "workload": {"kind": "decode", "global_batch_size": 1, "sequence_length": 8192},
        },
        {key.replace("__", "."): value for key, value in changes.items()},
    )


@pytest.mark.parametrize(
    ("model", "token_bytes"), [("deepseek-v3", 70_272), ("llama-3.1-405b", 516_096)]
)
def test_cache_of_a_token_as_printed(model: str, token_bytes: int) -> None:
    """DeepSeek-AI 2025, arXiv:2505.09343, table 1: cache of a token in bf16, in KB."""
    cache = memory_account(serving(model)).component("kv_cache_bytes")
    assert cache.stage_bytes == [8192 * token_bytes]


def test_each_layer_keeps_what_its_own_layout_needs() -> None:
    account = memory_account(serving("gpt-oss-20b", workload__sequence_length=100_000))
    token = 2 * 8 * 64 * 2
    assert [(c.layout, c.layer_count, c.sequence_bytes) for c in account.caches] == [
        ("sliding", 12, 128 * token),
        ("dense", 12, 100_000 * token),
    ]
    cache = account.component("kv_cache_bytes").stage_bytes
    assert cache == [12 * 128 * token + 12 * 100_000 * token]


def test_blocks_are_whole() -> None:
    scenario = serving(workload__sequence_length=1000, plan__kv_cache_block_length=16)
    assert memory_account(scenario).caches[0].cached_tokens == 1008


def test_the_cache_has_its_own_format() -> None:
    usual, wide = serving(), serving(precision__kv_cache="fp32")
    kept = [memory_account(s).component("kv_cache_bytes").stage_bytes[0] for s in (usual, wide)]
    assert kept[1] == 2 * kept[0]


def test_latent_attention_keeps_one_vector_on_every_rank_or_keys_and_values_of_its_heads() -> None:
    for gpus in (8, 16):
        own: dict[str, Any] = {"gpus": gpus, "plan__tensor_parallel_size": gpus}
        compressed = memory_account(serving("deepseek-v3", **own))
        heads = memory_account(serving("deepseek-v3", **own, plan__decompress_kv_cache=True))
        assert {cache.token_bytes for cache in compressed.caches} == {2 * 576}
        assert {cache.token_bytes for cache in heads.caches} == {2 * 128 // gpus * 320}
    assert latent_cache_elements(512, 64, 128, 128, 128, 1, 1) == 128 * 320


@pytest.mark.parametrize("ranks", [1, 2, 4, 8, 16, 32])
def test_more_ranks_than_heads_copy_them(ranks: int) -> None:
    account = memory_account(serving(gpus=ranks, plan__tensor_parallel_size=ranks))
    heads = max(8 // ranks, 1)
    assert account.caches[0].token_bytes == 2 * heads * 128 * 2
    matrices = 32 * 4096 * (2 * 32 * 128 // ranks + 2 * heads * 128 + 3 * 14336 // ranks)
    ends = 2 * 128_256 // ranks * 4096 + (2 * 32 + 1) * 4096
    held = account.component("served_weights_bytes").stage_bytes[0]
    copies = account.component("copied_weights_bytes").stage_bytes[0]
    assert held + copies == 2 * (matrices + ends)
    assert (copies > 0) == (ranks > 8)
    assert softmax_copied_parameters(1, ranks, ranks, 128, 4096, 1) == 0


@settings(max_examples=25)
@given(
    st.sampled_from(["llama-3.1-8b", "gpt-oss-20b", "mixtral-8x7b", "deepseek-v3"]),
    st.sampled_from([1, 2, 4, 8]),
    st.sampled_from([1, 2, 3]),
    st.integers(1, 64),
    st.integers(1, 5000),
    st.booleans(),
)
def test_parts_add_up_and_grow_with_the_work(
    model: str, tensor: int, pipeline: int, sequences: int, length: int, decodes: bool
) -> None:
    changes: dict[str, Any] = {
        "plan__tensor_parallel_size": tensor,
        "plan__pipeline_parallel_size": pipeline,
        "workload__kind": "decode" if decodes else "prefill",
    }
    base = serving(
        model,
        2 * tensor * pipeline,
        **changes,
        workload__global_batch_size=2 * sequences,
        workload__sequence_length=length,
    )
    account = memory_account(base)
    for stage, total in enumerate(account.stage_bytes):
        assert sum(entry.stage_bytes[stage] for entry in account.components) == total
    cache = account.component("kv_cache_bytes").stage_bytes
    assert sum(cache) == sequences * sum(c.layer_count * c.sequence_bytes for c in account.caches)
    for more in ({"global_batch_size": 2 * sequences + 2}, {"sequence_length": length + 1}):
        ((path, value),) = more.items()
        grown = serving(
            model,
            2 * tensor * pipeline,
            **changes,
            **{
                "workload__global_batch_size": 2 * sequences,
                "workload__sequence_length": length,
                f"workload__{path}": value,
            },
        )
        larger = memory_account(grown).stage_bytes
        assert all(a >= b for a, b in zip(larger, account.stage_bytes, strict=True))


def test_prefill_computes_whole_prompts_and_decode_one_token_each() -> None:
    work: dict[str, Any] = {"workload__global_batch_size": 12, "plan__micro_batch_size": 3}
    assert memory_account(serving(**work)).serving_tokens == 12
    prompts = memory_account(serving(**work, workload__kind="prefill"))
    assert (prompts.serving_tokens, prompts.replica_sequence_count) == (3 * 8192, 12)


@pytest.mark.parametrize("kind", ["prefill", "decode"])
@pytest.mark.parametrize(("quantity", "step"), [("batch", 2), ("context", 1)])
def test_the_largest_work_fits_and_the_next_does_not(kind: str, quantity: str, step: int) -> None:
    scenario = serving(
        "llama-3.1-70b",
        8,
        plan__tensor_parallel_size=4,
        workload__kind=kind,
        workload__global_batch_size=4,
    )
    found = limit(scenario, "largest", quantity)
    assert found.found is not None
    assert found.next is not None
    assert found.next.value == found.found.value + step
    for case, fits in ((found.found, True), (found.next, False)):
        changes: dict[str, Any] = {
            "plan__tensor_parallel_size": 4,
            "workload__kind": kind,
            "workload__global_batch_size": 4,
            found.field.replace(".", "__"): case.value,
        }
        changed = serving("llama-3.1-70b", 8, **changes)
        assert memory_account(changed) == case.memory
        assert case.memory.fits is fits
    assert found.growing_component


def test_the_fewest_gpus_hold_the_cache_in_replicas() -> None:
    scenario = serving("llama-3.1-8b", 64, workload__global_batch_size=1024)
    found = limit(scenario, "smallest", "gpus")
    assert found.found is not None
    sequences = 1024 // found.found.value
    assert found.found.memory.replica_sequence_count == sequences
    assert found.next is None or not found.next.memory.fits


def test_the_fewest_ranks_hold_a_model() -> None:
    found = limit(serving("llama-3.1-405b", 8, workload__global_batch_size=8), "smallest", _TENSOR)
    assert found.found is not None
    assert found.next is not None
    assert (found.found.value, found.next.value) == (8, 4)
    assert found.next.memory.worst_component == "served_weights_bytes"


_TENSOR = "tensor-parallel-size"


def test_other_commands_say_what_answers_about_inference() -> None:
    ask = (
        whatif.estimate,
        whatif.simulate,
        whatif.verdict,
        traffic_account,
        work_account,
        lambda scenario: whatif.explain(scenario, "memory.stage_bytes"),
    )
    for question in ask:
        with pytest.raises(NotModelledError, match=r"workload.kind \(decode\).*shardwise memory"):
            question(serving())


KEPT: dict[str, tuple[dict[str, Any], Account]] = {
    "sliding": (
        {"window": 500, "sink_tokens": 4},
        sliding.account(8192, HEADS, window=500, sink_tokens=4),
    ),
    "chunked": ({"chunk_length": 500}, chunked.account(8192, HEADS, chunk_length=500)),
    "dilated": (
        {"segment_lengths": [512, 2048], "dilation_rates": [1, 4]},
        dilated.account(8192, HEADS, branches=dilated.Branches((512, 2048), (1, 4))),
    ),
    "dilated-heads": (
        {"dilation_rates": [1, 8], "keys_per_query": 100},
        per_head.account(8192, HEADS, dilations=per_head.Dilations((1, 8), 100)),
    ),
    "infini": (
        {"segment_length": 2048, "delta_rule": True},
        infini.account(8192, HEADS, memory=infini.Memory(2048, 1)),
    ),
    "linear": ({"scan_length": 64}, linear.account(8192, HEADS, scan=linear.Scan(64))),
    "compressive": (
        {
            "segment_length": 512,
            "memory_tokens": 1024,
            "compressed_tokens": 300,
            "compression_rate": 4,
        },
        memories.account(
            8192,
            HEADS,
            compression=memories.Compression(512, 1024, 300, 4),
            hidden_size=4096,
        ),
    ),
}


@pytest.mark.parametrize("layout", KEPT)
def test_a_layer_keeps_the_state_of_its_layout(layout: str) -> None:
    """What `shardwise attention` says of one layer is what a model of such layers keeps."""
    fields, account = KEPT[layout]
    found = memory_account(serving(model__layouts=[{"type": layout, **fields}]))
    assert found.component("kv_cache_bytes").stage_bytes == [32 * account.peak_state_bytes]


@given(
    st.integers(1, 40),
    st.integers(1, 3),
    st.integers(1, 4),
    st.lists(st.tuples(st.integers(1, 17), st.integers(1, 6)), min_size=1, max_size=3),
    st.integers(1, 9),
    st.sampled_from(("sliding", "segment", "residue")),
)
def test_shares_of_heads_in_a_layer_are_heads_one_by_one(
    length: int,
    shared: int,
    group: int,
    drawn: list[tuple[int, int]],
    keys: int,
    reading: str,
) -> None:
    segments = () if reading == "sliding" else tuple(size for size, _ in drawn)
    rates = tuple(rate for _, rate in drawn)
    keys = keys if reading == "sliding" else 0
    heads = Heads(1, shared * group * len(rates), shared * len(rates), 8, 8, 2)
    residue = int(reading == "residue")
    own = per_head.Dilations(rates, keys, segments, residue)
    account = per_head.account(length, heads, dilations=own)
    given_sizes = (rates, segments, keys, residue)
    pairs = (length, heads.query_heads, *given_sizes)
    assert shares.all_attended_pairs(*pairs) == account.attended_pairs
    assert shares.all_executed_pairs(*pairs, 0) == account.executed_pairs
    assert shares.all_executed_pairs(*pairs, 1) == account.attended_pairs
    kept = shares.all_cached_tokens(length, heads.query_heads, heads.key_value_heads, *given_sizes)
    assert 2 * 8 * 2 * kept == account.peak_state_bytes


def test_a_layer_that_sees_the_future_keeps_no_cache() -> None:
    with pytest.raises(SpecError, match="keeps no cache"):
        serving(model__layouts=[{"type": "dense", "causal": False}])


def test_ranks_that_would_share_heads_unevenly_are_refused() -> None:
    with pytest.raises(ShardwiseError, match=r"num_key_value_heads \(8\)"):
        serving(
            gpus=3,
            plan__tensor_parallel_size=3,
            model__num_attention_heads=24,
            model__intermediate_size=14337,
        )


def test_notes_name_what_has_no_effect() -> None:
    base = memory_account(serving())
    notes = " ".join(base.notes)
    for path, value in (
        ("workload.optimizer", "sgd"),
        ("plan.recompute", "full"),
        ("precision.moments", "bf16"),
        ("workload.total_tokens", 1000),
        ("plan.decompress_kv_cache", True),
    ):
        assert path in notes
        change: dict[str, Any] = {path.replace(".", "__"): value}
        other = memory_account(serving(**change))
        assert other.components == base.components


@pytest.mark.parametrize("model", ["llama-3.1-8b", "mixtral-8x7b", "deepseek-v3", "gpt-oss-20b"])
@pytest.mark.parametrize("name", ["bf16", "awq-int4", "nf4-double", "gguf-Q4_K_M", "mxfp4-experts"])
def test_stored_weights_take_what_their_tensors_take(model: str, name: str) -> None:
    tensors = stored_tensors(model_preset(model), weight_recipe(name))
    whole = sum(entry.stored_bytes for entry in tensors)
    alone = memory_account(serving(model, precision__stored_weights=name))
    assert alone.component("served_weights_bytes").stage_bytes == [whole]
    own: dict[str, Any] = {"gpus": 4, "plan__tensor_parallel_size": 4}
    split = memory_account(serving(model, **own, precision__stored_weights=name))
    held = split.component("served_weights_bytes").stage_bytes[0]
    assert whole <= 4 * held < 1.02 * whole


def test_stages_hold_their_share_of_stored_weights() -> None:
    own: dict[str, Any] = {"gpus": 4, "plan__pipeline_parallel_size": 4}
    staged = memory_account(serving(**own, precision__stored_weights="awq-int4"))
    tensors = stored_tensors(model_preset("llama-3.1-8b"), weight_recipe("awq-int4"))
    held = staged.component("served_weights_bytes").stage_bytes
    assert sum(held) == sum(entry.stored_bytes for entry in tensors)


def test_a_cache_of_eight_bits_is_half_as_large() -> None:
    usual = memory_account(serving()).component("kv_cache_bytes").stage_bytes[0]
    for name in ("fp8_e4m3fn", "fp8_e5m2", "int8"):
        narrow = memory_account(serving(precision__kv_cache=name))
        assert narrow.component("kv_cache_bytes").stage_bytes[0] * 2 == usual


def test_stored_weights_are_refused_by_name_where_they_have_no_model() -> None:
    with pytest.raises(SpecError, match=r"precision.stored_weights: unknown storage of weights"):
        serving(precision__stored_weights="int5")
    with pytest.raises(
        NotModelledError, match=r"precision.stored_weights \(nf4\): weights in few bits are not"
    ):
        serving(
            precision__stored_weights="nf4",
            workload__kind="training",
            precision="bf16-mixed",
        )


@pytest.mark.parametrize(
    ("recipe", "token_bytes"),
    [
        ("bf16", 32 * 4096),
        ("serve-bf16-kv-fp8", 32 * 2048),
        ("serve-bf16-kv-int8", 32 * 2048),
        ("serve-bf16-kv-int8-head", 32 * (2048 + 16 * 4)),
        ("serve-bf16-kv-int4", 32 * (1024 + 16 * 4)),
        ("serve-bf16-kv-q4-0", 32 * 2048 // 32 * 18),
    ],
)
def test_a_cache_in_few_bits_takes_codes_and_scales(recipe: str, token_bytes: int) -> None:
    """Eight heads of 128 for keys and for values, in 32 layers; a block of q4_0 takes 18 bytes."""
    account = memory_account(serving(precision=recipe))
    assert account.component("kv_cache_bytes").stage_bytes[0] == 8192 * token_bytes
    assert 32 * account.caches[0].token_bytes == token_bytes


@given(st.integers(1, 1000), st.integers(1, 300), st.integers(0, 8))
def test_scales_are_at_least_one_for_each_token(elements: int, group: int, scale: int) -> None:
    packed = int(cache_token_bytes(elements, 4, 0, scale))
    grouped = int(cache_token_bytes(elements, 4, group, scale))
    assert packed == -(-elements // 2)
    assert packed + scale <= grouped <= packed + elements * scale


def test_a_packed_cache_of_states_is_refused_by_name() -> None:
    with pytest.raises(NotModelledError, match=r"precision.kv_cache \(int4\): packed or grouped"):
        serving(
            precision="serve-bf16-kv-int4",
            model__layouts=[{"type": "linear", "scan_length": 64}],
        )
