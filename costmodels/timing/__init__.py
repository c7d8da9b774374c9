"""Times of a chunk for one microbatch: its compute, and the communication it waits for.

Collectives are rings alone on their links. What does not hide behind compute adds to the chunk.
"""

from costmodels.timing import (
    chunks,
    context_parallel,
    data_parallel,
    expert_parallel,
    tensor_parallel,
)

MODULES = (tensor_parallel, data_parallel, expert_parallel, context_parallel, chunks)
"""In the order of derivation."""
