"""The most memory that a training step holds, predicted, against running torch programs."""

import random

from costmodels.scenario import Scenario, scenario_from_table
from simulator.whatif import estimate
from validation.cases import Case
from validation.torch_programs.sizes import Sizes, Work

SUITE = "peak-memory"

RUNS = 14
"""Steps of decoders drawn by a seed [count]."""

TOLERANCE = 0.1
_REASON = (
    "all but the moment of the backward is exact: of that the widest gradients are counted as if "
    "nothing of their layer were gone yet, which is a tenth of a small step at most"
)


def drawn_steps(seed: int) -> list[tuple[Sizes, Work]]:
    """Return decoders and their steps of a seed, two microbatches or three.

    Parameters
    ----------
    seed : int
        Of the draw.
    """
    draw = random.Random(seed)  # noqa: S311 - a choice of shapes
    return [_step(draw) for _ in range(RUNS)]


def _step(draw: random.Random) -> tuple[Sizes, Work]:
    heads, group = draw.choice(((4, 1), (4, 2), (8, 2), (6, 3)))
    head_size = draw.choice((16, 32, 64))
    hidden = heads * head_size
    sizes = Sizes(
        num_hidden_layers=draw.choice((1, 2, 3, 4)),
        hidden_size=hidden,
        num_attention_heads=heads,
        num_key_value_heads=heads // group,
        head_size=head_size,
        intermediate_size=32 * round(hidden * draw.uniform(2.0, 4.0) / 32),
        gated=draw.random() < 0.6,
        vocabulary_size=draw.choice((256, 1024, 4096)),
        tied_embeddings=draw.random() < 0.3,
    )
    work = Work(
        micro_batch_size=draw.choice((1, 2, 3)),
        sequence_length=draw.choice((64, 128, 192)),
        microbatch_count=draw.choice((2, 3)),
    )
    return sizes, work


def scenario_of(sizes: Sizes, work: Work) -> Scenario:
    """Return a step as a scenario: fp32, attention whose scores are kept, tensors as torch's.

    Parameters
    ----------
    sizes, work : Sizes, Work
        The decoder and its step.
    """
    return scenario_from_table(
        {
            "model": sizes.description()
            | {
                "name": "drawn",
                "norm": "rmsnorm",
                "attention_bias": False,
                "attention_output_bias": False,
                "ffn_bias": False,
                "positions": "none",
                "max_position_embeddings": work.sequence_length,
            },
            "cluster": "cpu:1",
            "precision": "fp32",
            "plan": {
                "attention_kernel": "naive",
                "saved_tensors": "torch-eager-cpu",
                "micro_batch_size": work.micro_batch_size,
            },
            "workload": {
                "global_batch_size": work.microbatch_count * work.micro_batch_size,
                "sequence_length": work.sequence_length,
            },
        }
    )


def peak_cases(seed: int, device: str) -> list[Case]:
    """Return predicted and held peaks. Needs torch.

    Parameters
    ----------
    seed : int
        Of the draw.
    device : str
        ``cpu``, where the storages alive after each operator are added, or ``cuda``, where the
        allocator tells.
    """
    from validation.torch_programs.peaks import step_peak_bytes

    method = (
        "torch.cuda.max_memory_allocated of a step"
        if device == "cuda"
        else "storages alive after every operator of a step, the largest sum"
    )
    found = []
    for place, (sizes, work) in enumerate(drawn_steps(seed)):
        memory = estimate(scenario_of(sizes, work), ignore_memory=True).memory
        found.append(
            Case(
                suite=SUITE,
                name=f"peak {place}: {_described(sizes, work)}",
                claim="weights, gradients, states, kept tensors and the moment of the backward add "
                "to what a step holds at most",
                prediction=memory["worst_stage_bytes"] - memory["reserve_bytes"],
                measurement=step_peak_bytes(sizes, work, device),
                unit="byte",
                tolerance_fraction=TOLERANCE,
                tolerance_reason=_REASON,
                method=method,
                source="validation/torch_programs/peaks.py",
            )
        )
    return found


def _described(sizes: Sizes, work: Work) -> str:
    return (
        f"{sizes.num_hidden_layers} layers of {sizes.hidden_size}, "
        f"{sizes.intermediate_size} wide{' gated' if sizes.gated else ''}, "
        f"{sizes.num_attention_heads}/{sizes.num_key_value_heads} heads, "
        f"{sizes.vocabulary_size} words{' tied' if sizes.tied_embeddings else ''}, "
        f"{work.microbatch_count} x {work.micro_batch_size} x {work.sequence_length} tokens"
    )
