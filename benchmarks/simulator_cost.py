"""What the simulator costs per action, beside the barest SimPy program that plays the same 1F1B.

Run from the repository root: ``python benchmarks/simulator_cost.py``. Both play the same order in
the same run, in turn, and the fastest of several repetitions counts, so that a busy machine
disturbs the ratio little.
"""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter

import simpy
from simpy.events import ProcessGenerator

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from costmodels.pipelining.actions import Action, ActionKind, Order
from costmodels.pipelining.schedules import one_f_one_b
from simulator.pipeline import simulate_pipeline
from simulator.program import ActionWork, PipelineProgram, StepEnd
from simulator.resources import LinkSpec

CASES = ((4, 64), (8, 128), (16, 256), (8, 2048))
REPETITIONS = 7
FORWARD_S = 1
BACKWARD_S = 2
LATENCY_S = 0.001


def barest_makespan_s(order: Order) -> float:
    """Return the makespan of an order: one process per rank, one event per hand-over, no record."""
    env = simpy.Environment()
    last_stage = len(order) - 1
    microbatch_count = 1 + max(action.microbatch for action in order[0])
    activations = [[env.event() for _ in range(microbatch_count)] for _ in order]
    gradients = [[env.event() for _ in range(microbatch_count)] for _ in order]

    def deliver(event: simpy.Event) -> None:
        event._ok = True
        event._value = None
        env.schedule(event, delay=LATENCY_S)

    def rank_process(rank: int, actions: tuple[Action, ...]) -> ProcessGenerator:
        forward = ActionKind.FORWARD
        for _, kind, microbatch in actions:
            if kind is forward:
                if rank > 0:
                    yield activations[rank][microbatch]
                yield env.timeout(FORWARD_S)
                if rank < last_stage:
                    deliver(activations[rank + 1][microbatch])
            else:
                if rank < last_stage:
                    yield gradients[rank][microbatch]
                yield env.timeout(BACKWARD_S)
                if rank > 0:
                    deliver(gradients[rank - 1][microbatch])

    for rank, actions in enumerate(order):
        env.process(rank_process(rank, actions))
    env.run()
    return float(env.now)


def program_of(order: Order) -> PipelineProgram:
    """Return a program with the same durations and delays as the barest one."""
    rank_count = len(order)
    latency = LinkSpec(latency_s=LATENCY_S, bandwidth_bytes_per_s=float("inf"))
    end = StepEnd(
        reduction_s=0,
        reduction_last_s=0,
        overlaps_backward=False,
        reduction_bytes=0,
        optimizer_s=0,
        gather_s=0,
        gather_bytes=0,
    )
    return PipelineProgram(
        order=order,
        forward=[ActionWork(duration_s=FORWARD_S, flop=1, hand_over_bytes=1)] * rank_count,
        backward=[ActionWork(duration_s=BACKWARD_S, flop=2, hand_over_bytes=1)] * rank_count,
        activation_bytes=[1] * rank_count,
        static_bytes=[0] * rank_count,
        step_ends=[end] * rank_count,
        links={
            pair: latency
            for rank in range(rank_count - 1)
            for pair in ((rank, rank + 1), (rank + 1, rank))
        },
    )


def main() -> None:
    """Print for each case the time per action, records of the simulator included."""
    print(f"{'ranks':>5} {'microbatches':>12} {'barest':>10} {'simulator':>10} {'ratio':>6}")
    for rank_count, microbatch_count in CASES:
        order = one_f_one_b(
            pipeline_parallel_size=rank_count,
            virtual_stages=1,
            microbatch_count=microbatch_count,
        )
        action_count = sum(map(len, order))
        program = program_of(order)
        barest_s, simulator_s = _fastest_s(
            [partial(barest_makespan_s, order), partial(simulate_pipeline, program)]
        )
        print(
            f"{rank_count:>5} {microbatch_count:>12} {_microseconds(barest_s, action_count):>10} "
            f"{_microseconds(simulator_s, action_count):>10} {simulator_s / barest_s:>6.2f}"
        )


def _fastest_s(functions: Sequence[Callable[[], object]]) -> list[float]:
    fastest_s = [float("inf")] * len(functions)
    for _ in range(REPETITIONS):
        for index, function in enumerate(functions):
            start_s = perf_counter()
            function()
            fastest_s[index] = min(fastest_s[index], perf_counter() - start_s)
    return fastest_s


def _microseconds(duration_s: float, action_count: int) -> str:
    return f"{duration_s / action_count * 1e6:.2f} us"


if __name__ == "__main__":
    main()
