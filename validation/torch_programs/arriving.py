"""DistributedDataParallel around a decoder of any kind of layer: which gradients it reduces together."""

from contextlib import nullcontext

import torch
from torch.nn.parallel import DistributedDataParallel

from costmodels.specs.model import Model
from validation.torch_programs.blocks import Decoder
from validation.torch_programs.interception import Recorder, backend_calls

STEPS = 3
"""The last is recorded: buckets are made anew, in the order of arrival, in the second."""


def reduced(
    model: Model, *, bucket_mib: float | None, microbatch_count: int = 1, sequence_length: int = 8
) -> tuple[list[int], int]:
    """Return the payload of each all-reduce of a step, and the calls that the backend counts.

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
    """
    torch.manual_seed(0)
    decoder = DistributedDataParallel(Decoder(model), bucket_cap_mb=bucket_mib)
    recorder = Recorder()
    calls = 0
    for step in range(STEPS):
        before = backend_calls()
        with recorder if step == STEPS - 1 else nullcontext():
            for index in range(microbatch_count):
                tokens = torch.randint(model.vocabulary_size, (1, sequence_length))
                with nullcontext() if index == microbatch_count - 1 else decoder.no_sync():
                    decoder(tokens, tokens.roll(-1, dims=1)).backward()
        calls = backend_calls() - before
    return [call.message_bytes for call in recorder.calls], calls
