"""Checkpoints whose quantization is stated: which tensors are stored in few bits, and how."""

import re
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from costmodels.errors import NotModelledError, SpecError, not_found_message
from costmodels.model_tensors import Role, Tensor, model_tensors
from costmodels.number_formats.layouts import Part, StoredFormat, stored_format
from costmodels.specs.model import Model
from costmodels.specs.precision import Quantization
from costmodels.weight_storage import StoredTensor

_BITS = {
    **dict.fromkeys(("fp8-e4m3", "fp8-e5m2", "mxfp8", "int8"), 8),
    **dict.fromkeys(("mxfp4", "nvfp4", "fp4-e2m1", "nf4", "int4"), 4),
    "int3": 3,
    "int2": 2,
}
_SCALE_BITS = {"fp32": 32, "bf16": 16, "fp16": 16, "fp8-e4m3": 8, "e8m0": 8}
_GPTQ = ("gptq", "auto-round")
_ALL_LINEAR = ("compressed-tensors", "modelopt", "modelopt_fp4", "mlx")
"""Methods that quantize the head too, unless it is left out."""
_INTEGERS = ("int2", "int3", "int4", "int8")
METHODS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "fp8": ("fp8-e4m3", "fp8-e5m2"),
        "fbgemm_fp8": ("fp8-e4m3",),
        "mxfp4": ("mxfp4",),
        **dict.fromkeys(_GPTQ, _INTEGERS),
        "awq": ("int4",),
        "bitsandbytes": ("int8", "nf4", "fp4-e2m1"),
        "compressed-tensors": (*_INTEGERS, "fp8-e4m3", "mxfp4", "mxfp8", "nvfp4", "fp4-e2m1"),
        **dict.fromkeys(("modelopt", "modelopt_fp4"), ("nvfp4", "fp8-e4m3")),
        "mlx": _INTEGERS,
    }
)
"""Methods whose tensors are known, with the formats in which they store weights."""

_MATRICES = (Role.ATTENTION, Role.FFN, Role.EXPERTS)

_ATTENTION = {
    "query": "q_proj qkv_proj",
    "key": "k_proj qkv_proj",
    "value": "v_proj qkv_proj",
    "query, key, value": "qkv_proj in_proj_qkv in_proj_qkvz",
    "gate": "q_proj in_proj_z in_proj_qkvz output_gate",
    "decay and step": "in_proj_a in_proj_b in_proj_ba",
    "convolution": "conv1d",
    "compressor": "compressor",
    "query down": "q_a_proj",
    "query up": "q_b_proj",
    "key and value down": "kv_a_proj_with_mqa",
    "key and value up": "kv_b_proj",
    "output": "o_proj out_proj",
}
_FEED_FORWARD = {
    "gate projection": "gate_proj gate_up_proj w1",
    "up": "up_proj gate_up_proj w3",
    "down": "down_proj w2",
}
_HOLDERS = {
    Role.FFN: ("mlp",),
    Role.EXPERTS: ("mlp.experts", "block_sparse_moe.experts"),
}
_SHARED = ("mlp.shared_experts", "mlp.shared_expert")
_OTHER_PARTS = re.compile(
    r"norm|visual|vision|audio|speech|multi_modal|projector|mtp|rotary|shared_head|eh_proj"
)
"""Modules that are no matrix of the text model: norms, and what other modalities have."""

_LAYER = re.compile(r"(?:^|\.)layers\.(\d{1,6})(?:\.|$)")


def checkpoint_tensors(
    model: Model, quantization: Quantization, *, wide: str
) -> tuple[StoredTensor, ...]:
    """Return every tensor of a model as a quantized checkpoint stores it.

    Parameters
    ----------
    model : Model
        The model.
    quantization : Quantization
        How its weights are stored.
    wide : str
        Format of the tensors that are not quantized.

    Raises
    ------
    SpecError
        If the quantization contradicts itself or the model, or leaves out what the model has not.
    NotModelledError
        If it is not known which tensors are quantized, or how they are packed.

    Notes
    -----
    Quantized are the matrices of attention and feed-forward networks, in MXFP4 those of experts
    only; the head too where a method takes every linear module (compressed-tensors, ModelOpt, MLX)
    and the embedding in MLX. Routers, norms, biases and convolutions stay wide. A checkpoint that
    keeps projections together has as many bytes, but for scales of whole tensors. Scales that are
    quantized again count as they are stated.

    Sources: transformers, quantizers; vLLM, model_executor/layers/quantization; the modules of
    AutoGPTQ, AutoAWQ, bitsandbytes and compressed-tensors, as of `blocks.toml`.
    """
    narrow, kept = checkpoint_format(quantization), stored_format(wide)
    tensors = model_tensors(model)
    left_out = _left_out(tensors, quantization.excluded)
    found = []
    for tensor, whole in zip(tensors, left_out, strict=True):
        quantized = not whole and _may_be_quantized(tensor, quantization.method)
        stored = narrow if quantized else kept
        size = int(stored.tensor_bytes(tensor.rows, tensor.columns, tensor.matrix_count))
        found.append(StoredTensor(tensor, stored, size))
    if all(entry.stored is kept for entry in found):
        raise SpecError(
            f"precision.quantization.method ({quantization.method}): quantizes no tensor of "
            f"{model.name}; leave precision.quantization out"
        )
    return tuple(found)


@lru_cache(maxsize=64)
def checkpoint_format(quantization: Quantization) -> StoredFormat:
    """Return how a quantized matrix is stored: codes, scales, zero points, what else.

    Parameters
    ----------
    quantization : Quantization
        How weights are stored.

    Raises
    ------
    NotModelledError
        If zero points or blocks of several rows have no known packing in the method.
    """
    method = quantization.method
    if method not in METHODS:
        message = not_found_message(
            what="precision.quantization.method", name=method, known=METHODS
        )
        raise SpecError(message)
    if quantization.weight_format not in METHODS[method]:
        raise SpecError(
            f"precision.quantization.weight_format ({quantization.weight_format}): {method} stores "
            f"weights in {' or '.join(METHODS[method])}"
        )
    bits, packing = _BITS[quantization.weight_format], _packing(quantization)
    group = _group(quantization)
    parts = [Part(name="codes", bits=bits, **packing)]
    parts.append(Part(name="scales", bits=_SCALE_BITS[quantization.scale_format], **group))
    if quantization.zero_points:
        parts.append(_zero_points(quantization, bits, group))
    if method in _GPTQ:
        parts.append(Part(name="group of each input", bits=32, rows=0, optional=True))
    whole: dict[str, Any] = {"rows": 0, "columns": 0}
    if quantization.weight_format == "nvfp4":
        parts.append(Part(name="tensor scale", bits=32, **whole))
    if _has_input_scale(quantization):
        parts.append(Part(name="input scale", bits=32, optional=True, **whole))
    return StoredFormat(
        name=f"{method} {quantization.weight_format}",
        library=method,
        source="the quantization section of the checkpoint",
        parts=tuple(parts),
    )


def _has_input_scale(quantization: Quantization) -> bool:
    """Return whether a scale of the inputs is stored beside each matrix."""
    if quantization.activation_format is None:
        return False
    return quantization.weight_format == "nvfp4" or quantization.method.startswith("modelopt")


def _packing(quantization: Quantization) -> dict[str, Any]:
    """Return how codes of integers stand in words of 32 bits."""
    form, method = quantization.weight_format, quantization.method
    if not form.startswith("int") or method in ("bitsandbytes", "mlx"):
        return {}
    if method == "awq":
        return {"pack_rows": 8, "word_bits": 32}
    return _along("pack_columns", _BITS[form], method)


def _along(side: str, bits: int, method: str) -> dict[str, Any]:
    if bits == 3 and method in _GPTQ:
        return {side: 32, "word_bits": 96}
    return {side: 32 // bits, "word_bits": 32}


def _group(quantization: Quantization) -> dict[str, Any]:
    rows, columns = quantization.group_rows, quantization.group_columns
    if quantization.method == "bitsandbytes" and columns:
        return {"flat": rows * columns}
    return {"rows": rows, "columns": columns}


def _zero_points(quantization: Quantization, bits: int, group: dict[str, Any]) -> Part:
    name, method = "zero points", quantization.method
    if method == "mlx":
        return Part(name=name, bits=_SCALE_BITS[quantization.scale_format], **group)
    if not quantization.weight_format.startswith("int") or method == "bitsandbytes":
        raise NotModelledError(
            f"precision.quantization.zero_points (true): {method} stores "
            f"{quantization.weight_format} without them; set it to false"
        )
    if quantization.group_rows > 1:
        raise NotModelledError(
            f"precision.quantization.group_rows ({quantization.group_rows}): zero points of blocks "
            "of several rows have no known packing; use 1"
        )
    return Part(name=name, bits=bits, **group, **_along("pack_rows", bits, method))


def _may_be_quantized(tensor: Tensor, method: str) -> bool:
    if method == "mxfp4":
        return tensor.role is Role.EXPERTS
    if tensor.role in _MATRICES:
        return tensor.name not in ("convolution", "compressor")
    if tensor.role is Role.HEAD:
        return method in _ALL_LINEAR
    return method == "mlx" and tensor.name == "embedding"


@lru_cache(maxsize=1024)
def _pattern(excluded: str) -> re.Pattern[str]:
    """Return what finds the modules that a name leaves out.

    A name may be a regular expression after ``re:`` (compressed-tensors), have wildcards
    (ModelOpt), or be some components of a module's name, which leaves out all below it.
    """
    if excluded.startswith("re:"):
        try:
            return re.compile(f"^(?:{excluded[3:]})")
        except re.error as error:
            raise SpecError(
                f"precision.quantization.excluded ({excluded}): not a regular expression: {error}"
            ) from None
    plain = excluded.removesuffix(".weight")
    words = ".*".join(map(re.escape, plain.split("*")))
    return re.compile(rf"(?:^|\.){words}(?:$|\.)")


def _paths(tensor: Tensor, *, shared: bool) -> list[str]:
    """Return the names that checkpoints of transformers may have for the module of a tensor.

    `shared` says whether its layer has experts, beside which a network is one that all tokens visit.
    """
    if tensor.role is Role.HEAD:
        return ["lm_head"]
    if tensor.layer is None:
        return ["model.embed_tokens"] if tensor.name == "embedding" else []
    if tensor.role is Role.ROUTER:
        inner = ["mlp.gate", "mlp.router", "block_sparse_moe.gate"]
    elif tensor.role is Role.ATTENTION:
        words = _ATTENTION[tensor.name].split()
        inner = [f"{holder}.{word}" for holder in ("self_attn", "linear_attn") for word in words]
    elif tensor.role in _HOLDERS:
        holders = _SHARED if shared and tensor.role is Role.FFN else _HOLDERS[tensor.role]
        words = _FEED_FORWARD[tensor.name].split()
        inner = [f"{holder}.{word}" for holder in holders for word in words]
    else:
        return []
    return [f"model.layers.{tensor.layer}.{name}" for name in inner]


@lru_cache(maxsize=64)
def _left_out(tensors: tuple[Tensor, ...], excluded: tuple[str, ...]) -> tuple[bool, ...]:
    """Return which tensors of a model the names leave out.

    Raises
    ------
    NotModelledError
        If a name leaves out what is no module of the model.
    """
    mixed = {tensor.layer for tensor in tensors if tensor.role is Role.EXPERTS}
    paths = [_paths(tensor, shared=tensor.layer in mixed) for tensor in tensors]
    known = {path for each in paths for path in each} | {"lm_head", "model.embed_tokens"}
    layer_count = 1 + max(tensor.layer or 0 for tensor in tensors)
    gone: set[str] = set()
    for name in excluded:
        pattern = _pattern(name)
        found = {path for path in known if pattern.search(path)}
        if not found and not _is_of_another_part(name, layer_count):
            raise NotModelledError(
                f"precision.quantization.excluded ({name}): names no module of the model whose "
                "weights are known; name modules such as lm_head or model.layers.0.self_attn"
            )
        gone |= found
    return tuple(not gone.isdisjoint(each) for each in paths)


def _is_of_another_part(name: str, layer_count: int) -> bool:
    """Return whether a name is of a norm, of another modality or of layers that are not run."""
    layer = _LAYER.search(name)
    beyond = layer is not None and int(layer[1]) >= layer_count
    return beyond or _OTHER_PARTS.search(name) is not None
