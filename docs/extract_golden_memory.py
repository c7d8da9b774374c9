"""Read the golden values of memory from a clone of Megatron-LM, with the fields of their tests.

Run from the root of the repository, with a clone that has its history, at the commit that
``validation/data/README.md`` names::

    python -m docs.extract_golden_memory CLONE FORMER.csv > golden_memory.csv

A row is a file ``golden_values_ENVIRONMENT.json`` of a test of gpt or moe models that holds allocated
bytes; its other fields are the arguments of the test's ``model_config.yaml``, by the names below and as
they stand there (empty where not stated), so that what follows from them is decided in
``validation.golden_memory``, not here. ``recorded`` is the day since which the value stands in the
file, through renames and copies: the container in which it was measured is that of the day. ``split``
is that of the former table; rows that it lacks are ``unseen``.
"""

import csv
import json
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

_CASES = "tests/functional_tests/test_cases"
_FAMILIES = ("gpt", "moe")
_UNSEEN = "unseen"
_ACCELERATORS = {"a100": "A100-80GB", "h100": "H100-80GB", "gb200": "GB200"}
_GPUS, _GPUS_OF_ONE_NODE = 8, 4

ARGUMENTS = {
    "implementation": "--transformer-impl",
    "layers": "--num-layers",
    "hidden": "--hidden-size",
    "ffn": "--ffn-hidden-size",
    "gated": "--swiglu",
    "heads": "--num-attention-heads",
    "grouped_queries": "--group-query-attention",
    "kv_heads": "--num-query-groups",
    "head_size": "--kv-channels",
    "qk_norm": "--qk-layernorm",
    "norm": "--normalization",
    "no_bias": "--disable-bias-linear",
    "positions": "--position-embedding-type",
    "rotary": "--use-rotary-position-embeddings",
    "max_positions": "--max-position-embeddings",
    "untied": "--untie-embeddings-and-output-weights",
    "tokenizer": "--tokenizer-type",
    "vocabulary": "--vocab-size",
    "vocabulary_multiple": "--make-vocab-size-divisible-by",
    "latent": "--multi-latent-attention",
    "q_rank": "--q-lora-rank",
    "kv_rank": "--kv-lora-rank",
    "qk_head": "--qk-head-dim",
    "rope_head": "--qk-pos-emb-head-dim",
    "v_head": "--v-head-dim",
    "experts": "--num-experts",
    "experts_per_token": "--moe-router-topk",
    "expert_ffn": "--moe-ffn-hidden-size",
    "shared_ffn": "--moe-shared-expert-intermediate-size",
    "mixture_layers": "--moe-layer-freq",
    "further_tokens": "--mtp-num-layers",
    "sequence_length": "--seq-length",
    "micro_batch": "--micro-batch-size",
    "global_batch": "--global-batch-size",
    "tp": "--tensor-model-parallel-size",
    "pp": "--pipeline-model-parallel-size",
    "cp": "--context-parallel-size",
    "ep": "--expert-model-parallel-size",
    "etp": "--expert-tensor-parallel-size",
    "chunk_layers": "--num-layers-per-virtual-pipeline-stage",
    "chunks": "--num-virtual-stages-per-pipeline-rank",
    "first_stage_layers": "--decoder-first-pipeline-num-layers",
    "last_stage_layers": "--decoder-last-pipeline-num-layers",
    "embedding_as_layer": "--account-for-embedding-in-pipeline-split",
    "loss_as_layer": "--account-for-loss-in-pipeline-split",
    "layout": "--pipeline-model-parallel-layout",
    "sequence_parallel": "--sequence-parallel",
    "distributed_optimizer": "--use-distributed-optimizer",
    "optimizer_instances": "--num-distributed-optimizer-instances",
    "overlap_gather": "--overlap-param-gather",
    "sharded": "--data-parallel-sharding-strategy",
    "optimizer": "--optimizer",
    "bf16": "--bf16",
    "fp16": "--fp16",
    "fp8": "--fp8-recipe",
    "fp8_weights": "--fp8-param-gather",
    "recompute": "--recompute-granularity",
    "offloaded": "--fine-grained-activation-offloading",
    "overlap_experts": "--overlap-moe-expert-parallel-comm",
    "grouped_gemm": "--moe-grouped-gemm",
    "dispatcher": "--moe-token-dispatcher-type",
    "fused_operators": "--use-transformer-engine-op-fuser",
    "cuda_graphs": "--cuda-graph-impl",
    "tp_overlap": "--tp-comm-overlap",
    "deferred_embedding": "--defer-embedding-wgrad-compute",
    "reinforcement": "--perform-rl-step",
    "teacher": "--export-kd-teacher-load",
    "cublas_workspace": "CUBLAS_WORKSPACE_CONFIG",
}
"""Columns and the arguments or variables of the environment that fill them."""

COLUMNS = ("split", "test", "environment", "accelerator", "gpus", *ARGUMENTS, "recorded")
"""Columns before `allocated_bytes`."""


class Clone(NamedTuple):
    """A clone of Megatron-LM."""

    folder: Path

    def git(self, *words: str) -> str:
        """Return what git says."""
        command = ["git", "-C", str(self.folder), *words]
        done = subprocess.run(  # noqa: S603 - the command is git
            command, check=True, capture_output=True, text=True
        )
        return done.stdout


class Change(NamedTuple):
    """A commit's change of a file: day, blob, letter of git's status, and former path."""

    day: str
    blob: str
    status: str
    former: str


def _histories(clone: Clone) -> Mapping[str, Sequence[Change]]:
    """Return the changes of every file below the tests, newest first."""
    said = clone.git(
        *("log", "--first-parent", "-m", "--raw", "--no-abbrev", "-M80%", "-C"),
        *("--format=day %cs", "--", _CASES),
    )
    found, day = defaultdict[str, list[Change]](list), ""
    for line in said.splitlines():
        if line.startswith("day "):
            day = line.removeprefix("day ")
        elif line.startswith(":"):
            fields, *paths = line.split("\t")
            *_, blob, status = fields.split()
            found[paths[-1]].append(Change(day, blob, status[0], paths[0]))
    return found


def _last_allocated(text: str) -> int | None:
    """Return the allocated bytes that were logged last, where there are any."""
    try:
        values = json.loads(text).get("mem-allocated-bytes", {}).get("values", {})
    except json.JSONDecodeError:  # a broken or empty file
        return None
    logged = values.values() if isinstance(values, dict) else values
    numbers = [value for value in logged if isinstance(value, int | float) and isfinite(value)]
    return int(numbers[-1]) if numbers else None


def _recorded(clone: Clone, histories: Mapping[str, Sequence[Change]], path: str) -> str:
    """Return the day since which a file, under whichever path, holds its present value."""
    value, day, until = None, "", "9999"
    seen: set[Change] = set()
    while True:
        former = ""
        for change in histories.get(path, ()):
            if change.day > until or change.status == "D" or change in seen:
                continue
            seen.add(change)
            found = _last_allocated(clone.git("cat-file", "blob", change.blob))
            value = found if value is None else value
            if found != value:
                return day
            day = change.day
            if change.status in "RC":
                former, until = change.former, change.day
                break
        if not former:
            return day
        path = former


def _arguments(text: str) -> dict[str, str]:
    """Return the arguments and variables of a ``model_config.yaml``, which is flat."""
    pairs = re.findall(r"^  (--[\w-]+|[A-Z_]+): *(.*?)(?: +#.*)?$", text, re.MULTILINE)
    return {name: value.strip("'\" ") for name, value in pairs}


def _rows(clone: Clone, former: Mapping[tuple[str, str], str]) -> Iterator[dict[str, Any]]:
    histories = _histories(clone)
    files = clone.git("ls-tree", "-r", "--name-only", "HEAD", _CASES).split()
    for path in sorted(files):
        found = re.fullmatch(rf"{_CASES}/((\w+)/[^/]+)/golden_values_(.+)\.json", path)
        if not found or found[2] not in _FAMILIES:
            continue
        allocated = _last_allocated(clone.git("show", f"HEAD:{path}"))
        if allocated is None:
            continue
        test, environment = found[1], found[3]
        stated = _arguments(clone.git("show", f"HEAD:{_CASES}/{test}/model_config.yaml"))
        named = (size for name, size in _ACCELERATORS.items() if name in environment)
        yield {
            "split": former.get((test, environment), _UNSEEN),
            "test": test,
            "environment": environment,
            "accelerator": next(named, ""),
            "gpus": _GPUS_OF_ONE_NODE if test.endswith("_1node") else _GPUS,
            **{column: stated.get(argument, "") for column, argument in ARGUMENTS.items()},
            "recorded": _recorded(clone, histories, path),
            "allocated_bytes": allocated,
        }


def main() -> None:
    """Write the rows of the clone to standard output: its folder, then the former table."""
    with Path(sys.argv[2]).open(newline="") as lines:
        former = {(row["test"], row["environment"]): row["split"] for row in csv.DictReader(lines)}
    writer = csv.DictWriter(sys.stdout, [*COLUMNS, "allocated_bytes"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(_rows(Clone(Path(sys.argv[1])), former))


if __name__ == "__main__":
    main()
