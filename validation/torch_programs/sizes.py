"""Sizes of the decoders and steps that the programs run, as numbers: no torch here."""

from typing import Any, NamedTuple


class Sizes(NamedTuple):
    """A small decoder, by the names of our description of a model [count].

    Norms are RMSNorm, projections have no bias, positions do not enter. With compressed keys and
    values attention is latent, with as many heads of keys and values as of queries.
    """

    num_hidden_layers: int = 2
    hidden_size: int = 24
    num_attention_heads: int = 4
    num_key_value_heads: int = 4
    head_size: int = 8
    intermediate_size: int = 48
    gated: bool = True
    vocabulary_size: int = 48
    tied_embeddings: bool = False
    norms_per_layer: int = 2
    parallel_residual: bool = False
    multi_token_prediction_layers: int = 0
    query_rank: int = 0
    key_value_rank: int = 0
    rotated_size: int = 0

    def description(self) -> dict[str, Any]:
        """Return the fields of our description: with compressed keys and values, latent attention."""
        fields = self._asdict()
        ranks = {
            name: fields.pop(name) for name in ("query_rank", "key_value_rank", "rotated_size")
        }
        if not self.key_value_rank:
            return fields
        widths = {"unrotated_size": self.head_size, "value_size": self.head_size}
        return fields | {"layouts": [{"type": "latent", **ranks, **widths}]}


class Work(NamedTuple):
    """Work of one replica in a step [count].

    Attributes
    ----------
    micro_batch_size, sequence_length, microbatch_count : int
        Sequences of a microbatch, tokens of a sequence, microbatches.
    """

    micro_batch_size: int = 2
    sequence_length: int = 12
    microbatch_count: int = 2
