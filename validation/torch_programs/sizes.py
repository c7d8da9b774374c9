"""Sizes of the decoders and steps that the programs run, as numbers: no torch here."""

from typing import NamedTuple


class Sizes(NamedTuple):
    """A small decoder, by the names of our description of a model [count].

    Norms are RMSNorm, projections have no bias, positions do not enter.
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
