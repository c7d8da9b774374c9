"""Memory between steps by the closed forms, against golden values of Megatron-LM's own tests.

Megatron-LM logs allocated bytes after a step, on its last rank: weights, gradients, main weights and
moments of the last stage; in a pipeline, the last input of each chunk and its gradient, to which the
schedule still refers; and what libraries keep as workspace. Models are small (most have 12 layers of
512), so that the workspace is a tenth of them. It is one term for each accelerator and setting of
cuBLAS (tests that ask for deterministic results set ``CUBLAS_WORKSPACE_CONFIG``), measured as the
median of what is left on one half of the tests, by the hash of their names, and scored on the other
half. Documented sizes say the same: two workspaces of cuBLAS, of 32 MiB with the fixed setting, and
one of TransformerEngine, 4 MiB on A100 and 32 MiB on newer ones: 68 and 96 MiB.

The vocabulary is GPT-2's, 50,257, padded to a multiple of 128 for each tensor-parallel rank. A gated
network without a stated width is two thirds as wide, to a multiple of 64.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from hashlib import sha256
from statistics import median
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from costmodels.analysis import evaluate
from costmodels.compilation import compile_columns
from costmodels.scenario import Scenario, scenario_from_table
from validation.cases import Case
from validation.published_memory import SUITE, rows_of

WITHIN_FRACTION = 0.02
"""Error up to which a test counts as met [fraction]."""

_STATES = ("weights_bytes", "gradients_bytes", "optimizer_bytes")
_INPUT = "layer_input_bytes"
_CLUSTERS = {"A100-80GB": "a100-80gb-sxm", "H100-80GB": "h100-sxm", "GB200": "gb200"}
_MODULES = {"transformer_engine": "TransformerEngine", "local": "own modules"}
_GPT2_VOCABULARY, _PADDING = 50_257, 128


Group: TypeAlias = tuple[str, str, str]


class Golden(NamedTuple):
    """One test, what is said of its states, and what was logged.

    Attributes
    ----------
    test, environment : str
        Name of the test, and where it ran.
    group : tuple of str
        Accelerator, setting of cuBLAS, and whose modules: what decides the workspace.
    states_bytes, logged_bytes : int
        Weights, gradients, optimizer and pipeline inputs of the last stage; allocated bytes [byte].
    fits : bool
        Whether it is of the half on which the workspace is measured.
    """

    test: str
    environment: str
    group: Group
    states_bytes: int
    logged_bytes: int
    fits: bool

    @property
    def left_bytes(self) -> int:
        """Return what is left beside the states [byte]."""
        return self.logged_bytes - self.states_bytes


def is_fit(test: str) -> bool:
    """Return whether a test is of the half on which the workspace is measured, by its name."""
    return sha256(test.encode()).digest()[0] % 2 == 0


@cache
def golden_tests() -> tuple[tuple[Golden, ...], Mapping[str, int]]:
    """Return the tests that can be described, and how many others there are for which reason."""
    found, left_out = [], defaultdict[str, int](int)
    for row in rows_of("megatron2025/golden_memory.csv"):
        reason = _not_described(row)
        if reason:
            left_out[reason] += 1
            continue
        found.append(_golden(row))
    return tuple(found), dict(left_out)


_SPECIAL = {
    "uneven_pipeline": "layers of the last stage are not in the row",
    "account_for_embedding_loss": "layers of the last stage are not in the row",
    "muon": "another optimizer",
    "offloading": "states on the host",
    "mtp": "layers that predict further tokens",
    "memory_speed": "widths of experts are not in the row",
    "selective_recompute_experimental": "widths of experts are not in the row",
    "multi_dist_optimizer_instances": "states sharded over a part of the replicas",
}


def _not_described(row: Mapping[str, str]) -> str:
    """Return why a test cannot be described, empty where it can."""
    if row["accelerator"] not in _CLUSTERS:
        return "no accelerator named"
    if row["vocabulary"] != "tokenizer":
        return "another tokenizer"
    if "fp8" in row["precision"]:
        return "weights in fp8"
    if row["sharding"].startswith("FSDP"):
        return "fully sharded"
    return next((reason for part, reason in _SPECIAL.items() if part in row["test"]), "")


def _golden(row: Mapping[str, str]) -> Golden:
    values = evaluate(compile_columns(scenario_of(row)), (*_STATES, _INPUT))
    states = sum(int(np.asarray(values[name][-1]).item()) for name in _STATES)
    if row["pp"] != "1":
        states += 2 * int(row["vpp"]) * int(np.asarray(values[_INPUT]).item())
    setting = "fixed cuBLAS workspace" if row["deterministic"] == "1" else "default"
    return Golden(
        test=row["test"],
        environment=row["environment"],
        group=(row["accelerator"], setting, _MODULES[row["implementation"]]),
        states_bytes=states,
        logged_bytes=int(row["allocated_bytes"]),
        fits=is_fit(row["test"]),
    )


def scenario_of(row: Mapping[str, str]) -> Scenario:
    """Return the scenario of a test's row."""

    def size(name: str) -> int:
        return int(row[name])

    stages = size("pp")
    plan: dict[str, Any] = {
        "tensor_parallel_size": size("tp"),
        "pipeline_parallel_size": stages,
        "context_parallel_size": size("cp"),
        "micro_batch_size": size("micro_batch"),
        "sequence_parallel": size("tp") > 1 and row["sequence_parallel"] == "1",
        "zero_stage": int(row["sharding"].startswith("distributed")),
    }
    if row["experts"]:
        plan["expert_parallel_size"] = size("ep")
        plan["expert_tensor_parallel_size"] = _expert_ranks(row["test"]) or size("tp")
    if stages > 1:
        plan["layers_per_stage"] = [size("layers") // stages] * stages
    ranks = size("tp") * size("cp") * stages * size("dp")
    return scenario_from_table(
        {
            "model": _model(row),
            "cluster": f"{_CLUSTERS[row['accelerator']]}:{ranks}",
            "precision": "bf16-mixed",
            "plan": plan,
            "workload": {
                "global_batch_size": size("micro_batch") * size("dp") * stages,
                "sequence_length": size("sequence_length"),
            },
        }
    )


def _expert_ranks(test: str) -> int | None:
    """Return the ranks that split an expert, where the name of a test says so."""
    found = re.search(r"etp(\d)", test)
    return int(found[1]) if found else None


def _model(row: Mapping[str, str]) -> dict[str, Any]:
    hidden, heads, inner = int(row["hidden"]), int(row["heads"]), int(row["ffn"])
    gated, biased = row["gated"] == "1", "disable_bias_linear" not in row["test"]
    if gated and inner == 4 * hidden:
        inner = 8 * hidden // 3 // 64 * 64
    multiple = _PADDING * int(row["tp"])
    model: dict[str, Any] = {
        "name": row["test"],
        "num_hidden_layers": int(row["layers"]),
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "num_key_value_heads": int(row["kv_heads"]),
        "head_size": hidden // heads,
        "intermediate_size": inner,
        "gated": gated,
        "vocabulary_size": -(-_GPT2_VOCABULARY // multiple) * multiple,
        "tied_embeddings": row["untied"] == "0",
        "norm": "layernorm",
        "attention_bias": biased,
        "attention_output_bias": biased,
        "ffn_bias": biased,
        "positions": "rotary" if "rope" in row["test"] else "learned",
        "max_position_embeddings": int(row["sequence_length"]),
        "query_key_norm": "head" if "qk_layernorm" in row["test"] else "none",
    }
    if row["experts"]:
        model["mixture"] = {
            "expert_count": int(row["experts"]),
            "experts_per_token": int(row["experts_per_token"]),
        }
    return model


def workspaces(tests: Iterable[Golden]) -> dict[Group, float]:
    """Return the workspace of each group, of the tests that fit it [byte]."""
    left: dict[Group, list[int]] = defaultdict(list)
    for test in tests:
        if test.fits:
            left[test.group].append(test.left_bytes)
    return {group: median(sizes) for group, sizes in left.items()}


class Score(NamedTuple):
    """How well the scored tests of a group are met.

    Attributes
    ----------
    group : tuple of str
        Accelerator, setting of cuBLAS, implementation.
    scored, within : int
        Scored tests, and those whose error is at most `WITHIN_FRACTION` [count].
    workspace_bytes : float
        What was measured on the other half [byte].
    median_fraction, worst_fraction : float
        Median and worst of the errors, each with its sign [fraction].
    worst_test : str
        Where.
    """

    group: Group
    scored: int
    within: int
    workspace_bytes: float
    median_fraction: float
    worst_fraction: float
    worst_test: str


def scores() -> list[Score]:
    """Return how well the scored half is met, by group."""
    tests, _ = golden_tests()
    spaces = workspaces(tests)
    groups: dict[Group, list[Golden]] = defaultdict(list)
    for test in tests:
        if not test.fits and test.group in spaces:
            groups[test.group].append(test)
    return [_score(group, members, spaces[group]) for group, members in sorted(groups.items())]


def _score(group: Group, members: list[Golden], workspace_bytes: float) -> Score:
    errors = [
        ((test.states_bytes + workspace_bytes) / test.logged_bytes - 1, test.test)
        for test in members
    ]
    worst = max(errors, key=lambda entry: abs(entry[0]))
    return Score(
        group,
        len(members),
        sum(abs(error) <= WITHIN_FRACTION for error, _ in errors),
        workspace_bytes,
        median(error for error, _ in errors),
        worst[0],
        re.sub("^(gpt|moe)/", "", worst[1]),
    )


def golden_cases() -> list[Case]:
    """Return the median error of each group with TransformerEngine and a fixed workspace."""
    return list(_cases())


def _cases() -> Iterator[Case]:
    for score in scores():
        accelerator, setting, modules = score.group
        if setting == "default" or modules != _MODULES["transformer_engine"]:
            continue
        yield Case(
            suite=SUITE,
            name=f"Megatron-LM's tests: {accelerator}, {setting}, {score.scored} scored",
            claim="states of the last stage and one workspace are the allocated bytes, in the median",
            prediction=1 + score.median_fraction,
            measurement=1,
            unit="ratio",
            tolerance_fraction=WITHIN_FRACTION,
            tolerance_reason="batches and results of a step, some MiB, are not counted",
            method="allocated bytes on the last rank after a step, as logged; workspace measured "
            "on the other half of the tests",
            source="github.com/NVIDIA/Megatron-LM@d98e8a64dd, tests/functional_tests/test_cases",
        )
