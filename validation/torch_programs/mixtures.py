"""A decoder of experts over unlike meshes: dense weights over all ranks, experts over their replicas.

As torchtitan combines expert parallelism with FSDP2: neighbouring ranks share the experts of each
layer and exchange tokens; the experts of a rank are sharded over the ranks that hold the same ones,
all other weights over all ranks.

References
----------
D. Liu et al., "MoE Parallel Folding," 2025, arXiv:2504.14960; github.com/pytorch/torchtitan@b5bcd76c66,
models/llama4/parallelize.py, ``apply_fsdp``.
"""

import math

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from costmodels.specs.layouts import Dense
from costmodels.specs.model import Mixture, Model
from validation.torch_programs import training
from validation.torch_programs.attention_modules import Attention, norm
from validation.torch_programs.blocks import Head
from validation.torch_programs.exchanges import AllToAll, balanced_routes
from validation.torch_programs.interception import labelled
from validation.torch_programs.records import BACKWARD, FORWARD, Observed
from validation.torch_programs.sizes import Work


def _drawn(place: int, *shape: int) -> torch.Tensor:
    """Return weights that are the same on every rank."""
    generator = torch.Generator().manual_seed(place)
    return torch.randn(shape, generator=generator) / math.sqrt(shape[-1])


class Experts(nn.Module):
    """The experts of a rank, and the exchange of tokens with the ranks that have the others.

    Parameters
    ----------
    model : Model
        Width of the stream, and whether experts are gated, which they are not.
    mixture : Mixture
        Experts, and how many a token visits.
    place : int
        Layer [index].
    group : process group or None
        Ranks that share the experts; None for all on one.
    """

    def __init__(
        self, model: Model, mixture: Mixture, place: int, group: dist.ProcessGroup | None
    ) -> None:
        super().__init__()
        self.group, self.visited = group, mixture.experts_per_token
        self.count = mixture.expert_count
        self.size = 1 if group is None else dist.get_world_size(group)
        own = self.count // self.size
        first = 0 if group is None else dist.get_rank(group) * own
        width = mixture.expert_intermediate_size or model.intermediate_size
        hidden = model.hidden_size
        up = _drawn(100 + place, self.count, width, hidden)[first : first + own]
        down = _drawn(200 + place, self.count, hidden, width)[first : first + own]
        self.up, self.down = nn.Parameter(up.clone()), nn.Parameter(down.clone())

    def forward(self, tokens: torch.Tensor, probabilities: torch.Tensor) -> torch.Tensor:
        """Return the weighed sum of what the experts of (tokens, hidden) make of them."""
        visits = balanced_routes(len(tokens), self.count, self.visited).flatten()
        order = visits.argsort(stable=True)
        rows = self._exchanged(tokens[order // self.visited])
        # From each rank the rows of each expert here, all equally many.
        rows = rows.reshape(self.size, self.count // self.size, -1, tokens.shape[-1])
        inner = torch.einsum("rech,eih->reci", rows, self.up).tanh()
        done = torch.einsum("reci,ehi->rech", inner, self.down).reshape(len(order), -1)
        returned = self._exchanged(done)
        weights = probabilities[order // self.visited, visits[order], None]
        return torch.zeros_like(tokens).index_add(0, order // self.visited, returned * weights)

    def _exchanged(self, rows: torch.Tensor) -> torch.Tensor:
        return rows if self.group is None else torch.as_tensor(AllToAll.apply(rows, self.group))


class _Layer(nn.Module):
    def __init__(
        self, model: Model, place: int, group: dist.ProcessGroup | None, *, repeats: bool
    ) -> None:
        super().__init__()
        mixture = model.mixture
        assert mixture is not None  # noqa: S101 - tells the type checker
        self.repeats = repeats
        self.attention_norm = norm(model.norm, model.hidden_size)
        self.attention = Attention(model, Dense())
        self.ffn_norm = norm(model.norm, model.hidden_size)
        self.router = nn.Linear(model.hidden_size, mixture.expert_count, bias=False)
        self.experts = Experts(model, mixture, place, group)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        hidden = hidden + self.attention(self.attention_norm(hidden))
        normed = self.ffn_norm(hidden)
        network = checkpoint(self._network, normed, use_reentrant=True) if self.repeats else None
        return hidden + (self._network(normed) if network is None else torch.as_tensor(network))

    def _network(self, normed: torch.Tensor) -> torch.Tensor:
        tokens = normed.flatten(0, 1)
        out: torch.Tensor = self.experts(tokens, self.router(tokens).softmax(dim=-1))
        return out.view_as(normed)


class _Decoder(nn.Module):
    def __init__(
        self, model: Model, group: dist.ProcessGroup | None = None, *, repeats: bool = False
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(model.vocabulary_size, model.hidden_size)
        places = range(model.num_hidden_layers)
        self.layers = nn.ModuleList(
            _Layer(model, place, group, repeats=repeats) for place in places
        )
        self.head = Head(model)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        hidden = self.embedding(tokens)
        for layer in self.layers:
            hidden = layer(hidden)
        logits: torch.Tensor = self.head(hidden)
        return logits


def _shard(decoder: _Decoder, replicas: DeviceMesh) -> None:
    """Shard experts over the ranks with the same ones, and all else over all ranks."""
    everyone = init_device_mesh("cpu", (dist.get_world_size(),))
    for layer in decoder.layers:
        fully_shard(layer.get_submodule("experts"), mesh=replicas)
        fully_shard(layer, mesh=everyone)
    for part in (decoder.embedding, decoder.head, decoder):
        fully_shard(part, mesh=everyone)


def _built(
    model: Model, group: dist.ProcessGroup | None = None, *, repeats: bool = False
) -> _Decoder:
    torch.manual_seed(0)
    return _Decoder(model, group, repeats=repeats)


def _backpropagate(decoder: nn.Module, tokens: torch.Tensor, targets: torch.Tensor) -> float:
    with labelled(FORWARD):
        logits = decoder(tokens)
        loss = functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
    with labelled(BACKWARD):
        loss.backward()
    return float(loss.detach())


def _batches(model: Model, work: Work, step: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(7919 * step + dist.get_rank())
    shape = (2, work.microbatch_count, work.micro_batch_size, work.sequence_length)
    tokens, targets = torch.randint(model.vocabulary_size, shape, generator=generator)
    return list(zip(tokens, targets, strict=True))


def train(
    model: Model, work: Work, *, expert_parallel_size: int, shards: bool, repeats: bool
) -> tuple[Observed, float]:
    """Train with experts shared by neighbours, and return what this rank saw, and its error.

    Parameters
    ----------
    model : Model
        Of layers with experts, a head of its own and no positions that are learned.
    work : Work
        Of a rank.
    expert_parallel_size : int
        Neighbours that share the experts of a layer [count].
    shards : bool
        Whether weights are sharded with FSDP2; if not, they are never reduced.
    repeats : bool
        Whether router and experts are computed again in the backward.

    Returns
    -------
    tuple
        And the largest difference of the first step's losses from those of the whole model.
    """
    ranks, size = dist.get_world_size(), expert_parallel_size
    mesh = init_device_mesh("cpu", (ranks // size, size), mesh_dim_names=("replicas", "experts"))
    decoder = _built(model, mesh["experts"].get_group(), repeats=repeats)
    if shards:
        _shard(decoder, mesh["replicas"])
    whole = _built(model)
    first = [_backpropagate(whole, *pair) for pair in _batches(model, work, 0)]
    found: list[float] = []

    def run_step(step: int) -> float:
        losses = [_backpropagate(decoder, *pair) for pair in _batches(model, work, step)]
        if step == 0:
            found.extend(losses)
        training.descend(list(decoder.parameters()), microbatch_count=len(losses))
        return sum(losses) / len(losses)

    seen = training.observed(run_step)
    return seen, max(abs(one - other) for one, other in zip(found, first, strict=True))
