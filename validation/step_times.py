"""Step times of small transformers on this machine, predicted from its calibrated operators.

The models, their batches and their plans are drawn before anything is measured, all of them are
reported, and none of their shapes is measured by the calibration.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, partial
from statistics import median
from typing import Any

from costmodels.scenario import Scenario, scenario_from_table
from simulator.whatif import estimate
from validation.calibration import ROUNDS, Calibration, calibrate, cluster_table
from validation.cases import Case
from validation.operators import Training
from validation.torch_programs.sizes import Sizes, Work

SUITE = "step-times"

RUNS = {"one": 12, "tensor": 4, "data": 4, "pipeline": 4}
"""Runs of each axis; all but the first on two processes [count]."""

TOLERANCE = 0.5
_REASON = (
    "one attained share for all shapes, and nothing for the time between operators: an error above "
    "a half would mislead"
)


def drawn_trainings(seed: int) -> list[Training]:
    """Return the runs of a seed.

    Parameters
    ----------
    seed : int
        Of the draw.
    """
    draw = random.Random(seed)  # noqa: S311 - a choice of shapes
    return [_training(draw, axis) for axis, count in RUNS.items() for _ in range(count)]


def _training(draw: random.Random, axis: str) -> Training:
    heads, group = draw.choice(((4, 1), (4, 2), (6, 1), (6, 3), (8, 1), (8, 2), (8, 4)))
    head_size = draw.choice((32, 48, 64))
    hidden = heads * head_size
    sizes = Sizes(
        num_hidden_layers=draw.choice((2, 4) if axis == "pipeline" else (2, 3, 4)),
        hidden_size=hidden,
        num_attention_heads=heads,
        num_key_value_heads=heads // group,
        head_size=head_size,
        intermediate_size=32 * round(hidden * draw.uniform(2.0, 4.0) / 32),
        gated=draw.random() < 0.7,
        vocabulary_size=draw.choice((2048, 3072, 6144)),
        tied_embeddings=draw.random() < 0.3 and axis != "pipeline",
    )
    work = Work(
        micro_batch_size=draw.choice((1, 2, 3)),
        sequence_length=draw.choice((160, 192, 320, 384)),
        microbatch_count=draw.choice((2, 4) if axis == "pipeline" else (1, 2)),
    )
    return Training(sizes, work, axis)


def scenario_of(training: Training, calibration: Calibration) -> Scenario:
    """Return a run as a scenario on the calibrated machine.

    Parameters
    ----------
    training : Training
        The run.
    calibration : Calibration
        Of as many processes as it has.
    """
    sizes, work, axis = training
    ranks = 1 if axis == "one" else 2
    replicas = 2 if axis == "data" else 1
    model: dict[str, Any] = sizes.description() | {
        "name": "drawn",
        "norm": "rmsnorm",
        "attention_bias": False,
        "attention_output_bias": False,
        "ffn_bias": False,
        "positions": "none",
        "max_position_embeddings": work.sequence_length,
    }
    batch = replicas * work.microbatch_count * work.micro_batch_size
    return scenario_from_table(
        {
            "model": model,
            "cluster": cluster_table(calibration) | {"accelerator_count": ranks},
            "precision": "fp32",
            "plan": {
                "tensor_parallel_size": 2 if axis == "tensor" else 1,
                "pipeline_parallel_size": 2 if axis == "pipeline" else 1,
                "micro_batch_size": work.micro_batch_size,
            },
            "workload": {
                "global_batch_size": batch,
                "sequence_length": work.sequence_length,
            },
        }
    )


@cache
def calibrated(process_count: int, device: str, rounds: int) -> Calibration:
    """Return the calibration of some processes, made once in a run."""
    return calibrate(process_count, device=device, rounds=rounds)


def step_time_cases(axis: str, *, seed: int, device: str, rounds: int = ROUNDS) -> list[Case]:
    """Return predicted and measured step times of the runs of an axis.

    Parameters
    ----------
    axis : str
        ``one``, ``tensor``, ``data`` or ``pipeline``.
    seed : int
        Of the draw.
    device : str
        ``cpu`` or ``cuda``.
    rounds : int
        How often each operator and each step is timed [count].
    """
    from validation.torch_programs import measuring, processes

    ranks = 1 if axis == "one" else 2
    calibration = calibrated(ranks, device, rounds)
    trainings = [entry for entry in drawn_trainings(seed) if entry.axis == axis]
    program = partial(measuring.step_seconds, trainings, rounds, device)
    measured = processes.run(program, ranks, timeout_s=600.0, device=device)[0]
    return list(_cases(trainings, measured, calibration))


def _cases(
    trainings: Iterable[Training], measured: Sequence[Sequence[float]], calibration: Calibration
) -> Iterator[Case]:
    for place, (training, seconds) in enumerate(zip(trainings, measured, strict=True)):
        scenario = scenario_of(training, calibration)
        predicted_s = estimate(scenario, ignore_memory=True).time["step_s"]
        middle_s = median(seconds)
        spread = (max(seconds) - min(seconds)) / middle_s
        yield Case(
            suite=SUITE,
            name=f"{training.axis} {place}: {_described(training)}",
            claim="a step takes as long as the time model says, on calibrated operators",
            prediction=predicted_s,
            measurement=middle_s,
            unit="s",
            tolerance_fraction=TOLERANCE,
            tolerance_reason=_REASON,
            method=f"median of {len(seconds)} steps of a real training run on this machine, "
            f"spread {spread:.0%} of it",
            source="validation/torch_programs/measuring.py",
        )


def _described(training: Training) -> str:
    sizes, work, _ = training
    return (
        f"{sizes.num_hidden_layers} layers of {sizes.hidden_size}, "
        f"{sizes.intermediate_size} wide{' gated' if sizes.gated else ''}, "
        f"{sizes.num_attention_heads}/{sizes.num_key_value_heads} heads, "
        f"{sizes.vocabulary_size} words, {work.microbatch_count} x {work.micro_batch_size} x "
        f"{work.sequence_length} tokens"
    )
