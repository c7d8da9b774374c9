"""File types of GGUF: mixtures, whose blocks are chosen tensor by tensor.

A name such as Q4_K_M says which blocks most matrices get. Some get others: the head, values, the
second projection of the feed-forward network, by layer and by model. The choices are those of
llama.cpp's quantizer [1]_ without options of its own, for every model but Falcon.

References
----------
.. [1] github.com/ggml-org/llama.cpp@007dbbf3fd: src/llama-quant.cpp, `llama_tensor_get_type_impl`,
   `tensor_allows_quantization` and `tensor_type_fallback`.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from costmodels.errors import SpecError, not_found_message
from costmodels.model_tensors import Role, Tensor
from costmodels.number_formats.layouts import stored_formats
from costmodels.specs.model import Model

FILE_TYPES: Mapping[str, str] = MappingProxyType(
    {
        "F32": "f32",
        "F16": "f16",
        "BF16": "bf16",
        "Q4_0": "q4_0",
        "Q4_1": "q4_1",
        "Q5_0": "q5_0",
        "Q5_1": "q5_1",
        "Q8_0": "q8_0",
        "Q2_K": "q2_k",
        "Q2_K_S": "q2_k",
        "Q3_K_S": "q3_k",
        "Q3_K_M": "q3_k",
        "Q3_K_L": "q3_k",
        "Q4_K_S": "q4_k",
        "Q4_K_M": "q4_k",
        "Q5_K_S": "q5_k",
        "Q5_K_M": "q5_k",
        "Q6_K": "q6_k",
        "IQ1_S": "iq1_s",
        "IQ1_M": "iq1_m",
        "IQ2_XXS": "iq2_xxs",
        "IQ2_XS": "iq2_xs",
        "IQ2_S": "iq2_xs",
        "IQ2_M": "iq2_s",
        "IQ3_XXS": "iq3_xxs",
        "IQ3_XS": "iq3_s",
        "IQ3_S": "iq3_s",
        "IQ3_M": "iq3_s",
        "IQ4_NL": "iq4_nl",
        "IQ4_XS": "iq4_xs",
        "TQ1_0": "tq1_0",
        "TQ2_0": "tq2_0",
        "MXFP4_MOE": "mxfp4",
    }
)
"""Blocks that most matrices of a file type get."""

_SMALLEST = frozenset({"IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS"})
_SMALL = _SMALLEST | {"IQ2_S", "IQ2_M"}
_TWO_BITS = frozenset({"IQ2_S", "IQ2_M"})
_FLOATS = frozenset({"F32", "F16", "BF16"})

_FALLBACKS = {
    **dict.fromkeys(
        ("iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq3_xxs", "iq3_s", "iq4_xs"), "iq4_nl"
    ),
    **dict.fromkeys(("q2_k", "q3_k", "tq1_0", "tq2_0"), "q4_0"),
    "q4_k": "q5_0",
    "q5_k": "q5_1",
    "q6_k": "q8_0",
}
"""Blocks of 32 weights for rows that are no whole number of blocks of 256; else f16."""


class _Case(NamedTuple):
    """What the choice of a tensor's blocks depends on."""

    file_type: str
    default: str
    tensor: Tensor
    place: int
    layers: int
    model: Model
    importance: bool

    @property
    def experts(self) -> int:
        return self.model.mixture.expert_count if self.model.mixture else 0

    @property
    def group(self) -> int:
        """Return the query heads for each key head."""
        return self.model.num_attention_heads // self.model.num_key_value_heads

    @property
    def early(self) -> bool:
        return self.place < self.layers // 8

    @property
    def gets_more(self) -> bool:
        """Return whether the layer is among the first or last eighth, or every third between."""
        eighth = self.layers // 8
        return self.early or self.place >= 7 * self.layers // 8 or (self.place - eighth) % 3 == 2


def gguf_blocks(
    model: Model,
    tensors: tuple[Tensor, ...],
    file_type: str,
    *,
    importance: bool = False,
) -> tuple[str, ...]:
    """Return the blocks of every tensor of a file.

    Parameters
    ----------
    model : Model
        The model.
    tensors : tuple of Tensor
        Its tensors, in order.
    file_type : str
        One of `FILE_TYPES`.
    importance : bool
        Whether the quantizer has an importance matrix, which changes some choices.

    Returns
    -------
    tuple of str
        For each tensor a name such as ``gguf_q4_k``.

    Raises
    ------
    SpecError
        If there is no such file type.
    """
    if file_type not in FILE_TYPES:
        raise SpecError(not_found_message(what="GGUF file type", name=file_type, known=FILE_TYPES))
    places = _places(tensors)
    found = []
    for tensor, place in zip(tensors, places, strict=True):
        case = _Case(
            file_type,
            FILE_TYPES[file_type],
            tensor,
            place,
            model.num_hidden_layers,
            model,
            importance,
        )
        found.append(f"gguf_{_blocks(case)}")
    return tuple(found)


def _places(tensors: tuple[Tensor, ...]) -> list[int]:
    """Return for each tensor how many of its name came before: layers that lack it do not count."""
    seen: dict[str, int] = {}
    places = []
    for tensor in tensors:
        kind = _CATEGORIES.get(tensor.name, tensor.name)
        mixed = tensor.role is Role.EXPERTS
        place = tensor.layer if mixed and tensor.layer is not None else seen.get(kind, 0)
        places.append(place)
        seen[kind] = seen.get(kind, 0) + 1
    return places


_VALUES = "value"
_CATEGORIES = {"key and value up": _VALUES, "query, key, value": _VALUES}


def _blocks(case: _Case) -> str:
    tensor = case.tensor
    if tensor.role in (Role.VECTORS, Role.ROUTER) or tensor.name in (
        "positions",
        "convolution",
        "compressor",
    ):
        return "f32"
    if case.file_type in _FLOATS:
        return case.default
    return _that_fit(_chosen(case), tensor.columns)


def _that_fit(blocks: str, columns: int) -> str:
    formats = stored_formats()
    for candidate in (blocks, _FALLBACKS.get(blocks, "f16")):
        if formats[f"gguf_{candidate}"].fits(columns):
            return candidate
    return "f16"


def _chosen(case: _Case) -> str:
    tensor = case.tensor
    tied = case.model.tied_embeddings and tensor.role is Role.EMBEDDING
    if tensor.role is Role.HEAD or tied:
        return _of_head(case)
    if case.file_type == "MXFP4_MOE":
        return "mxfp4" if tensor.role is Role.EXPERTS else "q8_0"
    if tensor.role is Role.EMBEDDING:
        return _of_embedding(case)
    category = _CATEGORIES.get(tensor.name, tensor.name)
    choices = _CHOICES_OF_SMALL if case.file_type in _SMALL else _CHOICES
    chosen = choices.get(category)
    return chosen(case) if chosen else case.default


def _of_head(case: _Case) -> str:
    if case.file_type == "MXFP4_MOE":
        return "q8_0"
    if not stored_formats()[f"gguf_{case.default}"].fits(case.tensor.columns):
        return "q8_0"
    if case.file_type in _SMALL or case.file_type == "IQ3_XXS":
        return "q5_k"
    return "q8_0" if case.default == "q8_0" else "q6_k"


def _of_embedding(case: _Case) -> str:
    if case.file_type in _SMALLEST:
        return "q2_k"
    if case.file_type in _TWO_BITS or case.file_type == "IQ3_XXS":
        return "iq3_s"
    return "q4_k" if case.file_type in ("TQ1_0", "TQ2_0") else case.default


def _small_value(case: _Case) -> str:
    if case.group >= 4 or case.experts >= 4:
        return "q4_k"
    return "iq3_s" if case.file_type in _TWO_BITS else "q2_k"


def _small_key(case: _Case) -> str:
    return "q4_k" if case.experts == 8 else case.default


def _small_down(case: _Case) -> str:
    if not case.early:
        return case.default
    return "iq3_s" if case.file_type in _TWO_BITS else "q2_k"


def _small_output(case: _Case) -> str:
    if case.experts == 8:
        return "q5_k"
    if case.file_type in ("IQ1_S", "IQ1_M"):
        return "iq2_xxs"
    return "iq3_s" if case.file_type in _TWO_BITS else case.default


_CHOICES_OF_SMALL: Mapping[str, Callable[[_Case], str]] = MappingProxyType(
    {
        "value": _small_value,
        "key": _small_key,
        "down": _small_down,
        "output": _small_output,
    }
)


def _value(case: _Case) -> str:
    chosen = _value_of_type(case)
    is_70b = case.layers == 80 and case.group > 1
    if is_70b and chosen in ("q3_k", "q4_k"):
        chosen = "q5_k"
    return "q8_0" if case.experts == 8 else chosen


def _value_of_type(case: _Case) -> str:
    grouped = {
        "Q2_K": "q4_k",
        "Q2_K_S": "q4_k",
        "IQ3_XXS": "q4_k",
        "IQ3_XS": "q4_k",
        "IQ3_S": "q4_k",
        "IQ4_NL": "q5_k",
        "IQ4_XS": "q5_k",
    }
    alone = {"Q2_K": "q3_k", "IQ3_XXS": "iq3_xxs" if case.importance else "iq3_s"}
    always = {"IQ3_M": "q4_k", "Q3_K_L": "q5_k", "Q3_K_M": "q5_k" if case.place < 2 else "q4_k"}
    if case.gets_more:
        always |= {"Q4_K_M": "q6_k", "Q5_K_M": "q6_k"}
    if case.place < 4:
        always["Q4_K_S"] = "q5_k"
    return {**always, **(grouped if case.group >= 4 else alone)}.get(case.file_type, case.default)


def _key(case: _Case) -> str:
    return "q8_0" if case.experts == 8 else _query(case)


def _query(case: _Case) -> str:
    return {"IQ3_XS": "iq3_xxs", "IQ3_XXS": "iq2_s"}.get(case.file_type, case.default)


def _down(case: _Case) -> str:
    first_sixteenth = case.place < case.layers // 16
    chosen = {"Q2_K": "q3_k", "Q3_K_M": "q5_k" if first_sixteenth else "q4_k", "Q3_K_L": "q5_k"}
    if case.gets_more:
        chosen |= {"Q4_K_M": "q6_k", "Q5_K_M": "q6_k"}
    if case.early:
        chosen |= {"Q2_K_S": "q4_k", "IQ3_M": "q4_k", "Q4_K_S": "q5_k"}
    if case.experts == 8 and case.gets_more:
        chosen["IQ3_M"] = "q4_k"
    return (chosen | _down_by_importance(case)).get(case.file_type, case.default)


def _down_by_importance(case: _Case) -> dict[str, str]:
    if case.importance:
        return {"Q4_0": "q4_1", "Q5_0": "q5_1"} if case.early else {}
    if case.early:
        return {"IQ3_XXS": "q4_k", "IQ4_NL": "q5_k", "IQ4_XS": "q5_k"}
    return {"IQ3_XXS": "q3_k"}


_MIXTRAL_OUTPUT = frozenset(
    {"Q2_K", "IQ3_XS", "IQ3_XXS", "Q3_K_S", "Q3_K_M", "IQ4_NL", "Q4_K_S", "Q4_K_M"}
    | {"IQ3_S", "IQ3_M", "IQ4_XS"}
)


def _output(case: _Case) -> str:
    if case.experts == 8:
        return "q5_k" if case.file_type in _MIXTRAL_OUTPUT else case.default
    chosen = {"Q2_K": "q3_k", "IQ3_XXS": "iq3_s", "Q3_K_M": "q4_k", "Q3_K_L": "q5_k"}
    return (chosen | {"IQ3_M": "q4_k"}).get(case.file_type, case.default)


def _first(case: _Case) -> str:
    inside = not case.early and case.place < 7 * case.layers // 8
    return "iq3_xxs" if case.file_type == "IQ3_XS" and inside else case.default


_CHOICES: Mapping[str, Callable[[_Case], str]] = MappingProxyType(
    {
        "value": _value,
        "key": _key,
        "query": _query,
        "down": _down,
        "output": _output,
        "gate projection": _first,
        "up": _first,
    }
)
