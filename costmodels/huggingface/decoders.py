"""What families of decoders have in common: sizes from the usual keys, and layouts layer by layer.

Defaults are those of a family's configuration in transformers; sizes without which there is no
model must be stated.
"""

from collections.abc import Callable, Mapping
from typing import Any

from costmodels.huggingface.reader import Reader
from costmodels.specs.layouts import Dense, Layout, Sliding
from costmodels.specs.model import Norm, Positions

Fields = dict[str, Any]

FULL, SLIDING, CHUNKED, LINEAR = (
    "full_attention",
    "sliding_attention",
    "chunked_attention",
    "linear_attention",
)
LAYERS = 2**16
_DROPOUTS = (
    *("attention_dropout", "hidden_dropout", "resid_pdrop", "embd_pdrop", "attn_pdrop", "dropout"),
    *("residual_dropout", "embedding_dropout", "resid_dropout", "embed_dropout"),
    *("hidden_dropout_prob", "attention_probs_dropout_prob"),
)


def decoder_fields(
    keys: Reader,
    *,
    gated: bool = True,
    norm: Norm = Norm.RMSNORM,
    tied: bool = False,
    bias: bool = False,
    output_bias: bool | None = None,
    ffn_bias: bool = False,
    layers: str = "num_hidden_layers",
    hidden: str = "hidden_size",
    heads: str = "num_attention_heads",
    positions: str = "max_position_embeddings",
    equal_heads: bool = False,
    head_size: int | None = None,
    width: int | None = None,
) -> Fields:
    """Return the fields that all families have, read from the usual keys.

    `equal_heads` is for families that split hidden_size by the heads whatever else a file says;
    `head_size` and `width` are for those that have them from other keys.
    """
    hidden_size = keys.integer(hidden, most=2**20)
    head_count = keys.size(heads, most=2**16)
    if head_size is None:
        head_size = _head_size(keys, hidden_size, head_count, equal=equal_heads)
    if width is None:
        width = keys.integer("intermediate_size", most=2**22)
    return {
        "num_hidden_layers": keys.integer(layers, most=LAYERS),
        "hidden_size": hidden_size,
        "num_attention_heads": head_count,
        "num_key_value_heads": _shared_heads(keys, head_count, equal=equal_heads),
        "head_size": head_size,
        "intermediate_size": width,
        "gated": gated,
        "vocabulary_size": keys.size("vocab_size", most=2**26),
        "tied_embeddings": keys.flag("tie_word_embeddings", default=tied),
        "norm": norm,
        "attention_bias": bias,
        "attention_output_bias": bias if output_bias is None else output_bias,
        "ffn_bias": ffn_bias,
        "positions": Positions.ROTARY,
        "max_position_embeddings": keys.size(positions, otherwise=2048, most=2**40),
        "dropout": max(map(keys.number, _DROPOUTS)) > 0,
    }


def _shared_heads(keys: Reader, head_count: int, *, equal: bool) -> int:
    """Return the key and value heads: as many as query heads where the file says none."""
    if equal:
        keys.require(
            "num_key_value_heads",
            only=(head_count,),
            reason=f"each of the {head_count} heads of this family has keys and values of its own",
        )
        return head_count
    return keys.size("num_key_value_heads", otherwise=head_count, most=2**16)


def _head_size(keys: Reader, hidden_size: int, head_count: int, *, equal: bool) -> int:
    """Return the width of a head: an equal part of hidden_size where the file says nothing."""
    quotient, rest = divmod(hidden_size, head_count)
    if equal:
        keys.require(
            "head_dim",
            only=(quotient,),
            reason=f"heads of this family have hidden_size / num_attention_heads ({quotient})",
        )
    size = quotient if equal else keys.size("head_dim", otherwise=0, most=2**16)
    if size and (not rest or size != quotient):
        return size
    if rest:
        raise keys.error(
            "num_attention_heads",
            f"must divide hidden_size ({hidden_size}), since head_dim is not given",
        )
    return quotient


def shortest_cycle(layers: list[Layout]) -> tuple[Layout, ...]:
    """Return the shortest list that gives all layers when it repeats.

    Examples
    --------
    >>> a, b = Dense(), Sliding(window=4)
    >>> shortest_cycle([a, b, a, b, a]) == (a, b)
    True
    """
    # The longest proper prefix that is also a suffix, for each prefix (Knuth, Morris, Pratt): in
    # linear time, since a file may name tens of thousands of layers.
    overlap = [0] * len(layers)
    for index in range(1, len(layers)):
        length = overlap[index - 1]
        while length and layers[index] != layers[length]:
            length = overlap[length - 1]
        overlap[index] = length + (layers[index] == layers[length])
    return tuple(layers[: len(layers) - overlap[-1]])


def mixed_layouts(
    keys: Reader,
    fields: Fields,
    kinds: Mapping[str, Layout | None],
    default: Callable[[int], str],
) -> tuple[Layout, ...]:
    """Return the layouts by `layer_types`, or by the family's rule where that is absent.

    A kind that is None is one that the family has, and whose size the file does not give.
    """
    count = fields["num_hidden_layers"]
    words = keys.by_layer("layer_types", count, tuple(kinds))
    if words is None:
        words = [default(index) for index in range(count)]
    known = {word: layout for word, layout in kinds.items() if layout is not None}
    for word in set(words) - set(known):
        key = "use_sliding_window" if keys.false("use_sliding_window") else "sliding_window"
        raise keys.error(key, f"layers of {word} need the length of a window")
    return shortest_cycle([known[word] for word in words])


def sliding_layout(keys: Reader) -> Sliding | None:
    """Return sliding attention, None where no window is given."""
    window = keys.size("sliding_window", otherwise=0, least=0)
    return Sliding(window=window) if window else None


def sliding_layout_in_use(keys: Reader) -> Sliding | None:
    """Return sliding attention where `use_sliding_window` says so, else None."""
    if keys.flag("use_sliding_window", default=False):
        return sliding_layout(keys)
    keys.skip("sliding_window", "max_window_layers")
    return None


def sliding_but_every(cycle: int, keys: Reader, fields: Fields) -> tuple[Layout, ...]:
    """Return layouts that slide but for the last layer of each cycle, unless a file says else."""
    kinds = {FULL: Dense(), SLIDING: sliding_layout(keys)}
    return mixed_layouts(
        keys, fields, kinds, lambda index: SLIDING if (index + 1) % cycle else FULL
    )


def everywhere(layout: Layout | None) -> tuple[Layout, ...]:
    """Return one layout for all layers, dense where there is none."""
    return (layout or Dense(),)


def rotating(keys: Reader, layers: int) -> list[int]:
    """Return for each layer whether it rotates positions: by default all but every fourth."""
    interval = keys.integer("no_rope_layer_interval", default=4)
    stated = keys.integers("no_rope_layers")
    if stated and len(stated) != layers:
        raise keys.error("no_rope_layers", f"expected a 0 or 1 for each of {layers} layers")
    return stated or [int((index + 1) % interval != 0) for index in range(layers)]
