"""Description of a decoder transformer."""

from enum import StrEnum
from typing import Annotated, ClassVar, TypeAlias

import msgspec

from costmodels.specs.base import Spec
from costmodels.specs.fields import choice, label, size

_EVERYTHING = ("parameters", "memory", "compute", "communication", "time")
_PARAMETERS = ("parameters", "memory", "communication", "time")


class Norm(StrEnum):
    """Kind of normalization: LayerNorm has weight and bias, RMSNorm a weight only."""

    RMSNORM = "rmsnorm"
    LAYERNORM = "layernorm"


class Positions(StrEnum):
    """How positions enter: rotated into queries and keys, or a learned table added to the input."""

    ROTARY = "rotary"
    LEARNED = "learned"


class Dense(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    tag_field="type",
    tag="dense",
    forbid_unknown_fields=True,
):
    """Every query attends to every key, or to every key that is not in its future.

    Attributes
    ----------
    causal : bool
        Whether the future is masked.
    """

    causal: bool = True


LAYOUT_FIELDS = Dense.__struct_fields__
"""Fields of all layouts; an input of a kind of layer is zero where its layout lacks the field."""

Layout: TypeAlias = Dense
"""Who attends to whom in one layer: a union of descriptions, told apart by their `type`."""


class Mixture(Spec, frozen=True, kw_only=True):
    """Mixture of experts in place of the feed-forward network of every layer.

    Attributes
    ----------
    expert_count : int
        Experts of a layer, each of the model's intermediate size [count].
    experts_per_token : int
        Experts that the router chooses for a token [count].
    """

    section: ClassVar[str] = "model.mixture"

    expert_count: Annotated[int, size("experts of a layer", *_EVERYTHING, least=2, most=2**16)]
    experts_per_token: Annotated[
        int,
        size(
            "experts that the router chooses for a token", "parameters", "memory", "compute", "time"
        ),
    ]


class Model(Spec, frozen=True, kw_only=True):
    """A decoder transformer: layers of attention and feed-forward network between two embeddings.

    Attributes
    ----------
    name : str
        Label.
    num_hidden_layers, hidden_size : int
        Layers, and width of the residual stream [count].
    num_attention_heads, num_key_value_heads, head_size : int
        Query heads, key and value heads, width of each [count].
    intermediate_size : int
        Width of the feed-forward network, or of each expert [count].
    gated : bool
        Whether the feed-forward network multiplies two projections (SwiGLU: three matrices).
    vocabulary_size : int
        Rows of the embedding [count].
    tied_embeddings : bool
        Whether the language-model head is the input embedding.
    norm : Norm
        Kind of the two normalizations of a layer and the final one.
    attention_bias, attention_output_bias, ffn_bias : bool
        Which projections have a bias: query, key and value; output; feed-forward.
    positions : Positions
        How positions enter.
    max_position_embeddings : int
        Longest sequence of the model [token].
    dropout : bool
        Whether dropout is active in training.
    mixture : Mixture or None
        Experts, for a mixture.
    layouts : tuple of Layout
        Layout of attention of each layer; a shorter list repeats.
    """

    section: ClassVar[str] = "model"

    name: Annotated[str, label("label of the model")]
    num_hidden_layers: Annotated[
        int, size("transformer layers", *_EVERYTHING, "pipeline", most=2**16)
    ]
    hidden_size: Annotated[int, size("width of the residual stream", *_EVERYTHING, most=2**20)]
    num_attention_heads: Annotated[int, size("query heads", *_EVERYTHING, most=2**16)]
    num_key_value_heads: Annotated[int, size("key and value heads", *_EVERYTHING, most=2**16)]
    head_size: Annotated[int, size("width of a head", *_EVERYTHING, most=2**16)]
    intermediate_size: Annotated[
        int, size("width of the feed-forward network or of an expert", *_EVERYTHING, most=2**22)
    ]
    gated: Annotated[bool, choice("whether the FFN is gated (three matrices)", *_EVERYTHING)]
    vocabulary_size: Annotated[int, size("rows of the embedding", *_EVERYTHING, most=2**26)]
    tied_embeddings: Annotated[
        bool, choice("whether head and input embedding are one matrix", *_PARAMETERS)
    ]
    norm: Annotated[Norm, choice("kind of normalization", *_PARAMETERS)]
    attention_bias: Annotated[
        bool, choice("whether query, key and value projections have a bias", *_PARAMETERS)
    ]
    attention_output_bias: Annotated[
        bool, choice("whether the output projection has a bias", *_PARAMETERS)
    ]
    ffn_bias: Annotated[bool, choice("whether feed-forward projections have a bias", *_PARAMETERS)]
    positions: Annotated[Positions, choice("how positions enter", *_PARAMETERS)]
    max_position_embeddings: Annotated[
        int, size("longest sequence of the model", *_PARAMETERS, most=2**40)
    ]
    dropout: Annotated[bool, choice("whether dropout is active in training", "memory")] = False
    mixture: Annotated[Mixture, choice("mixture of experts", *_EVERYTHING)] | None = None
    layouts: Annotated[
        tuple[Layout, ...],
        msgspec.Meta(
            min_length=1,
            max_length=2**16,
            description="attention of each layer; a shorter list repeats",
            extra={"influences": ("compute", "time")},
        ),
    ] = (Dense(),)
