"""Activations of a GPU by component.

The parts of activations are those that a GPU holds at the moment when it holds most; they add up
to what the closed form of that peak says.
"""

from costmodels.columns import Axis, Column, weighted_total
from costmodels.quantities import CHUNK, STAGE, Basis, Quantity, Scope, quantity, renamed

_KORTHIKANTI = "Korthikanti et al. 2022, arXiv:2205.05198, sections 4 and 5"
_SUM = "what a microbatch keeps, times the microbatches held when the GPU holds most"
_STAGE = (STAGE,)
_CHUNK = (STAGE, CHUNK)


def _less(saved: Axis, repeated: Axis) -> list[Column]:
    """Return what each kind of layer keeps, without what its modules compute again [byte]."""
    return [whole - again for whole, again in zip(saved, repeated, strict=True)]


@quantity(
    "byte",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="total(kind_kept_layers * (attention_saved_bytes - attention_repeated_bytes))",
    source=_KORTHIKANTI,
)
def chunk_attention_bytes(
    kind_kept_layers: Axis, attention_saved_bytes: Axis, attention_repeated_bytes: Axis
) -> Column:
    """Return what a chunk keeps around attention, for one microbatch [byte]."""
    return weighted_total(kind_kept_layers, _less(attention_saved_bytes, attention_repeated_bytes))


@quantity(
    "byte",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="(1 - core_is_repeated) * total(kind_kept_layers * attention_core_bytes)",
    source=_KORTHIKANTI,
)
def chunk_attention_core_bytes(
    core_is_repeated: Column, kind_kept_layers: Axis, attention_core_bytes: Axis
) -> Column:
    """Return what a chunk keeps inside attention, for one microbatch [byte]."""
    kept = 1 - core_is_repeated
    return kept * weighted_total(kind_kept_layers, attention_core_bytes)


@quantity(
    "byte",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="total(kind_kept_layers * (ffn_saved_bytes - ffn_repeated_bytes))",
    source=_KORTHIKANTI,
)
def chunk_ffn_bytes(
    kind_kept_layers: Axis, ffn_saved_bytes: Axis, ffn_repeated_bytes: Axis
) -> Column:
    """Return what a chunk keeps for feed-forward networks or experts, for one microbatch [byte]."""
    return weighted_total(kind_kept_layers, _less(ffn_saved_bytes, ffn_repeated_bytes))


@quantity(
    "byte",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="total(kind_kept_layers * (mixture_saved_bytes - mixture_repeated_bytes))",
    source=_KORTHIKANTI,
)
def chunk_mixture_bytes(
    kind_kept_layers: Axis, mixture_saved_bytes: Axis, mixture_repeated_bytes: Axis
) -> Column:
    """Return what a chunk keeps to route tokens to experts, for one microbatch [byte]."""
    return weighted_total(kind_kept_layers, _less(mixture_saved_bytes, mixture_repeated_bytes))


@quantity(
    "byte",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="chunk_embedding_passes * embedding_saved_bytes",
    source=_KORTHIKANTI,
)
def chunk_embedding_bytes(chunk_embedding_passes: Column, embedding_saved_bytes: Column) -> Column:
    """Return what a chunk keeps behind the embedding, for one microbatch [byte]."""
    return chunk_embedding_passes * embedding_saved_bytes


def held_bytes(chunk_in_flight_count: Axis, chunk_part_bytes: Axis) -> Column:
    """Return what a GPU holds of one part, over its chunks [byte].

    Examples
    --------
    >>> held_bytes([3, 2], [10, 100])
    230
    """
    return weighted_total(chunk_in_flight_count, chunk_part_bytes)


def _part(name: str, definition: str) -> Quantity:
    """Return the quantity of one part of the activations of a GPU, at their peak."""
    chunk = f"chunk_{name}_bytes"
    own = f"{name}_activations_bytes"
    return Quantity(
        name=own,
        unit="byte",
        scope=Scope.GPU,
        axes=_STAGE,
        definition=definition,
        basis=Basis.EXACT,
        formula=f"total(chunk_in_flight_count * {chunk})",
        source=_SUM,
        function=renamed(held_bytes, own, {"chunk_part_bytes": chunk}),
    )


ACTIVATIONS = (
    _part(
        "layer_input",
        "Inputs of layers alone: of those computed again, of a first one on the host.",
    ),
    _part("attention", "Activations kept around attention: norms, projections, output."),
    _part("attention_core", "Activations kept inside attention: scores, or a logsumexp."),
    _part("ffn", "Activations kept for feed-forward networks or experts."),
    _part("mixture", "Activations kept to route tokens to experts and back."),
    _part("embedding", "Activations kept behind the embedding."),
    _part(
        "head", "Activations kept for heads and losses, logits included, and projections to them."
    ),
)
"""The parts of `activations_bytes`, which they add up to."""
