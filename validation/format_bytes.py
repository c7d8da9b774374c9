"""Bytes of formats: against what libraries allocate and write, and against published files."""

import csv
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from costmodels.huggingface.importing import import_config
from costmodels.model_tensors import Role
from costmodels.number_formats.ggml import BLOCKS_WITH_A_FORMULA, block_bytes
from costmodels.number_formats.layouts import stored_format, stored_formats
from costmodels.presets import preset_table
from costmodels.quantized_checkpoints import checkpoint_tensors
from costmodels.specs.model import Model
from costmodels.specs.tables import build
from costmodels.weight_storage import (
    WeightRecipe,
    bits_per_weight,
    stored_tensors,
    weight_recipes,
)
from validation.cases import Case

SUITE = "format-bytes"

SHAPES = ((192, 512), (32, 512), (256, 1024))
"""Outputs and inputs of the matrices that libraries store."""

_EXACT = "bytes are equal or they are not"
_LLAMA: Mapping[str, Any] = MappingProxyType(
    {
        "preset": "llama-2-7b",
        "num_hidden_layers": 60,
        "hidden_size": 6656,
        "num_attention_heads": 52,
        "num_key_value_heads": 52,
        "head_size": 128,
        "intermediate_size": 17920,
    }
)
_MISTRAL: Mapping[str, Any] = MappingProxyType({"preset": "llama-3.1-8b", "vocabulary_size": 32000})
MODELS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "Llama-3-8B": {"preset": "llama-3.1-8b"},
        "Llama-3.1-8B": {"preset": "llama-3.1-8b"},
        "Llama-3-70B": {"preset": "llama-3.1-70b"},
        "Llama-3.1-70B": {"preset": "llama-3.1-70b"},
        "Llama-3.1-405B": {"preset": "llama-3.1-405b"},
        "Llama-2-7B": {"preset": "llama-2-7b"},
        "LLaMA-7B": {"preset": "llama-2-7b"},
        "LLaMA-30B": _LLAMA,
        "Mixtral-8x7B": {"preset": "mixtral-8x7b"},
        "Mistral-7B": _MISTRAL,
    }
)
"""Models of published files, as presets with what differs."""

_UNITS = MappingProxyType({"GiB": "GiB to two digits", "GB": "GB to one digit", "B": "bytes"})
_CONTAINER_BYTES = 3_000_000


def library_cases() -> list[Case]:
    """Return bytes of each format that torch or torchao stores. Needs torchao."""
    from validation.torch_programs.quantized_tensors import MAKERS, made_by_library

    return [
        _bytes_case(
            name=f"{name}, {rows} x {columns}",
            prediction=int(stored_format(name).tensor_bytes(rows, columns)),
            measurement=made_by_library(sample((rows, columns)), name).stored_bytes,
            source="torch, torchao: tensors of the matrix, run",
        )
        for name in MAKERS
        for rows, columns in SHAPES
    ]


def gguf_cases() -> list[Case]:
    """Return sizes of GGUF blocks, and how many bytes of written blocks agree. Needs gguf."""
    return [*_gguf_sizes(), *_gguf_bytes()]


def _gguf_sizes() -> Iterator[Case]:
    import gguf

    for kind, (weights, size) in gguf.GGML_QUANT_SIZES.items():
        if kind.name == "Q8_1":
            continue  # never in a file; gguf 0.19 has 40 bytes where the struct of ggml has 36
        stored = stored_formats()[f"gguf_{kind.name.lower()}"]
        yield _bytes_case(
            name=f"a row of 8 blocks of {kind.name}",
            prediction=int(stored.tensor_bytes(1, 8 * weights)),
            measurement=8 * size,
            source="gguf, GGML_QUANT_SIZES",
        )


def _gguf_bytes() -> Iterator[Case]:
    import gguf

    for name in BLOCKS_WITH_A_FORMULA:
        kind = gguf.GGMLQuantizationType[name.upper()]
        for said, matrix in block_samples().items():
            with np.errstate(all="ignore"):
                theirs = gguf.quants.quantize(matrix, kind).view(np.uint8)
            ours = block_bytes(matrix, name)
            yield _bytes_case(
                name=f"{name}, {said}: bytes that agree",
                prediction=theirs.size,
                measurement=int((theirs == ours).sum()) if theirs.shape == ours.shape else 0,
                source="gguf.quants.quantize, run",
            )


def _bytes_case(*, name: str, prediction: int, measurement: int, source: str) -> Case:
    return Case(
        suite=SUITE,
        name=name,
        claim="a format takes the bytes that the library allocates or writes",
        prediction=prediction,
        measurement=measurement,
        unit="byte",
        tolerance_fraction=0.0,
        tolerance_reason=_EXACT,
        method="elements times bytes of every tensor, tables that are the same for all left out",
        source=source,
    )


def sample(shape: tuple[int, int], kind: str = "gaussian", seed: int = 1) -> NDArray[np.float32]:
    """Return random numbers of mean 0 and variance 1.

    Parameters
    ----------
    shape : tuple of int
        Outputs and inputs.
    kind : str
        ``gaussian``, ``laplace`` or ``uniform``.
    seed : int
        Where the draws start.
    """
    draws = np.random.default_rng(seed)
    made = {
        "gaussian": lambda: draws.normal(size=shape),
        "laplace": lambda: draws.laplace(scale=0.5**0.5, size=shape),
        "uniform": lambda: draws.uniform(-(3**0.5), 3**0.5, size=shape),
    }[kind]()
    return np.asarray(made, dtype=np.float32)


def block_samples() -> dict[str, NDArray[np.float32]]:
    """Return matrices that meet the edges of blocks: ties, zeros, one sign, large and small."""
    draws = np.random.default_rng(2)
    edges = draws.normal(size=(16, 512)).astype(np.float32)
    edges[0] = 0
    edges[1] = 1
    edges[2, ::2] = -0.0
    edges[3] = draws.integers(-8, 8, 512) / 8
    edges[4] = draws.integers(-12, 13, 512) / 2
    edges[5] *= np.float32(1e-30)
    edges[6] *= np.float32(1e30)
    edges[7] = np.abs(edges[7])
    edges[8] = draws.integers(-3, 4, 512) * 0.25
    return {
        "gaussian": sample((64, 1024)),
        "laplace": sample((64, 1024), "laplace"),
        "uniform": sample((64, 1024), "uniform"),
        "edges": edges,
    }


@cache
def published_model(name: str) -> Model:
    """Return a model of published files."""
    table = dict(MODELS[name])
    preset = preset_table("model", table.pop("preset"))
    return build(Model, preset | table | {"name": name}, "model")


def published_rows() -> list[dict[str, str]]:
    """Return the rows of published files."""
    path = resources.files("validation") / "data" / "quantized_files.csv"
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def recipe_of_row(row: Mapping[str, str]) -> WeightRecipe:
    """Return how the weights of a published file are stored."""
    name = row["quantization"]
    if name.startswith("gptq"):
        return WeightRecipe(
            name=name, matrices=name, others="fp16", description=name, source=row["source"]
        )
    known = weight_recipes()
    return known[name] if name in known else known[f"gguf-{name}"]


def file_cases() -> list[Case]:
    """Return bits per weight and sizes of published files."""
    return [case for row in published_rows() for case in _file_cases(row)]


def _file_cases(row: Mapping[str, str]) -> Iterator[Case]:
    tensors = stored_tensors(published_model(row["model"]), recipe_of_row(row))
    name = f"{row['model']}, {row['quantization']}"
    if row["bits_per_weight"]:
        yield Case(
            suite=SUITE,
            name=f"{name}: bits per weight",
            claim="the choice of blocks tensor by tensor gives the published bits per weight",
            prediction=bits_per_weight(tensors),
            measurement=float(row["bits_per_weight"]),
            unit="bit",
            tolerance_fraction=1e-4,
            tolerance_reason="printed with four decimals; half of the last is at most 0.003 %",
            method="as printed",
            source=row["source"],
        )
        return
    size = int(row["size_bytes"])
    if row["model"] in _SCALED:
        yield _scaled_case(row, name, size)
    fraction, reason = _tolerance(row)
    yield Case(
        suite=SUITE,
        name=f"{name}: size of the file",
        claim="tensors take what the published file takes",
        prediction=sum(entry.stored_bytes for entry in tensors),
        measurement=size,
        unit="byte",
        tolerance_fraction=fraction,
        tolerance_reason=reason,
        method=f"as printed: {row['printed']}",
        source=row["source"],
    )


_SCALED = MappingProxyType({"Llama-3.1-70B": 70 / 8, "Llama-3.1-405B": 405 / 8})
"""Models whose sizes the source multiplies up from those of Llama 3.1 8B, by how much."""


def _scaled_case(row: Mapping[str, str], name: str, size_bytes: int) -> Case:
    """Return what a source prints of a model beside the size of the 8B, multiplied up."""
    tensors = stored_tensors(published_model("Llama-3.1-8B"), recipe_of_row(row))
    return Case(
        suite=SUITE,
        name=f"{name}: that of the 8B, multiplied up",
        claim="the source multiplies its sizes of Llama 3.1 8B by 70/8 and 405/8",
        prediction=_SCALED[row["model"]] * sum(entry.stored_bytes for entry in tensors),
        measurement=size_bytes,
        unit="byte",
        tolerance_fraction=0.003,
        tolerance_reason="printed to 0.1 GB, 0.12 % of 43.1; 8 MB of tokenizer in 4.92 GB, 0.16 %",
        method=f"as printed: {row['printed']}",
        source=row["source"],
    )


def _tolerance(row: Mapping[str, str]) -> tuple[float, str]:
    value, unit = row["printed"].split()
    size = int(row["size_bytes"])
    if row["model"] in _SCALED or value == "32.1":
        return 0.03, (
            "to the last digit the source's sizes are those of Llama 3.1 8B times 70/8 and 405/8"
        )
    if unit == "B":
        if row["model"] == "Llama-2-7B":
            return 1e-6, "the file also has 64 frequencies of rotation in fp32 for each layer"
        exact = row["quantization"] == "bf16"
        return (0.0, _EXACT) if exact else (5e-4, "tensors only; a file has a container")
    digits = len(value.partition(".")[2])
    half = size / float(value) * 10.0**-digits / 2
    return (
        (half + _CONTAINER_BYTES) / size,
        f"half of the last digit ({_UNITS[unit]}), and 3 MB of container",
    )


class PublishedCheckpoint(NamedTuple):
    """The size of a checkpoint on the Hugging Face hub.

    Attributes
    ----------
    size_bytes : int
        What is published [byte].
    container_fraction : float
        Part of it that may be the container's.
    source : str
        Where it is stated.
    """

    size_bytes: int
    container_fraction: float
    source: str


CHECKPOINTS: Mapping[str, PublishedCheckpoint] = MappingProxyType(
    {
        "gpt-oss-120b": PublishedCheckpoint(
            65_248_815_744, 0, "openai/gpt-oss-120b: model.safetensors.index.json, total_size"
        ),
        "gpt-oss-20b": PublishedCheckpoint(
            13_761_264_768, 0, "openai/gpt-oss-20b: model.safetensors.index.json, total_size"
        ),
        "DeepSeek-V3": PublishedCheckpoint(
            688_586_727_753, 2.5e-5, "deepseek-ai/DeepSeek-V3: the 163 files of weights"
        ),
    }
)
"""Quantized checkpoints whose size is published to the byte."""


def checkpoint_cases() -> list[Case]:
    """Return sizes of checkpoints whose `config.json` states the quantization."""
    return [
        Case(
            suite=SUITE,
            name=f"{name}: size of the checkpoint",
            claim="the quantization that the config.json states gives the published bytes",
            prediction=_checkpoint_bytes(name),
            measurement=published.size_bytes,
            unit="byte",
            tolerance_fraction=published.container_fraction,
            tolerance_reason="files also name their 92,000 tensors, 120 to 150 bytes each"
            if published.container_fraction
            else _EXACT,
            method="tensors of validation/data/huggingface, and of DeepSeek-V3 what only its file "
            "has: the layer that predicts a further token with copies of embedding and head, and "
            "fp32 biases of the routers",
            source=published.source,
        )
        for name, published in CHECKPOINTS.items()
    ]


def _checkpoint_bytes(name: str) -> int:
    path = resources.files("validation") / "data" / "huggingface" / f"{name}.json"
    imported = import_config(path.read_text(encoding="utf-8"), name=name, where=f"{name}.json")
    model, recipe = imported.model, imported.precision
    if recipe is None or recipe.quantization is None:
        raise ValueError(f"{name}: states no quantization")
    tensors = checkpoint_tensors(model, recipe.quantization, wide=recipe.weights)
    found = sum(entry.stored_bytes for entry in tensors)
    if not model.multi_token_prediction_layers:
        return found
    # DeepSeek-V3, README_WEIGHTS.md: layer 61 is as large as layer 60, with a projection from two
    # hidden vectors to one, three norms, and copies of embedding and head, all in bf16.
    last = model.num_hidden_layers - 1
    hidden, vocabulary = model.hidden_size, model.vocabulary_size
    layer = sum(entry.stored_bytes for entry in tensors if entry.tensor.layer == last)
    own = 2 * (2 * vocabulary * hidden + 2 * hidden * hidden + 3 * hidden)
    routed = [entry.tensor.rows for entry in tensors if entry.tensor.role is Role.ROUTER]
    return found + layer + own + 4 * (sum(routed) + routed[-1])
