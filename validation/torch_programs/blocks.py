"""A decoder built from our description of a model, of any kind of layer, on one device.

Dropout is left out: it is neither a product nor a parameter.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint, set_checkpoint_early_stop

from costmodels.specs.model import Mixture, Model, Positions
from costmodels.specs.plan import Recompute, RecomputeModule
from validation.torch_programs.attention_modules import LatentAttention, attention_of, norm
from validation.torch_programs.repeating import Discarded

_USUAL = (RecomputeModule.CORE_ATTN,)


class FeedForward(nn.Module):
    """A feed-forward network, gated or not.

    Parameters
    ----------
    model : Model
        Width of the residual stream, gate and biases.
    width : int
        Width inside [count].
    """

    def __init__(self, model: Model, width: int) -> None:
        super().__init__()
        hidden, bias = model.hidden_size, model.ffn_bias
        self.gate = nn.Linear(hidden, width, bias=bias) if model.gated else None
        self.up = nn.Linear(hidden, width, bias=bias)
        self.down = nn.Linear(width, hidden, bias=bias)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the output of (..., hidden)."""
        (inner,) = self._activated(*self._wide(hidden))
        out: torch.Tensor = self.down(inner)
        return out

    def without_inner(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the same, the output of the activation function made again in the backward."""
        discarded = Discarded(self._activated, *self._wide(hidden))
        out: torch.Tensor = self.down(*discarded.outputs)
        discarded.discard(out)
        return out

    def _wide(self, hidden: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return what enters the activation function: one projection, and a gate."""
        wide = self.up(hidden)
        return (wide,) if self.gate is None else (wide, self.gate(hidden))

    @staticmethod
    def _activated(wide: torch.Tensor, *gate: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the activation inside."""
        return (functional.silu(gate[0]) * wide if gate else functional.gelu(wide),)


class Experts(nn.Module):
    """A mixture of experts whose router gives every expert as many tokens, up to one.

    Parameters
    ----------
    model : Model
        Width of the residual stream, gate, biases, and width of an expert without its own.
    mixture : Mixture
        Experts, how many a token visits, and shared ones.

    Notes
    -----
    Experts are dealt out in turn, whatever the router says, so that shapes do not depend on
    values; its probabilities weigh the outputs of the experts, so that it has a gradient.
    """

    def __init__(self, model: Model, mixture: Mixture) -> None:
        super().__init__()
        self.visited = mixture.experts_per_token
        self.recompute_activations = False
        self.recompute_shared = False
        width = mixture.expert_intermediate_size or model.intermediate_size
        self.router = nn.Linear(model.hidden_size, mixture.expert_count, bias=mixture.router_bias)
        self.experts = nn.ModuleList(FeedForward(model, width) for _ in range(mixture.expert_count))
        shared = mixture.shared_intermediate_size
        self.shared = FeedForward(model, shared) if shared else None
        self.shared_gate = (
            nn.Linear(model.hidden_size, 1, bias=False) if mixture.shared_gate else None
        )

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the output of (batch, sequence, hidden)."""
        tokens = hidden.flatten(0, -2)
        probabilities = self.router(tokens).softmax(dim=-1)
        out = torch.zeros_like(tokens)
        visits = torch.arange(len(tokens) * self.visited, device=tokens.device)
        for number, expert in enumerate(self.experts):
            rows = visits[number :: len(self.experts)] // self.visited
            weighed = self._visited(expert, tokens[rows]) * probabilities[rows, number, None]
            out = out.index_add(0, rows, weighed)
        if self.shared is not None:
            out = out + (
                checkpoint(self._shared, tokens, use_reentrant=False)
                if self.recompute_shared
                else self._shared(tokens)
            )
        return out.view_as(hidden)

    def _visited(self, expert: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
        """Return the output of one expert."""
        if self.recompute_activations and isinstance(expert, FeedForward):
            return expert.without_inner(tokens)
        out: torch.Tensor = expert(tokens)
        return out

    def _shared(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the output of the experts that every token visits."""
        assert self.shared is not None  # noqa: S101 - tells the type checker
        out: torch.Tensor = self.shared(tokens)
        return out if self.shared_gate is None else out * self.shared_gate(tokens).sigmoid()


class Block(nn.Module):
    """A layer: attention and feed-forward network, each behind a norm, or between two.

    Side by side they read the same stream, through a norm each or through one.

    Parameters
    ----------
    model : Model
        Description of the whole model.
    layer : int
        Which of its layers [index].
    recompute : Recompute
        ``selective`` computes modules again in the backward; ``full`` is the decoder's.
    modules : tuple of RecomputeModule
        Which ones.
    """

    def __init__(
        self,
        model: Model,
        layer: int,
        recompute: Recompute = Recompute.NONE,
        modules: tuple[RecomputeModule, ...] = _USUAL,
    ) -> None:
        super().__init__()
        again = modules if recompute is Recompute.SELECTIVE else ()
        mixture = model.mixture if model.has_experts(layer) else None
        self.attention = attention_of(model, model.layouts[layer % len(model.layouts)])
        self.attention.recompute_core = RecomputeModule.CORE_ATTN in again
        if isinstance(self.attention, LatentAttention):
            self.attention.recompute_heads = RecomputeModule.MLA_UP_PROJ in again
        network = RecomputeModule.MLP if mixture is None else RecomputeModule.MOE
        self.recompute_norms = RecomputeModule.LAYERNORM in again
        self.recompute_network = network in again
        self.ffn = (
            FeedForward(model, model.intermediate_size)
            if mixture is None
            else Experts(model, mixture)
        )
        if isinstance(self.ffn, Experts):
            self.ffn.recompute_activations = RecomputeModule.MOE_ACT in again
            self.ffn.recompute_shared = RecomputeModule.SHARED_EXPERTS in again
        after = model.norms_per_layer == 4
        self.attention_norm = norm(model.norm, model.hidden_size)
        self.beside = model.parallel_residual
        self.ffn_norm = norm(model.norm, model.hidden_size) if model.norms_per_layer > 1 else None
        self.attention_out_norm = norm(model.norm, model.hidden_size) if after else nn.Identity()
        self.ffn_out_norm = norm(model.norm, model.hidden_size) if after else nn.Identity()

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the output of (batch, sequence, hidden)."""
        if self.beside:
            return self._side_by_side(hidden)
        assert self.ffn_norm is not None  # noqa: S101 - tells the type checker
        attended = self._behind(self.attention_norm, self.attention, hidden)
        hidden = hidden + self.attention_out_norm(attended)
        out: torch.Tensor = hidden + self.ffn_out_norm(
            self._behind(self.ffn_norm, self._network, hidden)
        )
        return out

    def _network(self, normed: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = (
            checkpoint(self.ffn, normed, use_reentrant=False)
            if self.recompute_network
            else self.ffn(normed)
        )
        return out

    def _behind(self, norm: nn.Module, half: Callable[..., Any], hidden: torch.Tensor) -> Any:
        """Return half a layer behind a norm, whose output is perhaps made again in the backward."""
        if not self.recompute_norms:
            return half(norm(hidden))
        discarded = Discarded(lambda entering: (norm(entering),), hidden)
        out = half(*discarded.outputs)
        discarded.discard(out)
        return out

    def _side_by_side(self, hidden: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor
        if self.ffn_norm is not None:
            attended = self._behind(self.attention_norm, self.attention, hidden)
            out = hidden + attended + self._behind(self.ffn_norm, self._network, hidden)
            return out
        out = hidden + self._behind(self.attention_norm, self._both, hidden)
        return out

    def _both(self, normed: torch.Tensor) -> torch.Tensor:
        attended: torch.Tensor = self.attention(normed)
        return attended + self._network(normed)


class Head(nn.Module):
    """The final norm and the language-model head.

    Parameters
    ----------
    model : Model
        Description of the model.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.norm = norm(model.norm, model.hidden_size)
        self.projection = nn.Linear(model.hidden_size, model.vocabulary_size, bias=model.head_bias)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the logits of (batch, sequence, hidden)."""
        logits: torch.Tensor = self.projection(self.norm(hidden))
        return logits


class Further(nn.Module):
    """One depth of multi-token prediction: a layer behind two norms and a projection, and a norm.

    Parameters
    ----------
    model : Model
        Description of the model.
    recompute, modules : Recompute, tuple of RecomputeModule
        As of a layer.

    Notes
    -----
    As DeepSeek-AI 2024, arXiv:2412.19437, section 2.2: embedding and head are the model's.
    """

    def __init__(
        self, model: Model, recompute: Recompute, modules: tuple[RecomputeModule, ...] = _USUAL
    ) -> None:
        super().__init__()
        hidden = model.hidden_size
        self.hidden_norm, self.embedding_norm = norm(model.norm, hidden), norm(model.norm, hidden)
        self.projection = nn.Linear(2 * hidden, hidden, bias=False)
        self.layer = Block(model, model.num_hidden_layers - 1, recompute, modules)
        self.out_norm = norm(model.norm, hidden)

    def forward(self, hidden: torch.Tensor, embedded: torch.Tensor) -> torch.Tensor:
        """Return the output of the layer, of (batch, sequence, hidden) and as much embedded."""
        both = torch.cat((self.embedding_norm(embedded), self.hidden_norm(hidden)), dim=-1)
        out: torch.Tensor = self.layer(self.projection(both))
        return out


class Decoder(nn.Module):
    """A whole decoder with its loss, or with those of the further tokens too.

    Parameters
    ----------
    model : Model
        Description of the model.
    recompute : Recompute
        What the backward computes again.
    early_stop : bool
        Whether that ends at the last tensor that the backward needs, as torch does by default.
    modules : tuple of RecomputeModule
        Of selective recomputation.
    """

    def __init__(
        self,
        model: Model,
        recompute: Recompute = Recompute.NONE,
        *,
        early_stop: bool = False,
        modules: tuple[RecomputeModule, ...] = _USUAL,
    ) -> None:
        super().__init__()
        self.recompute_layers, self.early_stop = recompute is Recompute.FULL, early_stop
        hidden = model.hidden_size
        self.embedding = nn.Embedding(model.vocabulary_size, hidden)
        rows = model.max_position_embeddings + model.reserved_positions
        self.positions = (
            nn.Embedding(rows, hidden) if model.positions is Positions.LEARNED else None
        )
        self.reserved = model.reserved_positions
        self.embedding_norm = norm(model.norm, hidden) if model.embedding_norm else nn.Identity()
        layers = range(model.num_hidden_layers)
        self.layers = nn.ModuleList(Block(model, layer, recompute, modules) for layer in layers)
        self.head = Head(model)
        depths = range(model.multi_token_prediction_layers)
        self.further = nn.ModuleList(Further(model, recompute, modules) for _ in depths)
        if model.tied_embeddings:
            self.head.projection.weight = self.embedding.weight

    def forward(self, tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the mean cross entropy of (batch, sequence) tokens and targets."""
        hidden = self.embedding(tokens)
        if self.positions is not None:
            places = torch.arange(tokens.shape[1], device=tokens.device)
            hidden = hidden + self.positions(places + self.reserved)
        hidden = self.embedding_norm(hidden)
        with set_checkpoint_early_stop(self.early_stop):
            for layer in self.layers:
                hidden = self._through(layer, hidden)
            normed = self.head.norm(hidden)
            loss = self._loss(normed, targets)
            for depth, further in enumerate(self.further, 1):
                embedded = self.embedding(tokens.roll(-depth, dims=1))
                hidden = self._through(further, normed, embedded)
                normed = further.get_submodule("out_norm")(hidden)
                loss = loss + self._loss(normed, targets.roll(-depth, dims=1))
        return loss

    def _loss(self, normed: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        logits = self.head.projection(normed)
        return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())

    def _through(self, layer: nn.Module, *entering: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = (
            checkpoint(layer, *entering, use_reentrant=False)
            if self.recompute_layers
            else layer(*entering)
        )
        return out
