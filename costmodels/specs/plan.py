"""Description of how a training step is spread over accelerators."""

from enum import StrEnum
from typing import Annotated, ClassVar

import msgspec

from costmodels.pipelining.schedules import ScheduleName
from costmodels.specs.base import Spec
from costmodels.specs.fields import choice, positive, size


class Recompute(StrEnum):
    """Which activations are computed again in the backward pass rather than kept."""

    NONE = "none"
    SELECTIVE = "selective"
    FULL = "full"


class RecomputeModule(StrEnum):
    """A part of a layer that selective recomputation is for."""

    CORE_ATTN = "core_attn"
    MLP = "mlp"
    MOE = "moe"
    SHARED_EXPERTS = "shared_experts"
    LAYERNORM = "layernorm"
    MOE_ACT = "moe_act"
    MLA_UP_PROJ = "mla_up_proj"


class RecomputeMethod(StrEnum):
    """Which layers full recomputation is for: groups of so many, or the first ones of a chunk."""

    UNIFORM = "uniform"
    BLOCK = "block"


class AttentionKernel(StrEnum):
    """How attention is computed: fused, in tiles, or with the matrix of scores in memory."""

    FLASH = "flash"
    NAIVE = "naive"


class SavedTensors(StrEnum):
    """Whose list of activations kept for the backward: a library's, or torch's of plain modules."""

    MEGATRON = "megatron"
    TRANSFORMER_ENGINE = "transformer-engine"
    TORCH_CUDA = "torch-cuda"
    TORCH_EAGER_CPU = "torch-eager-cpu"


class GradientBuckets(StrEnum):
    """Where buckets of gradients lie, and where they end.

    They lie in memory of their own or in the gradients' own, and end anywhere; those of torch's
    DistributedDataParallel hold a copy of all gradients, and end between tensors; those of FSDP are
    its units, whose weights are gathered apart too.
    """

    COPIED = "copied"
    IN_PLACE = "in-place"
    TORCH_DDP = "torch-ddp"
    FSDP_UNITS = "fsdp-units"


class RankAxis(StrEnum):
    """A dimension of parallelism along which ranks are laid out."""

    TENSOR = "tensor"
    CONTEXT = "context"
    DATA = "data"
    PIPELINE = "pipeline"


class ContextMethod(StrEnum):
    """How ranks that share a sequence exchange keys and values."""

    RING = "ring"
    ALL_GATHER = "all-gather"
    ULYSSES = "ulysses"


_MICROBATCH = ("compute", "memory", "communication", "time", "pipeline")
_PARALLEL = ("parameters", *_MICROBATCH)


class Plan(Spec, frozen=True, kw_only=True):
    """A parallel plan: degrees, schedule, and what is sharded, recomputed and overlapped.

    Attributes
    ----------
    tensor_parallel_size, pipeline_parallel_size : int
        Ranks that share each matrix; pipeline ranks [count].
    context_parallel_size, expert_parallel_size : int
        Ranks that share each sequence; ranks that share the experts [count].
    context_parallel_method : ContextMethod
        Keys and values go round a ring, are gathered, or heads are exchanged for tokens.
    expert_tensor_parallel_size : int or None
        Ranks that share each expert; None for as many as share every matrix [count].
    expert_capacity_factor : float or None
        Rows of an expert over its equal share, to which it is filled or cut; None drops nothing.
    sharding_group_size : int or None
        Ranks over which sharded states are spread; None for all that hold the same weights [count].
    data_parallel_size : int or None
        Replicas; None derives it from the number of accelerators [count].
    virtual_stages : int
        Chunks of layers on each pipeline rank [count].
    layers_per_stage : tuple of int or None
        Layers of every virtual stage in order; None balances them, embedding and head
        counting as one layer each [count].
    schedule : ScheduleName
        Order of forwards and backwards.
    held_limit : int or None
        Microbatches whose activations a rank may hold, within which zb-auto searches its order; None
        for as many as pipeline ranks [count].
    micro_batch_size : int
        Sequences of a microbatch [count].
    sequence_parallel : bool
        Whether norms and dropout are split along the sequence in the tensor-parallel group.
    zero_stage : int
        What data-parallel ranks shard: 0 nothing, 1 optimizer, 2 and gradients, 3 and weights.
    recompute : Recompute
        What is recomputed in the backward pass.
    recompute_modules : tuple of RecomputeModule
        With selective recomputation: the inside of attention (``core_attn``), dense networks
        (``mlp``), layers of experts with their routing (``moe``), their shared experts alone
        (``shared_experts``), the norms before attention and network (``layernorm``), the activation
        function of routed experts (``moe_act``), the up-projections of latent attention with their
        rotation (``mla_up_proj``).
    recompute_method : RecomputeMethod
        With full recomputation: ``uniform`` keeps the input of each group of layers and computes the
        group again; ``block`` does so with each of the first layers of a chunk, and keeps what
        the others need.
    recompute_num_layers : int or None
        Layers of a group, or first layers of a chunk; None for 1 of a group, and all of a chunk.
    attention_kernel : AttentionKernel
        How attention is computed.
    saved_tensors : SavedTensors
        Which tensors are kept for the backward.
    scatter_gather_handovers : bool
        Whether each tensor-parallel rank hands over its part of an activation, or of a gradient,
        that all hold, and they gather the parts on the next stage.
    overlap_gradient_reduction : bool
        Whether gradients are reduced while the last microbatch's backward runs.
    overlap_parameter_gather : bool
        Whether sharded weights are gathered while the forward runs.
    offload_optimizer : bool
        Whether main weights and moments lie in the memory of the host between updates.
    offload_activations_num_layers : int
        First layers of each chunk whose saved tensors lie in the memory of the host from the end of
        their forward to their backward, as with ``--cpu-offloading-num-layers`` of Megatron-LM and
        `get_cpu_offload_context` of TransformerEngine: activations, not weights, each storage once.
        A layer that is computed again sends the input that it keeps. What embedding, head and loss
        keep stays on the accelerator. 0 for none [count].
    cast_on_gather : bool
        Whether only sharded main weights are kept, and weights made of them as they are gathered.
    gradient_bucket_parameters : int
        Parameters whose gradients are reduced in one call; 0 reduces a chunk of layers in one. Of
        ``torch-ddp`` the size at which a bucket closes, 0 for torch's own [count].
    gradient_buckets : GradientBuckets
        Whether gradients are copied to a bucket to be reduced, or buckets are parts of their buffer,
        or whole tensors make buckets as in torch's DistributedDataParallel, or units of FSDP do.
    rank_order : tuple of RankAxis
        Axes from the innermost (neighbouring ranks) to the outermost.
    kv_cache_block_length : int
        Tokens that the cache of keys and values allocates at once, in inference [token].
    decompress_kv_cache : bool
        Whether latent attention caches keys and values of every head, in inference.
    """

    section: ClassVar[str] = "plan"

    tensor_parallel_size: Annotated[
        int, size("ranks that share each matrix", *_PARALLEL, most=2**16)
    ] = 1
    pipeline_parallel_size: Annotated[int, size("pipeline ranks", *_PARALLEL, most=2**10)] = 1
    context_parallel_size: Annotated[
        int, size("ranks that share each sequence", *_MICROBATCH, most=2**16)
    ] = 1
    context_parallel_method: Annotated[
        ContextMethod,
        choice(
            "how ranks of a sequence exchange keys and values", "memory", "communication", "time"
        ),
    ] = ContextMethod.RING
    expert_parallel_size: Annotated[
        int,
        size(
            "ranks that share the experts",
            "parameters",
            "memory",
            "communication",
            "time",
            most=2**16,
        ),
    ] = 1
    expert_tensor_parallel_size: (
        Annotated[
            int,
            size(
                "ranks that share each expert; left out, as many as share each matrix",
                "parameters",
                "memory",
                "communication",
                "time",
                most=2**16,
            ),
        ]
        | None
    ) = None
    expert_capacity_factor: (
        Annotated[
            float,
            positive(
                "rows of an expert over its equal share, filled or cut; left out, none is dropped",
                *_MICROBATCH[:4],
            ),
        ]
        | None
    ) = None
    sharding_group_size: (
        Annotated[
            int,
            size(
                "ranks over which states are sharded; left out, all that hold the same weights",
                "memory",
                "communication",
                "time",
                most=2**24,
            ),
        ]
        | None
    ) = None
    data_parallel_size: (
        Annotated[int, size("replicas; left out, it is derived", most=2**24)] | None
    ) = None
    virtual_stages: Annotated[
        int, size("chunks of layers on each pipeline rank", *_MICROBATCH[1:], most=2**10)
    ] = 1
    layers_per_stage: (
        Annotated[
            tuple[Annotated[int, msgspec.Meta(ge=0, le=2**16)], ...],
            choice("layers of every virtual stage; left out, they are balanced", *_PARALLEL),
        ]
        | None
    ) = None
    schedule: Annotated[
        ScheduleName,
        # V-shaped schedules put the embedding and the head on one rank.
        choice("order of forwards and backwards", *_PARALLEL),
    ] = ScheduleName.ONE_F_ONE_B
    held_limit: (
        Annotated[
            int,
            size("microbatches that a rank may hold, of zb-auto; left out, one a rank", most=2**20),
        ]
        | None
    ) = None
    micro_batch_size: Annotated[
        int, size("sequences of a microbatch", *_MICROBATCH, most=2**20)
    ] = 1
    sequence_parallel: Annotated[
        bool, choice("whether norms are split along the sequence", *_MICROBATCH[:4])
    ] = False
    zero_stage: Annotated[
        int,
        size("what replicas shard: 0 nothing to 3 everything", *_MICROBATCH[1:4], least=0, most=3),
    ] = 0
    recompute: Annotated[
        Recompute, choice("what is recomputed in the backward pass", *_MICROBATCH[:4])
    ] = Recompute.NONE
    recompute_modules: Annotated[
        tuple[RecomputeModule, ...],
        choice("parts of a layer that selective recomputation is for", *_MICROBATCH[:4]),
    ] = (RecomputeModule.CORE_ATTN,)
    recompute_method: Annotated[
        RecomputeMethod, choice("which layers full recomputation is for", *_MICROBATCH[:4])
    ] = RecomputeMethod.UNIFORM
    recompute_num_layers: (
        Annotated[
            int, size("layers of a group, or first layers of a chunk", *_MICROBATCH[:4], most=2**16)
        ]
        | None
    ) = None
    attention_kernel: Annotated[
        AttentionKernel, choice("how attention is computed", *_MICROBATCH[:4])
    ] = AttentionKernel.FLASH
    saved_tensors: Annotated[
        SavedTensors, choice("which tensors are kept for the backward", *_MICROBATCH[1:4])
    ] = SavedTensors.MEGATRON
    scatter_gather_handovers: Annotated[
        bool,
        choice(
            "whether tensor-parallel ranks hand over parts to the next stage, and gather there",
            "memory",
            "communication",
            "time",
        ),
    ] = False
    overlap_gradient_reduction: Annotated[
        bool, choice("whether gradients are reduced during the backward", "time")
    ] = True
    overlap_parameter_gather: Annotated[
        bool, choice("whether sharded weights are gathered during the forward", "time")
    ] = True
    offload_optimizer: Annotated[
        bool,
        choice("whether the optimizer's states lie on the host", "memory", "communication", "time"),
    ] = False
    offload_activations_num_layers: Annotated[
        int,
        size(
            "first layers of each chunk whose saved tensors lie on the host until the backward",
            "memory",
            "communication",
            "time",
            least=0,
            most=2**16,
        ),
    ] = 0
    cast_on_gather: Annotated[
        bool,
        choice("whether weights are made of main weights as they are gathered", "memory", "time"),
    ] = False
    gradient_bucket_parameters: Annotated[
        int,
        size(
            "parameters whose gradients are reduced in one call; 0 reduces a chunk of layers in one",
            "memory",
            "communication",
            "time",
            least=0,
            most=2**40,
        ),
    ] = 0
    gradient_buckets: Annotated[
        GradientBuckets,
        choice(
            "whether gradients are copied to a bucket, or buckets are parts of them, of whole "
            "tensors, or units of sharding",
            "memory",
            "time",
        ),
    ] = GradientBuckets.COPIED
    rank_order: Annotated[
        tuple[RankAxis, ...],
        choice("axes from neighbouring ranks outwards", "communication", "time"),
    ] = (RankAxis.TENSOR, RankAxis.CONTEXT, RankAxis.DATA, RankAxis.PIPELINE)
    kv_cache_block_length: Annotated[
        int, size("tokens that the cache allocates at once, in inference", most=2**20)
    ] = 1
    decompress_kv_cache: Annotated[
        bool, choice("whether latent attention caches keys and values of heads, in inference")
    ] = False

    @property
    def repeated_layers(self) -> int | None:
        """Return the first layers of a chunk that full recomputation is for, None for all [count]."""
        return self.recompute_num_layers if self.recompute_method is RecomputeMethod.BLOCK else None
