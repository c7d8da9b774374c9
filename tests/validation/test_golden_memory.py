"""Megatron-LM's tests: described from their arguments, measured on one half, scored on the other."""

from collections.abc import Sequence

import pytest

from docs.extract_golden_memory import ARGUMENTS, COLUMNS
from validation.cases import passed
from validation.golden_memory import (
    Golden,
    contradicted,
    error_fractions,
    golden_cases,
    golden_tests,
    is_fit,
    rests,
    scores,
)
from validation.megatron_tests import (
    Row,
    chunks,
    cublas_workspace_bytes,
    engine_workspace_bytes,
    layers_of_stages,
    not_described,
    scenario_of,
    shared_buffer_bytes,
    terms_of,
)
from validation.published_memory import rows_of

TABLE = "megatron2025/golden_memory.csv"
MIB = 2**20


def row_of(**stated: str) -> Row:
    """Return a row of 12 layers of 512 on eight GPUs, with what is stated."""
    usual = {
        "test": "gpt/any",
        "accelerator": "A100-80GB",
        "gpus": "8",
        "implementation": "transformer_engine",
        "layers": "12",
        "hidden": "512",
        "heads": "8",
        "sequence_length": "1024",
        "max_positions": "1024",
        "micro_batch": "4",
        "bf16": "true",
        "cublas_workspace": ":4096:8",
        "recorded": "2026-05-30",
    }
    return dict.fromkeys(COLUMNS, "") | usual | stated


def test_every_row_is_described_or_left_out_for_a_reason() -> None:
    rows = rows_of(TABLE)
    tests, left_out = golden_tests()
    assert len(tests) + sum(left_out.values()) == len(rows)
    assert {row["split"] for row in rows} == {"test", "unseen"}
    assert set(ARGUMENTS) < set(rows[0])
    assert len(left_out) == len({not_described(row) for row in rows} - {""})


def test_the_rest_is_measured_on_one_half_and_scored_on_the_other() -> None:
    tests, _ = golden_tests()
    fitted = {test.test for test in tests if test.fits}
    scored = {test.test for test, _ in error_fractions()}
    assert not fitted & scored
    assert all(map(is_fit, fitted))
    assert not any(map(is_fit, scored))
    assert 0.3 < len(fitted) / len(fitted | scored) < 0.7


def test_nine_in_ten_are_within_two_per_cent() -> None:
    assert [case.name for case in golden_cases() if not passed(case)] == []
    for score in scores(lambda test: "in sight" if test.seen else "not in sight"):
        assert score.within >= 0.9 * score.scored, score


def test_the_rest_is_a_few_mib() -> None:
    tests, _ = golden_tests()
    assert rests(tests).keys() == {"A100-80GB", "H100-80GB", "GB200"}
    assert all(0 < rest < 5 * MIB for rest in rests(tests).values())


def test_a_test_without_pipeline_is_its_states_and_documented_workspaces() -> None:
    """Nothing but 64 and 4 or 32 MiB remains beside the states, to a thousandth."""
    name = "gpt/gpt3_mcore_te_tp1_pp1_resume_torch_dist_dist_optimizer_no_mmap_bin_files"
    found = [test for test in golden_tests()[0] if test.test == name]
    assert found
    for test in found:
        assert abs(test.left_bytes) < 1e-3 * test.logged_bytes, test.environment


def golden(environment: str, logged_bytes: int) -> Golden:
    """Return a test of one name with this value."""
    return Golden("one", environment, ("A100-80GB", "", ""), {}, logged_bytes, True, True)


def test_a_value_far_from_its_siblings_is_contradicted() -> None:
    siblings: Sequence[Golden] = [golden("a", 1000), golden("b", 1019), golden("c", 1021)]
    assert contradicted(siblings) == set()
    assert contradicted([*siblings, golden("d", 1100), golden("e", 1000)]) == {("one", "d")}
    assert contradicted([golden("alone", 7)]) == set()


@pytest.mark.parametrize(
    ("stated", "layers", "chunk_count"),
    [
        ({"pp": "4"}, [3, 3, 3, 3], 1),
        ({"pp": "4", "chunk_layers": "1"}, [3, 3, 3, 3], 3),
        ({"pp": "4", "first_stage_layers": "2", "last_stage_layers": "2"}, [2, 4, 4, 2], 1),
        (
            {
                "pp": "4",
                "layers": "6",
                "embedding_as_layer": "true",
                "loss_as_layer": "true",
                "chunks": "2",
            },
            [1, 2, 2, 1],
            2,
        ),
        ({"pp": "2", "layers": "15", "layout": "Et*3|(tt|)*6mL"}, [9, 6], 4),
        ({"pp": "2", "layers": "16", "layout": "Et*3|(tt|)*6tmL"}, [9, 7], 4),
    ],
)
def test_layers_of_stages(stated: dict[str, str], layers: list[int], chunk_count: int) -> None:
    row = row_of(**stated)
    assert layers_of_stages(row) == layers
    assert sum(layers) == int(row["layers"])
    assert chunks(row) == chunk_count


def test_fp16_takes_20_bytes_a_parameter_and_bf16_18() -> None:
    """The table of Megatron-LM's dist_optimizer.md: 20 and 4 + 16 / d; 18 and 6 + 12 / d."""
    kept = ("states", "copies of gradients")

    def bytes_of(**stated: str) -> float:
        terms = terms_of(row_of(**stated))
        return sum(terms[name] for name in kept)

    half = {"fp16": "true", "bf16": ""}
    assert bytes_of(**half) / bytes_of() == pytest.approx(20 / 18)
    shards = {"distributed_optimizer": "true"}
    assert bytes_of(**half, **shards) / bytes_of(**shards) == pytest.approx(6 / 7.5, rel=1e-5)


@pytest.mark.parametrize(
    ("stated", "tokens"),
    [
        ({}, 0),
        ({"tp": "2"}, 0),
        ({"tp": "2", "sequence_parallel": "true"}, 4096),
        ({"tp": "2", "sequence_parallel": "true", "cp": "2"}, 2048),
        ({"sequence_parallel": "true"}, 0),
        ({"experts": "8", "ep": "8"}, 8 * 4096),
        ({"experts": "8", "ep": "8", "dispatcher": "alltoall"}, 0),
        ({"experts": "8", "ep": "4", "tp": "2", "sequence_parallel": "true"}, 4 * 4096),
        ({"experts": "8", "ep": "4", "etp": "1", "tp": "2", "sequence_parallel": "true"}, 8192),
    ],
)
def test_the_shared_buffer_is_its_largest_use(stated: dict[str, str], tokens: int) -> None:
    assert shared_buffer_bytes(row_of(**stated)) == tokens * 512 * 2


def test_own_modules_keep_the_scores_of_attention() -> None:
    """A matrix of scores for each sequence and head of the rank, in 2 bytes."""
    own = {"implementation": "local"}
    assert shared_buffer_bytes(row_of(**own)) == 4 * 8 * 1024**2 * 2
    assert shared_buffer_bytes(row_of(**own, tp="4")) == 4 * 2 * 1024**2 * 2


@pytest.mark.parametrize(
    ("stated", "mib"),
    [
        ({}, 32),
        ({"cublas_workspace": ""}, 8.125),
        ({"cublas_workspace": "", "accelerator": "H100-80GB"}, 32),
        ({"cublas_workspace": "", "accelerator": "GB200"}, 32),
        ({"cublas_workspace": "", "accelerator": "GB200", "recorded": "2026-04-17"}, 8.125),
        ({"cublas_workspace": ":4096:2:16:8"}, 8.125),
    ],
)
def test_workspaces_of_cublas(stated: dict[str, str], mib: float) -> None:
    assert cublas_workspace_bytes(row_of(**stated)) == mib * MIB


@pytest.mark.parametrize(
    ("stated", "mib"),
    [
        ({}, 4),
        ({"accelerator": "H100-80GB"}, 32),
        ({"grouped_gemm": "true"}, 20),
        ({"implementation": "local"}, 0),
        ({"implementation": "local", "experts": "4"}, 4),
    ],
)
def test_workspaces_of_transformer_engine(stated: dict[str, str], mib: int) -> None:
    assert engine_workspace_bytes(row_of(**stated)) // MIB == mib


def test_widths_and_vocabulary_are_those_of_megatron() -> None:
    model = scenario_of(row_of(gated="true", tp="4")).model
    assert (model.intermediate_size, model.vocabulary_size) == (1344, 50_688)
    stated = row_of(vocabulary="131073", tokenizer="NullTokenizer", vocabulary_multiple="64")
    assert scenario_of(stated).model.vocabulary_size == 131_136
    experts = row_of(experts="8", ep="2", expert_ffn="1024", shared_ffn="512", ffn="4096")
    mixture = scenario_of(experts).model.mixture
    assert mixture is not None
    assert (mixture.expert_intermediate_size, mixture.shared_intermediate_size) == (1024, 512)


def test_states_sharded_over_a_part_of_the_replicas_take_more() -> None:
    shared = {"distributed_optimizer": "true"}
    over_all = terms_of(row_of(**shared))["states"]
    over_half = terms_of(row_of(**shared, optimizer_instances="2"))["states"]
    assert over_half / over_all == pytest.approx((6 + 12 / 4) / (6 + 12 / 8), rel=1e-5)


def test_full_sharding_is_the_third_stage_of_zero() -> None:
    states = terms_of(row_of(sharded="optim_grads_params"))["states"]
    assert states / terms_of(row_of())["states"] == pytest.approx(1 / 8, rel=1e-4)
