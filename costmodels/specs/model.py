"""Description of a decoder transformer."""

from enum import StrEnum
from typing import Annotated, ClassVar

import msgspec

from costmodels.specs.base import SourcedSpec
from costmodels.specs.fields import choice, label, size
from costmodels.specs.layouts import Dense, Layout

_EVERYTHING = ("parameters", "memory", "compute", "communication", "time")
_PARAMETERS = ("parameters", "memory", "communication", "time")


class Norm(StrEnum):
    """Kind of normalization: LayerNorm has weight and bias, the others a weight only."""

    RMSNORM = "rmsnorm"
    LAYERNORM = "layernorm"
    LAYERNORM_NO_BIAS = "layernorm-no-bias"


class Positions(StrEnum):
    """How positions enter: rotated into queries and keys, a learned table, a bias of the scores."""

    ROTARY = "rotary"
    LEARNED = "learned"
    ALIBI = "alibi"
    NONE = "none"


class QueryKeyNorm(StrEnum):
    """Normalization of queries and keys: one weight for all heads, one for each, or no weight."""

    NONE = "none"
    HEAD = "head"
    FULL = "full"
    UNSCALED = "unscaled"


class Mixture(SourcedSpec, frozen=True, kw_only=True):
    """Mixture of experts in place of the feed-forward network of some or all layers.

    Attributes
    ----------
    expert_count : int
        Experts of a layer, of which a router chooses some for each token [count].
    experts_per_token : int
        Experts that the router chooses for a token [count].
    expert_intermediate_size : int or None
        Width of an expert; None for the model's intermediate size [count].
    shared_intermediate_size : int
        Width of the experts that every token visits, all together; zero without [count].
    shared_gate : bool
        Whether a learned gate weighs the shared experts (one more column of the router).
    router_bias : bool
        Whether the router has a trained bias.
    dense_layers : tuple of int
        Layers that have a feed-forward network of the model's intermediate size instead [index].
    """

    section: ClassVar[str] = "model.mixture"

    expert_count: Annotated[int, size("experts of a layer", *_EVERYTHING, least=2, most=2**16)]
    experts_per_token: Annotated[
        int,
        size(
            "experts that the router chooses for a token",
            "parameters",
            "memory",
            "compute",
            "communication",
            "time",
        ),
    ]
    expert_intermediate_size: (
        Annotated[
            int, size("width of an expert; left out, the model's intermediate size", *_EVERYTHING)
        ]
        | None
    ) = None
    shared_intermediate_size: Annotated[
        int,
        size("width of all shared experts together", *_EVERYTHING, least=0, most=2**22),
    ] = 0
    shared_gate: Annotated[
        bool, choice("whether a gate weighs the shared experts", *_EVERYTHING)
    ] = False
    router_bias: Annotated[bool, choice("whether the router has a bias", *_PARAMETERS)] = False
    dense_layers: Annotated[
        tuple[Annotated[int, msgspec.Meta(ge=0, lt=2**16)], ...],
        msgspec.Meta(
            max_length=2**16,
            description="layers without experts, by index from zero",
            extra={"influences": _EVERYTHING},
        ),
    ] = ()


class Model(SourcedSpec, frozen=True, kw_only=True):
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
        Kind of all normalizations.
    attention_bias, attention_output_bias, ffn_bias : bool
        Which projections have a bias: query, key and value; output; feed-forward.
    positions : Positions
        How positions enter.
    max_position_embeddings : int
        Longest sequence of the model [token].
    dropout : bool
        Whether dropout is active in training.
    reserved_positions : int
        Rows of the table of learned positions beyond the longest sequence (OPT: 2) [count].
    head_bias : bool
        Whether the language-model head has a bias.
    embedding_norm : bool
        Whether the embedding is normalized before the first layer (BLOOM).
    norms_per_layer : int
        Normalizations of a layer: 2, or 4 where outputs are normalized too, or 1 that attention
        and feed-forward network share [count].
    parallel_residual : bool
        Whether attention and feed-forward network of a layer read the same input.
    query_key_norm : QueryKeyNorm
        Normalization of queries and keys.
    attention_sinks : bool
        Whether each head has a learned logit that takes part in the softmax and has no value.
    attention_output_gate : bool
        Whether a gate as wide as the queries multiplies the output of attention.
    multi_token_prediction_layers : int
        Layers behind the last that predict further tokens, with their projection [count].
    mixture : Mixture or None
        Experts, for a mixture.
    layouts : tuple of Layout
        Layout of attention of each layer; a shorter list repeats.
    notes : tuple of str
        What every answer about this model says.
    source : str or None
        Where the values come from that state no source of their own.
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
    dropout: Annotated[
        bool,
        # What is kept passes to the host where a plan sends it there.
        choice("whether dropout is active in training", "memory", "communication", "time"),
    ] = False
    reserved_positions: Annotated[
        int,
        size("rows of learned positions beyond the longest", *_PARAMETERS, least=0, most=2**20),
    ] = 0
    head_bias: Annotated[bool, choice("whether the head has a bias", *_PARAMETERS)] = False
    embedding_norm: Annotated[bool, choice("whether the embedding is normalized", *_PARAMETERS)] = (
        False
    )
    norms_per_layer: Annotated[
        int, size("normalizations of a layer: 1, 2 or 4", *_PARAMETERS, most=4)
    ] = 2
    parallel_residual: Annotated[
        bool,
        choice(
            "whether attention and FFN of a layer read the same input",
            "memory",
            "communication",
            "time",
        ),
    ] = False
    query_key_norm: Annotated[
        QueryKeyNorm, choice("normalization of queries and keys", *_PARAMETERS)
    ] = QueryKeyNorm.NONE
    attention_sinks: Annotated[
        bool, choice("whether each head has a learned sink", *_PARAMETERS)
    ] = False
    attention_output_gate: Annotated[
        bool, choice("whether a gate multiplies the output of attention", *_EVERYTHING)
    ] = False
    multi_token_prediction_layers: Annotated[
        int,
        size("layers that predict further tokens", *_EVERYTHING, "pipeline", least=0, most=2**10),
    ] = 0
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
    notes: Annotated[
        tuple[Annotated[str, msgspec.Meta(min_length=1, max_length=1000)], ...],
        msgspec.Meta(
            max_length=1000,
            description="what every answer about this model says",
            extra={"influences": ("label",)},
        ),
    ] = ()
    source: (
        Annotated[
            str,
            msgspec.Meta(
                min_length=1,
                max_length=4000,
                description="where values come from that state no source of their own",
                extra={"influences": ("label",)},
            ),
        ]
        | None
    ) = None

    def has_experts(self, layer: int) -> bool:
        """Return whether a layer, counted from zero, has experts."""
        return self.mixture is not None and layer not in self.mixture.dense_layers
