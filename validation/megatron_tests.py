"""Megatron-LM's own tests of gpt and moe models: what is allocated between steps, term by term.

A row of ``megatron2025/golden_memory.csv`` holds the arguments of a test. From them follow a scenario,
whose closed forms give the states of the last stage, and terms that a plan leaves out because they
are a detail of this program or of its libraries; each is as stated in their code:

- *pipeline inputs*: in a pipeline, the last input of each chunk and its gradient, to which the
  schedule still refers.
- *copies of gradients*: with ``--fp16``, gradients are kept in fp16 and copied to fp32 for the
  optimizer until the next step (``megatron/core/optimizer/optimizer.py``; 20 bytes a parameter in
  ``docs/user-guide/features/dist_optimizer.md``).
- *shared buffer*: one buffer that grows to the largest of its uses and stays
  (``GlobalMemoryBuffer``, ``megatron/core/utils.py``): the input of the head gathered under sequence
  parallelism, scores of attention in Megatron-LM's own modules, and tokens gathered for experts by
  the dispatcher ``allgather``.
- *cuBLAS*: PyTorch keeps a workspace for each handle, one of forward and one of backward: what
  ``CUBLAS_WORKSPACE_CONFIG`` says, else 32 MiB on Hopper, and on Blackwell since
  github.com/pytorch/pytorch/pull/175344, which is in the container of the tests from 7 May 2026 on;
  else 8.125 MiB (``aten/src/ATen/cuda/CublasHandlePool.cpp``).
- *TransformerEngine*: a workspace of 32 MiB and 256 bytes from Hopper on, else of 4 MiB, and four
  more for grouped products (``transformer_engine/pytorch/module/base.py``).

The vocabulary is GPT-2's, 50,257, padded to a multiple of 128 for each tensor-parallel rank, unless
the arguments say else. A gated network without a stated width is two thirds as wide, to a multiple
of 64 (``megatron/training/arguments.py``).
"""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeAlias

import numpy as np

from costmodels.analysis import evaluate
from costmodels.compilation import compile_columns
from costmodels.scenario import Scenario, scenario_from_table
from costmodels.units import parse_quantity

Row: TypeAlias = dict[str, str]

_STATES = ("weights_bytes", "gradients_bytes", "optimizer_bytes")
_INPUT = "layer_input_bytes"
_CLUSTERS = {"A100-80GB": "a100-80gb-sxm", "H100-80GB": "h100-sxm", "GB200": "gb200"}
_GPT2_VOCABULARY, _PADDING = 50_257, 128
_OWN = "local"
_BLACKWELL_SINCE = "2026-05-07"
"""Day from which the tests' container has PyTorch with the larger workspace on Blackwell."""

_NOT_DESCRIBING = dict.fromkeys(
    ("split", "environment", "recorded", "allocated_bytes", "cublas_workspace"), ""
)
_LARGE, _SMALL, _SMALL_ENGINE = (
    int(parse_quantity(size, "bytes")) for size in ("32 MiB", "8320 KiB", "4 MiB")
)
_HANDLES, _GROUPED_STREAMS, _SCALES = 2, 4, 256


def _number(row: Row, column: str, default: int = 1) -> int:
    return int(row[column] or default)


def _stated(row: Row, column: str) -> bool:
    return row[column].lower() == "true"


def replicas(row: Row) -> int:
    """Return the data-parallel replicas of a test."""
    return _number(row, "gpus") // (_number(row, "tp") * _number(row, "pp") * _number(row, "cp"))


_ZERO_STAGES: Mapping[str, int] = {"optim": 1, "optim_grads": 2, "optim_grads_params": 3}
"""Stages of ZeRO by what Megatron-LM's fully sharded data parallelism shards."""

_LEFT_OUT: Mapping[str, str] = {
    "reinforcement": "training by reinforcement",
    "fp8": "fp8",
    "teacher": "a second model, the teacher",
}


def not_described(row: Row) -> str:
    """Return why a test cannot be described, empty where it can."""
    if row["accelerator"] not in _CLUSTERS:
        return "no accelerator named"
    for column, reason in _LEFT_OUT.items():
        if row[column]:
            return reason
    if row["tokenizer"] not in ("", "NullTokenizer"):
        return "another tokenizer"
    return ""


def layers_of_stages(row: Row) -> list[int]:
    """Return the layers of each pipeline rank."""
    layers, stages = _number(row, "layers"), _number(row, "pp")
    if row["layout"]:
        return [
            sum(_decoders(part) for part in _parts(row["layout"])[rank::stages])
            for rank in range(stages)
        ]
    first, last = _number(row, "first_stage_layers", 0), _number(row, "last_stage_layers", 0)
    if first or last:
        between = (layers - first - last) // (stages - bool(first) - bool(last))
        return [first or between, *[between] * (stages - 2), last or between]
    embedding, loss = _stated(row, "embedding_as_layer"), _stated(row, "loss_as_layer")
    each = (layers + embedding + loss) // stages
    found = [each] * stages
    found[0] -= embedding
    found[-1] -= loss
    return found


def _parts(layout: str) -> list[str]:
    """Return the chunks of a layout such as ``Et*3|(tt|)*6mL``, with its factors written out."""
    written = re.sub(r"\(([^)]*)\)\*(\d+)", lambda m: m[1] * int(m[2]), layout)
    written = re.sub(r"(\w)\*(\d+)", lambda m: m[1] * int(m[2]), written)
    return written.split("|")


def _decoders(part: str) -> int:
    return part.count("t")


def chunks(row: Row) -> int:
    """Return the chunks of layers on a pipeline rank."""
    stages = _number(row, "pp")
    if row["layout"]:
        return len(_parts(row["layout"])) // stages
    if row["chunks"]:
        return int(row["chunks"])
    if row["chunk_layers"]:
        return _number(row, "layers") // stages // int(row["chunk_layers"])
    return 1


def scenario_of(row: Row) -> Scenario:
    """Return the scenario of a test's row."""
    tensor, stages = _number(row, "tp"), _number(row, "pp")
    sharded = _stated(row, "distributed_optimizer")
    plan: dict[str, Any] = {
        "tensor_parallel_size": tensor,
        "pipeline_parallel_size": stages,
        "context_parallel_size": _number(row, "cp"),
        "micro_batch_size": _number(row, "micro_batch"),
        "sequence_parallel": tensor > 1 and _stated(row, "sequence_parallel"),
        "zero_stage": _ZERO_STAGES[row["sharded"]] if row["sharded"] else int(sharded),
    }
    if row["experts"]:
        plan["expert_parallel_size"] = _number(row, "ep")
        plan["expert_tensor_parallel_size"] = _number(row, "etp", tensor)
    if sharded and _number(row, "optimizer_instances") > 1:
        plan["sharding_group_size"] = (
            replicas(row) * _number(row, "cp") // _number(row, "optimizer_instances")
        )
    if stages > 1:
        plan["layers_per_stage"] = layers_of_stages(row)
    return scenario_from_table(
        {
            "model": _model(row),
            "cluster": f"{_CLUSTERS[row['accelerator']]}:{row['gpus']}",
            "precision": "fp16-mixed" if _stated(row, "fp16") else "bf16-mixed",
            "plan": plan,
            "workload": {
                "global_batch_size": _number(row, "micro_batch") * replicas(row) * stages,
                "sequence_length": _number(row, "sequence_length"),
                "optimizer": row["optimizer"] or "adam",
            },
        }
    )


def _model(row: Row) -> dict[str, Any]:
    hidden, heads = _number(row, "hidden"), _number(row, "heads")
    gated, biased = _stated(row, "gated"), not _stated(row, "no_bias")
    default = 8 * hidden // 3 // 64 * 64 if gated else 4 * hidden
    multiple = _number(row, "vocabulary_multiple", _PADDING) * _number(row, "tp")
    words = int(row["vocabulary"]) + 1 if row["vocabulary"] else _GPT2_VOCABULARY
    rotary = row["positions"] == "rope" or _stated(row, "rotary")
    model: dict[str, Any] = {
        "name": row["test"],
        "num_hidden_layers": _number(row, "layers"),
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "num_key_value_heads": (
            _number(row, "kv_heads", heads) if _stated(row, "grouped_queries") else heads
        ),
        "head_size": _number(row, "head_size", hidden // heads),
        "intermediate_size": _number(row, "ffn", default),
        "gated": gated,
        "vocabulary_size": -(-words // multiple) * multiple,
        "tied_embeddings": not _stated(row, "untied"),
        "norm": "rmsnorm" if row["norm"] == "RMSNorm" else "layernorm",
        "attention_bias": biased,
        "attention_output_bias": biased,
        "ffn_bias": biased,
        "positions": "rotary" if rotary else "learned",
        "max_position_embeddings": _number(row, "max_positions"),
        "query_key_norm": "head" if _stated(row, "qk_norm") else "none",
        "multi_token_prediction_layers": _number(row, "further_tokens", 0),
    }
    if row["experts"]:
        model["mixture"] = _mixture(row)
    if _stated(row, "latent"):
        model["query_key_norm"] = "none"
        model["layouts"] = [
            {
                "type": "latent",
                "query_rank": _number(row, "q_rank", 0),
                "key_value_rank": _number(row, "kv_rank"),
                "unrotated_size": _number(row, "qk_head"),
                "rotated_size": _number(row, "rope_head"),
                "value_size": _number(row, "v_head"),
            }
        ]
    return model


def _mixture(row: Row) -> dict[str, Any]:
    mixture: dict[str, Any] = {
        "expert_count": int(row["experts"]),
        "experts_per_token": _number(row, "experts_per_token", 2),
        "shared_intermediate_size": _number(row, "shared_ffn", 0),
        "dense_layers": list(range(_dense_layers(row["mixture_layers"]))),
    }
    if row["expert_ffn"]:
        mixture["expert_intermediate_size"] = int(row["expert_ffn"])
    return mixture


def _dense_layers(pattern: str) -> int:
    """Return how many layers come before those with experts, in a pattern ``([0]*3+[1]*13)``."""
    found = re.search(r"\[0\]\*(\d+)", pattern)
    return int(found[1]) if found else 0


def terms_of(row: Row) -> dict[str, float]:
    """Return what is allocated between steps on the last rank, by term [byte]."""
    sizes = _last_stage(tuple((row | {"accelerator": "A100-80GB"} | _NOT_DESCRIBING).items()))
    held = 2 * chunks(row) * sizes[_INPUT] if _number(row, "pp") > 1 else 0
    return {
        "states": sum(sizes[name] for name in _STATES),
        "pipeline inputs": held,
        "copies of gradients": sizes["optimizer_bytes"] / 3 if _stated(row, "fp16") else 0,
        "shared buffer": shared_buffer_bytes(row),
        "cuBLAS": _HANDLES * cublas_workspace_bytes(row),
        "TransformerEngine": engine_workspace_bytes(row),
    }


@cache
def _last_stage(described: tuple[tuple[str, str], ...]) -> Mapping[str, int]:
    """Return the closed forms of the last stage [byte]: the same on all accelerators."""
    values = evaluate(compile_columns(scenario_of(dict(described))), (*_STATES, _INPUT))
    return {name: int(np.asarray(values[name]).ravel()[-1]) for name in (*_STATES, _INPUT)}


def shared_buffer_bytes(row: Row) -> int:
    """Return the buffer that grows to the largest of its uses and stays [byte]."""
    tensor, context = _number(row, "tp"), _number(row, "cp")
    batch, length = _number(row, "micro_batch"), _number(row, "sequence_length") // context
    split = tensor > 1 and _stated(row, "sequence_parallel")
    tokens = batch * length
    uses = [tokens * _number(row, "hidden") if split else 0]
    if row["implementation"] == _OWN:
        uses.append(batch * _number(row, "heads") // tensor * length**2)
    if row["experts"] and row["dispatcher"] in ("", "allgather"):
        ranks = _number(row, "ep") * _number(row, "etp", tensor)
        local = tokens // tensor if split else tokens
        uses.append(local * ranks * _number(row, "hidden") if ranks > 1 else 0)
    return 2 * max(uses)


def cublas_workspace_bytes(row: Row) -> int:
    """Return a workspace of cuBLAS as PyTorch sets it [byte]."""
    if row["cublas_workspace"]:
        pairs = re.findall(r":(\d+):(\d+)", row["cublas_workspace"])
        return sum(
            int(parse_quantity(f"{size} KiB", "bytes")) * int(count) for size, count in pairs
        )
    large = row["accelerator"] == "H100-80GB" or (
        row["accelerator"] == "GB200" and row["recorded"] >= _BLACKWELL_SINCE
    )
    return _LARGE if large else _SMALL


def engine_workspace_bytes(row: Row) -> int:
    """Return the workspaces of TransformerEngine [byte].

    Megatron-LM's own modules have it only for the router of experts.
    """
    if row["implementation"] == _OWN and not row["experts"]:
        return 0
    one = _SMALL_ENGINE if row["accelerator"] == "A100-80GB" else _LARGE + _SCALES
    return one * (1 + (_GROUPED_STREAMS if _stated(row, "grouped_gemm") else 0))
