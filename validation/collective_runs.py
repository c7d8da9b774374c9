"""Small programs on a few processes, and what each of their ranks saw: recorded calls of a step."""

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any, NamedTuple

from validation.torch_programs.records import Observed
from validation.torch_programs.sizes import Sizes, Work

_GROUPED = Sizes(num_attention_heads=8, num_key_value_heads=4, head_size=4, gated=False)
_SHARED = Sizes(num_attention_heads=8, num_key_value_heads=2, head_size=4)
_FURTHER = Sizes(multi_token_prediction_layers=2)
_TWO_NORMS = Sizes(parallel_residual=True)
_BESIDE = _GROUPED._replace(parallel_residual=True, norms_per_layer=1)
_LATENT = Sizes(query_rank=12, key_value_rank=8, rotated_size=4)
_UNEVEN = Sizes(hidden_size=20, vocabulary_size=50, num_hidden_layers=1)
"""Sizes whose weights no number of ranks above two divides."""


class Run(NamedTuple):
    """A program on some processes, and the plan that describes it.

    Attributes
    ----------
    program : str
        ``tensor``, ``ddp``, ``flat``, ``fsdp2``, ``hybrid``, ``combined``, ``pipeline`` or
        ``scattered``.
    ranks : int
        Processes [count].
    plan : tuple of pairs
        Fields of the plan.
    sizes, work : Sizes, Work
        The model, and the work of a replica.
    option : str or float
        What the plan does not say: how layers are recomputed, or how large buckets are [MiB].
    """

    program: str
    ranks: int
    plan: tuple[tuple[str, Any], ...]
    sizes: Sizes = Sizes()
    work: Work = Work()
    option: str | float = ""

    @property
    def name(self) -> str:
        """Return a name that no other run has."""
        fields = [
            *(f"{field}={value}" for field, value in self.plan),
            *(
                f"{field}={value}"
                for stated, usual in ((self.sizes, Sizes()), (self.work, Work()))
                for field, value in stated._asdict().items()
                if value != getattr(usual, field)
            ),
        ]
        option = f" ({self.option})" if self.option else ""
        return f"{self.program}{option} x {self.ranks}, {', '.join(fields)}"


def _tensor_run(ranks: int, *, sequence_parallel: bool, recompute: str, **changes: Any) -> Run:
    again: tuple[tuple[str, Any], ...] = (("recompute", recompute.partition("-")[0]),)
    if recompute == "mlp":
        again = (("recompute", "selective"), ("recompute_modules", ("mlp",)))
    plan = (
        ("tensor_parallel_size", ranks),
        ("sequence_parallel", sequence_parallel),
        *again,
    )
    return Run("tensor", ranks, plan, option=recompute, **changes)


def _data_run(program: str, ranks: int, zero_stage: int, **changes: Any) -> Run:
    return Run(program, ranks, (("zero_stage", zero_stage),), **changes)


def _bucket_run(ranks: int, zero_stage: int, bucket_parameters: int, **changes: Any) -> Run:
    plan = (
        ("zero_stage", zero_stage),
        ("gradient_bucket_parameters", bucket_parameters),
        ("gradient_buckets", "in-place"),
    )
    return Run("flat", ranks, plan, **changes)


_UNITS = (("zero_stage", 3), ("gradient_buckets", "fsdp-units"))
_CAST = (*_UNITS, ("cast_on_gather", True))
KEPT, ONCE = "weights kept until the backward", "gradients scattered once a step"
"""Options of FSDP2 that no plan describes: fewer calls than it says."""


def _pipeline_run(
    schedule: str, ranks: int, layers: tuple[int, ...], microbatches: int, *, tied: bool = False
) -> Run:
    plan = (
        ("pipeline_parallel_size", ranks),
        ("virtual_stages", len(layers) // ranks),
        ("schedule", schedule),
        ("layers_per_stage", layers),
    )
    sizes = Sizes(num_hidden_layers=sum(layers), tied_embeddings=tied)
    return Run("pipeline", ranks, plan, sizes, Work(microbatch_count=microbatches))


TENSOR_RUNS = (
    _tensor_run(2, sequence_parallel=False, recompute="none", sizes=_GROUPED),
    _tensor_run(4, sequence_parallel=False, recompute="none"),
    _tensor_run(3, sequence_parallel=False, recompute="selective", sizes=Sizes(3, 24, 6, 3)),
    _tensor_run(4, sequence_parallel=False, recompute="full"),
    _tensor_run(2, sequence_parallel=False, recompute="full-early-stop"),
    _tensor_run(2, sequence_parallel=True, recompute="none", work=Work(1, 8, 3)),
    _tensor_run(4, sequence_parallel=True, recompute="none", sizes=_GROUPED),
    _tensor_run(2, sequence_parallel=True, recompute="selective"),
    _tensor_run(4, sequence_parallel=True, recompute="full"),
    _tensor_run(2, sequence_parallel=True, recompute="full-early-stop"),
    _tensor_run(2, sequence_parallel=False, recompute="mlp"),
    _tensor_run(2, sequence_parallel=True, recompute="mlp"),
    _tensor_run(2, sequence_parallel=False, recompute="full", sizes=_BESIDE),
    _tensor_run(4, sequence_parallel=True, recompute="full", sizes=_BESIDE),
    _tensor_run(2, sequence_parallel=False, recompute="none", sizes=_TWO_NORMS),
    _tensor_run(2, sequence_parallel=True, recompute="full", sizes=_TWO_NORMS),
    _tensor_run(4, sequence_parallel=False, recompute="none", sizes=_SHARED),
    _tensor_run(4, sequence_parallel=True, recompute="full", sizes=_SHARED),
)
FURTHER_RUNS = (
    _tensor_run(2, sequence_parallel=False, recompute="none", sizes=_FURTHER),
    _tensor_run(4, sequence_parallel=False, recompute="full", sizes=_FURTHER),
    _tensor_run(2, sequence_parallel=True, recompute="none", sizes=_FURTHER),
    _tensor_run(4, sequence_parallel=True, recompute="full", sizes=_FURTHER),
)
LATENT_RUNS = (
    _tensor_run(2, sequence_parallel=False, recompute="none", sizes=_LATENT),
    _tensor_run(4, sequence_parallel=False, recompute="full", sizes=_LATENT._replace(query_rank=0)),
    _tensor_run(4, sequence_parallel=True, recompute="none", sizes=_LATENT._replace(query_rank=0)),
    _tensor_run(2, sequence_parallel=True, recompute="full", sizes=_LATENT),
)
DATA_RUNS = (
    _data_run("ddp", 2, 0, option=25.0),
    _data_run("ddp", 3, 0, option=0.01),
    _data_run("ddp", 4, 0, option=0.01, sizes=Sizes(tied_embeddings=True)),
    _data_run("flat", 2, 1),
    _data_run("flat", 4, 1, work=Work(1, 12, 3)),
    _data_run("flat", 3, 2),
    _data_run("flat", 4, 2, work=Work(1, 12, 3)),
    _bucket_run(2, 1, 1400),
    _bucket_run(4, 1, 3000, work=Work(1, 12, 3)),
    _bucket_run(3, 2, 1200),
    _bucket_run(2, 1, 900_000),
    Run("fsdp2", 2, _UNITS),
    Run("fsdp2", 4, _UNITS, work=Work(1, 12, 3)),
    Run("fsdp2", 3, _UNITS, Sizes(tied_embeddings=True)),
    Run("fsdp2", 2, _UNITS, work=Work(1, 12, 3), option=KEPT),
    Run("fsdp2", 2, _UNITS, Sizes(tied_embeddings=True), Work(1, 12, 3), ONCE),
    Run("fsdp2", 4, _CAST),
    Run("fsdp2", 2, _CAST, work=Work(1, 12, 3)),
)
HYBRID_RUNS = tuple(
    Run("hybrid", ranks, (*_UNITS, ("sharding_group_size", group)), work=work)
    for ranks, group, work in ((4, 2, Work()), (6, 3, Work(1, 12, 3)))
)
COMBINED_RUNS = tuple(
    Run(
        "combined",
        ranks,
        (
            ("tensor_parallel_size", 2),
            ("sequence_parallel", sequence_parallel),
            ("zero_stage", 1),
        ),
        sizes,
    )
    for ranks, sequence_parallel, sizes in ((4, True, Sizes()), (6, False, _GROUPED))
)
UNEVEN_RUNS = (
    _data_run("flat", 3, 1, sizes=_UNEVEN._replace(vocabulary_size=49)),
    _data_run("flat", 4, 2, sizes=_UNEVEN._replace(hidden_size=21)),
    _data_run("fsdp2", 3, 3, sizes=_UNEVEN),
    _data_run("fsdp2", 4, 3, sizes=_UNEVEN),
)
PIPELINE_RUNS = (
    _pipeline_run("gpipe", 2, (1, 1), 3),
    _pipeline_run("gpipe", 4, (0, 1, 1, 0), 5),
    _pipeline_run("1f1b", 2, (1, 1), 4, tied=True),
    _pipeline_run("1f1b", 3, (1, 2, 1), 5, tied=True),
    _pipeline_run("1f1b", 4, (1, 1, 1, 1), 4),
    _pipeline_run("interleaved-1f1b", 2, (0, 1, 1, 0), 4, tied=True),
    _pipeline_run("interleaved-1f1b", 3, (1,) * 6, 3),
    _pipeline_run("interleaved-1f1b", 2, (1,) * 6, 2),
)


SCATTERED_RUNS = tuple(
    Run(
        "scattered",
        tensor * len(layers),
        (
            ("tensor_parallel_size", tensor),
            ("pipeline_parallel_size", len(layers)),
            ("schedule", "gpipe"),
            ("layers_per_stage", layers),
            ("scatter_gather_handovers", True),
        ),
        Sizes(num_hidden_layers=sum(layers)),
        Work(microbatch_count=microbatches),
    )
    for tensor, layers, microbatches in ((2, (1, 1), 3), (2, (1, 0, 1), 2), (4, (1, 1), 2))
)


@lru_cache(maxsize=64)
def observe(run: Run) -> tuple[Observed, ...]:
    """Return what each rank of a run saw; it runs once, however often that is asked."""
    from validation.torch_programs import (
        combined,
        data_parallel,
        pipeline_parallel,
        processes,
        scattered,
        sharded,
        tensor_parallel,
    )

    plan = dict(run.plan)
    programs: Mapping[str, Callable[[], Callable[..., Observed]]] = {
        "tensor": lambda: partial(
            tensor_parallel.train,
            sequence_parallel=plan["sequence_parallel"],
            recompute=str(run.option),
        ),
        "ddp": lambda: partial(data_parallel.train, bucket_mib=float(run.option)),
        "flat": lambda: partial(
            sharded.train_flat,
            zero_stage=plan["zero_stage"],
            bucket_elements=plan.get("gradient_bucket_parameters", 0),
        ),
        "fsdp2": lambda: partial(
            sharded.train_fully_sharded,
            cast_on_gather=plan.get("cast_on_gather", False),
            reshards_after_forward=run.option != KEPT,
            scatters_once=run.option == ONCE,
        ),
        "hybrid": lambda: partial(
            sharded.train_fully_sharded, sharding_group_size=plan["sharding_group_size"]
        ),
        "combined": lambda: partial(
            combined.train,
            tensor_parallel_size=plan["tensor_parallel_size"],
            sequence_parallel=plan["sequence_parallel"],
        ),
        "scattered": lambda: partial(
            scattered.train,
            tensor_parallel_size=plan["tensor_parallel_size"],
            layers_per_stage=plan["layers_per_stage"],
        ),
        "pipeline": lambda: partial(
            pipeline_parallel.train,
            schedule=plan["schedule"],
            layers_per_stage=plan["layers_per_stage"],
        ),
    }
    program = partial(programs[run.program](), run.sizes, run.work)
    return tuple(processes.run(program, run.ranks))
