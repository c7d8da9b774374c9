"""Descriptions of attention layouts: who attends to whom in one layer, and with what projections."""

from typing import Annotated, TypeAlias, get_args

import msgspec

_COUNT = msgspec.Meta(ge=1, le=2**40)
_RANK = msgspec.Meta(ge=0, le=2**20)
_LIST = msgspec.Meta(min_length=1, max_length=64)

Count: TypeAlias = Annotated[int, _COUNT]
CountOrNone: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**40)]


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


class Sliding(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    tag_field="type",
    tag="sliding",
    forbid_unknown_fields=True,
):
    """Every query attends to the nearest keys that are not in its future.

    Attributes
    ----------
    window : int
        Keys of a query, its own included [token].
    sink_tokens : int
        First tokens of a sequence that every query attends to (arXiv:2309.17453) [token].
    """

    window: Count
    sink_tokens: CountOrNone = 0


class Chunked(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    tag_field="type",
    tag="chunked",
    forbid_unknown_fields=True,
):
    """Sequences are cut into chunks; a query attends to the past of its own chunk (Llama 4).

    Attributes
    ----------
    chunk_length : int
        Tokens of a chunk [token].
    """

    chunk_length: Count


class Dilated(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    tag_field="type",
    tag="dilated",
    forbid_unknown_fields=True,
):
    """Branches of sparse segments: in segments of w tokens, every r-th (LongNet, arXiv:2307.02486).

    Attributes
    ----------
    segment_lengths : tuple of int
        Tokens of a segment w of each branch [token].
    dilation_rates : tuple of int
        Step r between the tokens that attend to each other, of each branch [token].
    """

    segment_lengths: Annotated[tuple[Count, ...], _LIST]
    dilation_rates: Annotated[tuple[Count, ...], _LIST]


class DilatedHeads(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    tag_field="type",
    tag="dilated-heads",
    forbid_unknown_fields=True,
):
    """One dilation for each head: every r-th token, causal (Longformer, arXiv:2004.05150, 3.1).

    Either a query attends to its nearest keys of every r-th token, or inside segments of w tokens.

    Attributes
    ----------
    dilation_rates : tuple of int
        Step r of each equal share of the heads [token].
    keys_per_query : int
        Keys of a query, its own included; zero with segments [token].
    segment_lengths : tuple of int
        Tokens of a segment w of each share of the heads; left out, a query slides [token].
    every_residue : bool
        Whether each class of every r-th token of a segment attends to itself, or one, that of the
        head's offset.
    """

    dilation_rates: Annotated[tuple[Count, ...], _LIST]
    keys_per_query: CountOrNone = 0
    segment_lengths: Annotated[tuple[Count, ...], msgspec.Meta(max_length=64)] = ()
    every_residue: bool = False


class Infini(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    tag_field="type",
    tag="infini",
    forbid_unknown_fields=True,
):
    """Causal attention inside segments, a compressive memory for all before (arXiv:2404.07143).

    A learned gate for each head mixes the two.

    Attributes
    ----------
    segment_length : int
        Tokens of a segment [token].
    delta_rule : bool
        Whether an update subtracts what the memory holds for its keys (equation 9).
    first_read, last_update : bool
        Whether the empty memory is read, and updated after the last segment.
    decayed : bool
        Whether learned factors of each key head scale what is kept and what is added.
    """

    segment_length: Count
    delta_rule: bool = False
    first_read: bool = False
    last_update: bool = False
    decayed: bool = False


class Linear(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    tag_field="type",
    tag="linear",
    forbid_unknown_fields=True,
):
    """Linear attention: a running sum of keys times values, features ELU + 1 (arXiv:2006.16236).

    Attributes
    ----------
    scan_length : int
        Tokens of a chunk that attends inside; zero for one token after the other [token].
    normalized : bool
        Whether outputs are divided by queries times the sum of keys.
    """

    scan_length: CountOrNone = 64
    normalized: bool = True


class Compressive(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    tag_field="type",
    tag="compressive",
    forbid_unknown_fields=True,
):
    """Segments that see hidden states of the past, the older ones compressed (arXiv:1911.05507).

    A learned convolution as wide as its stride compresses what falls out of the plain memory.

    Attributes
    ----------
    segment_length : int
        Tokens of a segment [token].
    memory_tokens : int
        Hidden states kept as they are, a multiple of a segment [token].
    compressed_tokens : int
        Compressed hidden states kept, at most [token].
    compression_rate : int
        Hidden states that a compressed one stands for, a divisor of a segment [token].
    """

    segment_length: Count
    memory_tokens: CountOrNone
    compressed_tokens: Count
    compression_rate: Count


class Latent(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    tag_field="type",
    tag="latent",
    forbid_unknown_fields=True,
):
    """Multi-head latent attention: keys and values from one small vector (arXiv:2405.04434).

    Attributes
    ----------
    query_rank : int
        Width of the compressed query, zero where queries are projected at once [count].
    key_value_rank : int
        Width of the compressed keys and values [count].
    unrotated_size, rotated_size : int
        Widths of the two parts of a head's query and key [count].
    value_size : int
        Width of a head's value [count].
    """

    query_rank: Annotated[int, _RANK] = 0
    key_value_rank: Annotated[int, msgspec.Meta(ge=1, le=2**20)]
    unrotated_size: Annotated[int, msgspec.Meta(ge=1, le=2**16)]
    rotated_size: Annotated[int, msgspec.Meta(ge=1, le=2**16)]
    value_size: Annotated[int, msgspec.Meta(ge=1, le=2**16)]


class GatedDelta(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    tag_field="type",
    tag="gated-delta",
    forbid_unknown_fields=True,
):
    """Linear attention by a gated delta rule, behind a short convolution (arXiv:2412.06464).

    Attributes
    ----------
    key_heads, value_heads : int
        Heads of queries and keys; heads of values [count].
    key_head_size, value_head_size : int
        Width of each [count].
    convolution_width : int
        Tokens under the convolution [token].
    """

    key_heads: Annotated[int, msgspec.Meta(ge=1, le=2**16)]
    value_heads: Annotated[int, msgspec.Meta(ge=1, le=2**16)]
    key_head_size: Annotated[int, msgspec.Meta(ge=1, le=2**16)]
    value_head_size: Annotated[int, msgspec.Meta(ge=1, le=2**16)]
    convolution_width: Annotated[int, msgspec.Meta(ge=1, le=2**16)]


class Lightning(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    tag_field="type",
    tag="lightning",
    forbid_unknown_fields=True,
):
    """Linear attention in blocks, with an output gate and a norm (MiniMax-01, arXiv:2501.08313).

    Attributes
    ----------
    block_length : int
        Tokens of a block [token].
    """

    block_length: Count


Layout: TypeAlias = (
    Dense
    | Sliding
    | Chunked
    | Dilated
    | DilatedHeads
    | Infini
    | Linear
    | Compressive
    | Latent
    | GatedDelta
    | Lightning
)
"""Who attends to whom in one layer: a union of descriptions, told apart by their `type`."""

LAYOUTS: dict[str, type[msgspec.Struct]] = {
    str(member.__struct_config__.tag): member for member in get_args(Layout)
}
"""Every layout by its `type`."""

LAYOUT_FIELDS: dict[str, str] = {
    "causal": "whether the future is masked",
    "window": "keys of a query of sliding attention, its own included",
    "chunk_length": "tokens of a chunk of chunked attention",
    "sink_tokens": "first tokens that every query of sliding attention sees",
    "keys_per_query": "keys of a query where each head has a dilation, zero with segments",
    "every_residue": "whether every class of a segment attends, where each head has a dilation",
    "segment_length": "tokens of a segment of Infini-attention or of a Compressive Transformer",
    "delta_rule": "whether an update of Infini-attention subtracts what memory holds",
    "first_read": "whether Infini-attention reads the empty memory",
    "last_update": "whether Infini-attention updates memory after the last segment",
    "decayed": "whether learned factors scale an update of Infini-attention",
    "scan_length": "tokens of a chunk of linear attention, zero for one after the other",
    "normalized": "whether linear attention divides by the sum of keys",
    "memory_tokens": "hidden states that a Compressive Transformer keeps as they are",
    "compressed_tokens": "compressed hidden states that a Compressive Transformer keeps",
    "compression_rate": "hidden states that a compressed one stands for",
    "block_length": "tokens of a block of lightning attention",
    "query_rank": "width of the compressed query of latent attention",
    "key_value_rank": "width of the compressed keys and values of latent attention",
    "unrotated_size": "width of the unrotated part of a head's key, latent attention",
    "rotated_size": "width of the rotated part of a head's key, latent attention",
    "value_size": "width of a head's value, latent attention",
    "key_heads": "heads of queries and keys of a gated delta rule",
    "value_heads": "heads of values of a gated delta rule",
    "key_head_size": "width of a key of a gated delta rule",
    "value_head_size": "width of a value of a gated delta rule",
    "convolution_width": "tokens under the convolution of a gated delta rule",
}
"""Numbers of layouts that are inputs of closed forms; zero for a kind whose layout lacks them."""

TRUTHS = frozenset(
    {"causal", "every_residue", "delta_rule", "first_read", "last_update", "decayed", "normalized"}
)
"""Those of them that are true or false."""

LAYOUT_LISTS: dict[str, str] = {
    "segment_lengths": "tokens of a segment of each branch, or share of heads, of dilated attention",
    "dilation_rates": "step between the tokens of each branch, or share of heads",
}
"""Lists of layouts that are inputs of closed forms; empty for a kind whose layout lacks them."""


def type_of(layout: msgspec.Struct) -> str:
    """Return the `type` under which a layout is written.

    Examples
    --------
    >>> type_of(Dense())
    'dense'
    """
    return str(type(layout).__struct_config__.tag)
