"""Arguments and flags that commands share, and the decorator that gives a command all of them."""

import inspect
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

ScenarioFile = Annotated[
    Path, typer.Argument(metavar="SCENARIO.toml", help="scenario file, - for standard input")
]
OptionalFile = Annotated[
    Path | None,
    typer.Argument(
        metavar="[SCENARIO.toml]",
        help="scenario file, - for standard input; flags change its fields",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="FIELD=VALUE",
        help="set any field, such as plan.schedule=1f1b, or a preset, model=llama-3.1-70b; "
        "a field may be given one value only",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="print one JSON object, in base units")]
AllNotes = Annotated[
    bool,
    typer.Option("--all-notes", help="say of each field without effect why it has none"),
]
IgnoreMemory = Annotated[
    bool, typer.Option("--ignore-memory", help="give times also for a plan that does not fit")
]
RequireFit = Annotated[
    bool, typer.Option("--require-fit", help="exit with 3 if the plan does not fit")
]
Plot = Annotated[
    Path | None, typer.Option("--plot", metavar="OUT.html", help="also draw memory by stage")
]
PlotTraffic = Annotated[
    Path | None, typer.Option("--plot", metavar="OUT.html", help="also draw bytes sent by stage")
]
PlotWork = Annotated[
    Path | None, typer.Option("--plot", metavar="OUT.html", help="also draw work by stage")
]
OrderFile = Annotated[
    Path | None,
    typer.Option(
        "--order",
        metavar="ORDER.csv",
        help="what each rank does, in torch's format, in place of the plan's schedule",
    ),
]
Text = str | None


def flag(names: str, text: str, metavar: str = "N") -> Any:
    """Return an option that takes one value."""
    return typer.Option(*names.split(), metavar=metavar, help=text)


Model = Annotated[
    Text,
    flag(
        "--model",
        "preset of a model (see: shardwise list models), or a Hugging Face config.json",
        "NAME|FILE",
    ),
]
Strict = Annotated[
    bool, typer.Option("--strict", help="refuse unknown keys of a config.json, instead of a note")
]
Cluster = Annotated[
    Text, flag("--cluster", "preset and number of accelerators, h100-sxm:64", "NAME:N")
]
PlanName = Annotated[
    Text, flag("--plan", "preset of what a framework shards, buckets and keeps", "NAME")
]
PrecisionName = Annotated[Text, flag("--precision", "preset of a precision recipe", "NAME")]
Tensor = Annotated[Text, flag("--tensor-parallel-size --tp", "ranks that share each matrix")]
Pipeline = Annotated[Text, flag("--pipeline-parallel-size --pp", "pipeline ranks")]
Data = Annotated[Text, flag("--data-parallel-size --dp", "replicas; left out, it is derived")]
Context = Annotated[Text, flag("--context-parallel-size --cp", "ranks that share each sequence")]
Expert = Annotated[Text, flag("--expert-parallel-size --ep", "ranks that share the experts")]
Virtual = Annotated[Text, flag("--virtual-stages --vpp", "chunks of layers on each pipeline rank")]
Layers = Annotated[
    Text, flag("--layers-per-stage", "layers of every virtual stage, 7,8,8,7", "N,N,...")
]
ScheduleOf = Annotated[Text, flag("--schedule", "pipeline schedule", "NAME")]
MicroBatch = Annotated[Text, flag("--micro-batch-size --micro-batch", "sequences of a microbatch")]
Sequence = Annotated[
    bool | None,
    typer.Option(
        "--sequence-parallel/--no-sequence-parallel", help="split norms along the sequence"
    ),
]
Zero = Annotated[Text, flag("--zero-stage", "what replicas shard: 0 nothing to 3 everything")]
Recompute = Annotated[Text, flag("--recompute", "none, selective or full", "POLICY")]
Kernel = Annotated[Text, flag("--attention-kernel", "flash or naive", "NAME")]
Saved = Annotated[
    Text,
    flag(
        "--saved-tensors",
        "whose list of kept activations: megatron, transformer-engine, torch-cuda or "
        "torch-eager-cpu",
        "NAME",
    ),
]
GlobalBatch = Annotated[
    Text, flag("--global-batch-size --global-batch", "sequences of a step, or 16M-tokens")
]
Length = Annotated[Text, flag("--sequence-length --seq-len", "tokens of a sequence, 8k")]
Total = Annotated[Text, flag("--total-tokens", "tokens of the whole run, 15.6T")]
OptimizerOf = Annotated[
    Text, flag("--optimizer", "adam, adam-8bit, adafactor, muon, sgd-momentum or sgd", "NAME")
]
Largest = Annotated[
    Text,
    flag(
        "--largest",
        "find the largest value that fits: micro-batch, sequence-length (or context), layers; "
        "in inference also batch",
        "NAME",
    ),
]
Smallest = Annotated[
    Text,
    flag("--smallest", "find the smallest value that fits: gpus or tensor-parallel-size", "NAME"),
]


def _scenario_flags(
    model: Model = None,
    cluster: Cluster = None,
    plan: PlanName = None,
    precision: PrecisionName = None,
    tensor_parallel_size: Tensor = None,
    pipeline_parallel_size: Pipeline = None,
    data_parallel_size: Data = None,
    context_parallel_size: Context = None,
    expert_parallel_size: Expert = None,
    virtual_stages: Virtual = None,
    layers_per_stage: Layers = None,
    schedule: ScheduleOf = None,
    micro_batch_size: MicroBatch = None,
    sequence_parallel: Sequence = None,
    zero_stage: Zero = None,
    recompute: Recompute = None,
    attention_kernel: Kernel = None,
    saved_tensors: Saved = None,
    global_batch_size: GlobalBatch = None,
    sequence_length: Length = None,
    total_tokens: Total = None,
    optimizer: OptimizerOf = None,
) -> None:
    """Hold the flags that describe a scenario; never called."""


def describes_scenario(function: Callable[..., None]) -> Callable[..., None]:
    """Return a command with a flag for each common field of a scenario, after its second parameter.

    The command itself takes context and file, then its own options; the flags are in the context.
    """
    own = inspect.signature(function).parameters
    before, after = list(own.values())[:2], list(own.values())[2:]
    flags = inspect.signature(_scenario_flags).parameters.values()

    @wraps(function)
    def command(**given: Any) -> None:
        function(**{name: given[name] for name in own})

    parameters = [*before, *flags, *after]
    command.__dict__["__signature__"] = inspect.Signature(parameters)
    command.__annotations__ = {entry.name: entry.annotation for entry in parameters}
    return command
