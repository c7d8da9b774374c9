"""Messages of one GPU over a step, collective by collective: calls, payload, bytes on the wire.

The *payload* of a call is the whole tensor that a collective works on: what each rank has before
an all-reduce or a reduce-scatter, and after an all-gather; for a send, what is sent. The bytes on
the wire are those that one rank sends, by the ring algorithm [1]_.

One module for each axis of parallelism holds calls and payloads; `wire` holds the bytes sent. Further
tokens have their own in `costmodels.prediction`.

References
----------
.. [1] R. Thakur, R. Rabenseifner, W. Gropp, 2005, section 4. doi:10.1177/1094342005051521.
"""

from costmodels.messages import (
    context_parallel,
    data_parallel,
    expert_parallel,
    latent,
    pipeline_parallel,
    tensor_parallel,
    wire,
)

MODULES = (
    latent,
    tensor_parallel,
    pipeline_parallel,
    data_parallel,
    expert_parallel,
    context_parallel,
    wire,
)
"""In the order of derivation."""
