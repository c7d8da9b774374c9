"""Memory of inference: weights, the cache of keys and values, activations of a step, logits.

Prefill computes whole prompts, a microbatch at once; decode computes one token of every sequence
of a replica at once, as continuous batching does [1]_. In both the cache holds every sequence of
the replica at its full length, which is the workload's sequence length.

A layer caches what its own layout needs: all tokens, a window of them, one compressed vector a
token for all heads [2]_, or a state that does not grow with the sequence.

References
----------
.. [1] G. Yu et al., "Orca: A Distributed Serving System for Transformer-Based Generative Models,"
   OSDI 2022, section 4.1.
.. [2] DeepSeek-AI, "DeepSeek-V2," 2024, section 2.1. arXiv:2405.04434.
"""

from costmodels.serving import activations, caches, memory, weights

MODULES = (caches, weights, activations, memory)
"""In the order of derivation."""
