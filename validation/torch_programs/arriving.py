"""DistributedDataParallel around a decoder of any kind of layer: which gradients it reduces together."""

from contextlib import nullcontext

import torch
from torch.nn.parallel import DistributedDataParallel

from costmodels.specs.model import Model
from costmodels.specs.plan import Recompute
from validation.torch_programs.blocks import Decoder
from validation.torch_programs.interception import Recorder, backend_calls

STEPS = 3
"""The last is recorded: buckets are made anew, in the order of arrival, in the second."""


def reduced(
    model: Model,
    *,
    bucket_mib: float | None,
    microbatch_count: int = 1,
    sequence_length: int = 8,
    recompute: Recompute = Recompute.NONE,
) -> list[int]:
    """Return the payload of each all-reduce of a step, in the order of the calls [byte].

    Parameters
    ----------
    model : Model
        Description of the decoder.
    bucket_mib : float or None
        Size at which a bucket closes; None for torch's own [MiB].
    microbatch_count : int
        Backwards of a step, of which the last reduces [count].
    sequence_length : int
        Tokens of the one sequence of a microbatch [count].
    recompute : Recompute
        Whether layers are computed again in the backward.

    Raises
    ------
    RuntimeError
        If the backend counts other calls than are recorded.
    """
    torch.manual_seed(0)
    whole = Decoder(model, recompute)
    decoder = DistributedDataParallel(whole, bucket_cap_mb=bucket_mib)
    recorder, before = Recorder(), 0
    for step in range(STEPS):
        before = backend_calls()
        with recorder if step == STEPS - 1 else nullcontext():
            for index in range(microbatch_count):
                tokens = torch.randint(model.vocabulary_size, (1, sequence_length))
                with nullcontext() if index == microbatch_count - 1 else decoder.no_sync():
                    decoder(tokens, tokens.roll(-1, dims=1)).backward()
    if backend_calls() - before != len(recorder.calls):
        raise RuntimeError(f"{len(recorder.calls)} calls recorded, others counted")
    return [call.message_bytes for call in recorder.calls]
