"""Sharded data parallelism: ZeRO stages 1 and 2 by hand, stage 3 with torch's FSDP2.

References
----------
S. Rajbhandari et al., "ZeRO," 2020, section 5, arXiv:1910.02054; Y. Zhao et al., 2023,
arXiv:2304.11277, for stage 3.
"""

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from validation.torch_programs import training
from validation.torch_programs.decoder import Decoder, Whole
from validation.torch_programs.interception import labelled
from validation.torch_programs.records import REDUCTION, UPDATE, Observed
from validation.torch_programs.sizes import Sizes, Work

_all_gather = getattr(dist, "all_gather_single", dist.all_gather_into_tensor)
_reduce_scatter = getattr(dist, "reduce_scatter_single", dist.reduce_scatter_tensor)


class FlatShards:
    """All weights as one vector, the last first, cut into buckets that are padded.

    Each rank of a group updates an equal part of every bucket.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        group: dist.ProcessGroup | None = None,
        *,
        bucket_elements: int = 0,
    ) -> None:
        self.group = group
        self.parameters = list(model.parameters())[::-1]
        self.size, self.rank = dist.get_world_size(group), dist.get_rank(group)
        elements = sum(parameter.numel() for parameter in self.parameters)
        bucket = bucket_elements or elements
        self.buckets = [min(bucket, elements - start) for start in range(0, elements, bucket)]
        self.shards = [-(-bucket // self.size) for bucket in self.buckets]

    def _padded(self, tensors: list[torch.Tensor]) -> list[torch.Tensor]:
        """Return the buckets of some tensors, each as long as its shards together."""
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        return [
            torch.nn.functional.pad(bucket, (0, shard * self.size - len(bucket)))
            for bucket, shard in zip(flat.split(self.buckets), self.shards, strict=True)
        ]

    def scattered_gradient(self) -> torch.Tensor:
        """Return this rank's part of the sum of all ranks' gradients, and clear them."""
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        parts = []
        for bucket, elements in zip(self._padded(gradients), self.shards, strict=True):
            parts.append(bucket.new_empty(elements))
            with labelled(REDUCTION):
                _reduce_scatter(parts[-1], bucket, group=self.group)
        for parameter in self.parameters:
            parameter.grad = None
        return torch.cat(parts)

    @torch.no_grad()
    def update(self, gradient: torch.Tensor, *, microbatch_count: int) -> None:
        """Take a step with this rank's part, and gather the weights from all ranks."""
        buckets = self._padded([parameter.data for parameter in self.parameters])
        shard = torch.cat([bucket.chunk(self.size)[self.rank] for bucket in buckets])
        shard = shard - training.LEARNING_RATE / microbatch_count * gradient
        gathered = shard.new_empty(self.size * len(shard))
        with labelled(UPDATE):
            _all_gather(gathered, shard, group=self.group)
        parts = gathered.view(self.size, -1).split(self.shards, dim=1)
        flat = torch.cat(
            [part.flatten()[:size] for part, size in zip(parts, self.buckets, strict=True)]
        )
        pieces = flat.split([parameter.numel() for parameter in self.parameters])
        for parameter, piece in zip(self.parameters, pieces, strict=True):
            parameter.copy_(piece.view_as(parameter))


def train_flat(sizes: Sizes, work: Work, *, zero_stage: int, bucket_elements: int = 0) -> Observed:
    """Train with ZeRO stage 1 or 2 over all ranks, and return what this rank saw.

    Parameters
    ----------
    sizes, work : Sizes, Work
        The model, and the work of a replica.
    zero_stage : int
        1 or 2.
    bucket_elements : int
        Gradients that are scattered in one call; 0 for all of them [count].

    Notes
    -----
    Stage 1 accumulates whole gradients and scatters them once; stage 2 scatters them after the
    backward of every microbatch and accumulates its part.
    """
    split = Whole()
    model = Decoder(sizes, split)
    shards = FlatShards(model, bucket_elements=bucket_elements)

    def run_step(step: int) -> float:
        losses, parts = [], []
        for tokens, targets in training.microbatches(
            sizes, work, step=step, replica=dist.get_rank()
        ):
            losses.append(training.backpropagate(model, split, tokens, targets))
            if zero_stage == 2:
                parts.append(shards.scattered_gradient())
        if zero_stage == 1:
            parts.append(shards.scattered_gradient())
        shards.update(torch.stack(parts).sum(0), microbatch_count=len(losses) * shards.size)
        return sum(losses) / len(losses)

    return training.observed(run_step)


def cast_policy() -> MixedPrecisionPolicy:
    """Return the policy that gathers weights in bf16 and scatters gradients in fp32."""
    return MixedPrecisionPolicy(
        param_dtype=torch.bfloat16, reduce_dtype=torch.float32, output_dtype=torch.float32
    )


def train_fully_sharded(
    sizes: Sizes,
    work: Work,
    *,
    sharding_group_size: int | None = None,
    cast_on_gather: bool = False,
    reshards_after_forward: bool = True,
    scatters_once: bool = False,
) -> Observed:
    """Train with FSDP2 over all ranks, as this rank saw it.

    Parameters
    ----------
    sizes, work : Sizes, Work
        The model, and the work of a replica.
    sharding_group_size : int or None
        Neighbours that shard; the groups hold the same shards. None shards over all ranks [count].
    cast_on_gather : bool
        Whether weights are gathered in bf16; what is kept, and gradients as they are scattered,
        stay in fp32.
    reshards_after_forward : bool
        Whether gathered weights are given up after their forward, and gathered again.
    scatters_once : bool
        Whether gradients are scattered after the last backward of a step only, and whole before.

    Notes
    -----
    Embedding, layers and head are a group of weights each; with a tied head, the ends are one.
    FSDP2 pads dimension 0 of each weight to a multiple of the ranks. Gradients are averaged.
    """
    split = Whole()
    model = Decoder(sizes, split)
    ranks = dist.get_world_size()
    if sharding_group_size is None:
        mesh = init_device_mesh("cpu", (ranks,))
    else:
        shape = (ranks // sharding_group_size, sharding_group_size)
        mesh = init_device_mesh("cpu", shape, mesh_dim_names=("replicate", "shard"))
    policy = cast_policy() if cast_on_gather else MixedPrecisionPolicy()
    ends = [] if sizes.tied_embeddings else [model.embedding, model.head]
    for part in (*ends, *model.layers, model):
        fully_shard(part, mesh=mesh, reshard_after_forward=reshards_after_forward, mp_policy=policy)

    def run_step(step: int) -> float:
        losses = []
        pairs = list(training.microbatches(sizes, work, step=step, replica=dist.get_rank()))
        for number, (tokens, targets) in enumerate(pairs, 1):
            is_last = number == len(pairs)
            model.set_requires_gradient_sync(is_last or not scatters_once)  # type: ignore[operator]
            losses.append(training.backpropagate(model, split, tokens, targets))
        training.descend(list(model.parameters()), microbatch_count=len(losses))
        return sum(losses) / len(losses)

    return training.observed(run_step)
