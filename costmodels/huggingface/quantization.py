"""From the quantization section of a `config.json` to a precision recipe."""

from collections.abc import Callable
from typing import Any, NamedTuple

from costmodels.errors import NotModelledError, SpecError
from costmodels.huggingface.reader import Reader, shown
from costmodels.specs.precision import Quantization

_FLOATS = {8: "fp8-e4m3", 4: "fp4-e2m1"}
_EXCLUDED = ("modules_to_not_convert", "ignored_layers", "ignore", "exclude_modules")
_MODULES = 10_000
_WHOLE_ROW = (1, 0)
_WHOLE_TENSOR = (0, 0)


class _Weights(NamedTuple):
    """What a section says about weights."""

    weight_format: str
    group: tuple[int, int]
    scale_format: str
    zero_points: bool = False
    activation_format: str | None = None


def read_quantization(section: Reader) -> Quantization:
    """Return how a quantization section says that weights are stored.

    Parameters
    ----------
    section : Reader
        The section; keys that are not read stay for the caller to name.

    Raises
    ------
    SpecError
        If a key has no such value.
    NotModelledError
        If the method is unknown.
    """
    method = (section.text("quant_method", "quantization_method") or "").lower()
    if not method and section.has("quant_algo"):
        method = "modelopt"
    if not method and (section.has("load_in_4bit") or section.has("load_in_8bit")):
        method = "bitsandbytes"
    if not method and section.has("bits") and section.has("group_size"):
        method = "mlx"
    if not method:
        raise SpecError(f"{section.where}: quant_method is missing; known: {', '.join(_METHODS)}")
    if method not in _METHODS:
        raise NotModelledError(
            f"{section.where}: quant_method ({shown(method)}) is not known; known: "
            f"{', '.join(_METHODS)}"
        )
    weights = _METHODS[method](section)
    return Quantization(
        method=method,
        weight_format=weights.weight_format,
        group_rows=weights.group[0],
        group_columns=weights.group[1],
        scale_format=weights.scale_format,
        zero_points=weights.zero_points,
        activation_format=weights.activation_format,
        excluded=_excluded(section),
    )


def _excluded(section: Reader) -> tuple[str, ...]:
    found: list[str] = []
    for key in (*_EXCLUDED, "llm_int8_skip_modules"):
        value = section.value(key)
        if value is None:
            continue
        if not isinstance(value, list) or len(value) > _MODULES or not all(map(_is_name, value)):
            raise section.error(key, f"expected a list of at most {_MODULES:,} printable names")
        found.extend(name for name in value if name)
    return tuple(dict.fromkeys(found))


def _is_name(value: object) -> bool:
    return isinstance(value, str) and value.isprintable() and len(value) <= 1000


def _integers(bits: int, section: Reader, key: str) -> str:
    if bits not in (2, 3, 4, 8):
        raise section.error(key, "expected 2, 3, 4 or 8")
    return f"int{bits}"


def _group(size: int) -> tuple[int, int]:
    return _WHOLE_ROW if size < 1 else (1, size)


def _fp8(section: Reader) -> _Weights:
    stated = section.text("fmt", default="e4m3") or ""
    name = stated.removeprefix("float8_").removesuffix("fn")
    if name not in ("e4m3", "e5m2"):
        raise section.error("fmt", "expected e4m3 or e5m2")
    block = section.integers("weight_block_size")
    if block is not None and (len(block) != 2 or min(block) < 1):
        raise section.error("weight_block_size", "expected two whole numbers above 0")
    scheme = section.text("activation_scheme", default="dynamic")
    if scheme not in ("dynamic", "static"):
        raise section.error("activation_scheme", "expected dynamic or static")
    group = _WHOLE_TENSOR if block is None else (block[0], block[1])
    return _Weights(f"fp8-{name}", group, "fp32", activation_format=f"fp8-{name}")


def _mlx(section: Reader) -> _Weights:
    section.require("mode", only=("affine",), reason="expected affine")
    bits = section.integer("bits", least=2, most=8)
    size = section.integer("group_size", most=2**20)
    return _Weights(_integers(bits, section, "bits"), _group(size), "bf16", zero_points=True)


def _fbgemm(section: Reader) -> _Weights:
    section.number("activation_scale_ub")
    return _Weights("fp8-e4m3", _WHOLE_ROW, "fp32", activation_format="fp8-e4m3")


def _mxfp4(section: Reader) -> _Weights:
    section.skip("block_size")
    return _Weights("mxfp4", (1, 32), "e8m0")


def _gptq(section: Reader) -> _Weights:
    bits = section.integer("bits", least=2, most=8)
    size = section.integer("group_size", default=128, least=-1, most=2**20)
    section.flag("sym", default=True)
    section.require("dynamic", only=({},), reason="rules for single modules are not modelled")
    # GPTQ stores zero points for symmetric groups too.
    return _Weights(_integers(bits, section, "bits"), _group(size), "fp16", zero_points=True)


def _auto_round(section: Reader) -> _Weights:
    section.text("packing_format", "data_type")
    return _gptq(section)


def _awq(section: Reader) -> _Weights:
    bits = section.integer("bits", "w_bit", least=2, most=8)
    size = section.integer("group_size", "q_group_size", default=128, least=-1, most=2**20)
    zero_points = section.flag("zero_point", default=True)
    return _Weights(_integers(bits, section, "bits"), _group(size), "fp16", zero_points)


def _bitsandbytes(section: Reader) -> _Weights:
    eight = section.flag("load_in_8bit", default=False)
    if section.flag("load_in_4bit", default=False):
        kind = section.text("bnb_4bit_quant_type", default="fp4")
        if kind not in ("nf4", "fp4"):
            raise section.error("bnb_4bit_quant_type", "expected nf4 or fp4")
        nested = section.flag("bnb_4bit_use_double_quant", default=False)
        if nested:
            section.notes.append(f"{section.where}: scales that are quantized again count as fp32")
        return _Weights("nf4" if kind == "nf4" else "fp4-e2m1", (1, 64), "fp32")
    if not eight:
        raise section.error("load_in_4bit", "expected load_in_4bit or load_in_8bit to be true")
    return _Weights("int8", _WHOLE_ROW, "fp32", activation_format="int8")


def _modelopt(section: Reader) -> _Weights:
    algorithm = (section.text("quant_algo") or "").upper()
    section.skip("config_groups", "kv_cache_quant_algo")
    if algorithm in ("NVFP4", "W4A4_NVFP4"):
        size = section.integer("group_size", default=16, most=2**20)
        return _Weights("nvfp4", (1, size), "fp8-e4m3", activation_format="nvfp4")
    if algorithm == "FP8":
        return _Weights("fp8-e4m3", _WHOLE_TENSOR, "fp32", activation_format="fp8-e4m3")
    raise section.error("quant_algo", "expected NVFP4 or FP8")


def _compressed(section: Reader) -> _Weights:
    layout = section.text("format", default="") or ""
    groups = section.table("config_groups")
    section.value("kv_cache_scheme")
    if len(groups) != 1:
        raise section.error("config_groups", "expected one group of modules")
    name, group = next(iter(groups.items()))
    if not isinstance(group, dict):
        raise section.error("config_groups", "expected an object for each group")
    inner = Reader(group, f"{section.where}.config_groups.{shown(name)}")
    layout = inner.text("format") or layout
    stated = Reader(inner.table("weights"), f"{inner.where}.weights")
    if inner.value("targets") not in (None, ["Linear"]):
        section.notes.append(
            f"{inner.where}: targets ({shown(group['targets'])}) count as all linear modules but "
            "those left out"
        )
    bits = stated.integer("num_bits", least=2, most=8)
    size = stated.integer("group_size", default=0, least=-1, most=2**20)
    implied = "group" if size > 0 else "channel" if size else "tensor"
    kind = stated.text("type", default="int")
    strategy = stated.text("strategy", default=implied) or implied
    inputs = _inputs(Reader(inner.table("input_activations"), f"{inner.where}.input_activations"))
    symmetric = stated.flag("symmetric", default=True)
    if "fp4" in layout and size < 0:
        raise stated.error("group_size", "must be above 0 for formats of 4-bit floats")
    if "nvfp4" in layout:
        return _Weights("nvfp4", (1, size or 16), "fp8-e4m3", activation_format=inputs and "nvfp4")
    if "mxfp4" in layout:
        return _Weights("mxfp4", (1, size or 32), "e8m0", activation_format=inputs and "mxfp4")
    shape = _strategy(stated, strategy, size)
    if kind == "float":
        if bits not in _FLOATS:
            raise stated.error("num_bits", "expected 8 or 4 bits of a float")
        weight = _FLOATS[bits]
        return _Weights(weight, shape, "bf16", activation_format=inputs)
    weight = _integers(bits, stated, "num_bits")
    return _Weights(weight, shape, "bf16", not symmetric, inputs)


def _inputs(stated: Reader) -> str | None:
    """Return the format to which inputs are quantized, None where they are not."""
    if not stated.unread():
        return None
    bits = stated.integer("num_bits", default=8, least=4, most=8)
    kind = stated.text("type", default="int") or ""
    formats = {("float", 8): "fp8-e4m3", ("float", 4): "nvfp4", ("int", 8): "int8"}
    formats["int", 4] = "int4"
    if (kind, bits) not in formats:
        raise stated.error("num_bits", "expected 4 or 8 bits of int or float")
    return formats[kind, bits]


def _strategy(stated: Reader, strategy: str, size: int) -> tuple[int, int]:
    if strategy == "block":
        block = stated.integers("block_structure")
        if block is None or len(block) != 2 or min(block) < 1:
            raise stated.error("block_structure", "expected two whole numbers above 0")
        return block[0], block[1]
    if strategy in ("group", "tensor_group"):
        if size < 1:
            raise stated.error("group_size", f"must be above 0 for the strategy {strategy}")
        return 1, size
    shapes = {"tensor": _WHOLE_TENSOR, "channel": _WHOLE_ROW}
    if strategy not in shapes:
        raise stated.error(
            "strategy", "expected one of tensor, channel, group, tensor_group and block"
        )
    return shapes[strategy]


_METHODS: dict[str, Callable[[Reader], Any]] = {
    "fp8": _fp8,
    "fbgemm_fp8": _fbgemm,
    "mxfp4": _mxfp4,
    "gptq": _gptq,
    "auto-round": _auto_round,
    "awq": _awq,
    "bitsandbytes": _bitsandbytes,
    "modelopt": _modelopt,
    "modelopt_fp4": _modelopt,
    "mlx": _mlx,
    "compressed-tensors": _compressed,
}
