"""What the engines cost per action, beside the barest SimPy program that plays the same 1F1B.

Run from the repository root: ``python benchmarks/simulator_cost.py``. All play the same order in
the same run, in turn; time is that of the processor, and the fastest of several repetitions
counts, so that a busy machine disturbs the ratios little.

`events` is the event simulator up to its trace, spans and sends as records; `events, metrics` up to
the quantities of the step, and `path, metrics` the same quantities by the fast engine. Two further
lines time the longest steps that are promised.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from time import process_time

import simpy
from simpy.events import ProcessGenerator

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from costmodels.pipelining.actions import Action, ActionKind, Order
from costmodels.pipelining.schedules import interleaved_one_f_one_b, one_f_one_b
from costmodels.scenario import scenario_from_table
from simulator.metrics import PipelineMetrics, pipeline_metrics
from simulator.path_metrics import path_metrics
from simulator.pipeline import simulate_pipeline
from simulator.program import ActionWork, PipelineProgram, StepEnd
from simulator.resources import LinkSpec
from simulator.whatif import estimate

CASES = ((4, 64), (8, 128), (16, 256), (8, 1024))
REPETITIONS = 15
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


def program_of(order: Order, *, virtual_stages: int = 1) -> PipelineProgram:
    """Return a program with the same durations and delays as the barest one."""
    rank_count = len(order)
    stage_count = rank_count * virtual_stages
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
        forward=[ActionWork(duration_s=FORWARD_S, flop=1, hand_over_bytes=1)] * stage_count,
        backward=[ActionWork(duration_s=BACKWARD_S, flop=2, hand_over_bytes=1)] * stage_count,
        activation_bytes=[1] * stage_count,
        static_bytes=[0] * rank_count,
        step_ends=[end] * rank_count,
        links={
            pair: latency
            for rank in range(rank_count)
            for pair in ((rank, (rank + 1) % rank_count), ((rank + 1) % rank_count, rank))
        },
    )


COLUMNS = ("barest", "events", "ratio", "events, metrics", "path, metrics", "times faster")


def main() -> None:
    """Print for each case the time per action, records included, and two long steps."""
    print(f"{'ranks':>5} {'microbatches':>12}" + "".join(f"{name:>17}" for name in COLUMNS))
    for rank_count, microbatch_count in CASES:
        order = one_f_one_b(
            pipeline_parallel_size=rank_count,
            virtual_stages=1,
            microbatch_count=microbatch_count,
        )
        program = program_of(order)
        barest_s, events_s, metrics_s, path_s = _fastest_s(
            [
                partial(barest_makespan_s, order),
                partial(simulate_pipeline, program),
                partial(events_metrics, program),
                partial(path_metrics, program),
            ]
        )
        count = program.action_count()
        cells = (
            _microseconds(barest_s, count),
            _microseconds(events_s, count),
            f"{events_s / barest_s:.2f}",
            _microseconds(metrics_s, count),
            _microseconds(path_s, count),
            f"{metrics_s / path_s:.1f}",
        )
        print(f"{rank_count:>5} {microbatch_count:>12}" + "".join(f"{cell:>17}" for cell in cells))
    for name, long_step in LONG_STEPS.items():
        start_s = process_time()
        long_step()
        print(f"{name}: {process_time() - start_s:.2f} s")


def events_metrics(program: PipelineProgram) -> PipelineMetrics:
    """Return the quantities of a step that the event simulator plays."""
    return pipeline_metrics(simulate_pipeline(program))


def estimate_405b() -> None:
    """Estimate Llama-3.1-405B on 16,384 GPUs, simulation included."""
    plan = {"tensor_parallel_size": 8, "pipeline_parallel_size": 16, "zero_stage": 1}
    table = {
        "model": "llama-3.1-405b",
        "cluster": "h100-sxm:16384",
        "plan": plan | {"recompute": "full"},
        "workload": {"global_batch_size": 2048, "sequence_length": 8192},
    }
    estimate(scenario_from_table(table))


def play_long() -> None:
    """Play 64 stages, 4 virtual stages each and 1,024 microbatches, order and program included."""
    order = interleaved_one_f_one_b(
        pipeline_parallel_size=64, virtual_stages=4, microbatch_count=1024
    )
    path_metrics(program_of(order, virtual_stages=4))


LONG_STEPS: Mapping[str, Callable[[], None]] = {
    "Llama-3.1-405B on 16,384 GPUs, estimate": estimate_405b,
    "64 stages x 4 virtual x 1,024 microbatches, fast engine": play_long,
}


def _fastest_s(functions: Sequence[Callable[[], object]]) -> list[float]:
    fastest_s = [float("inf")] * len(functions)
    for _ in range(REPETITIONS):
        for index, function in enumerate(functions):
            start_s = process_time()
            function()
            fastest_s[index] = min(fastest_s[index], process_time() - start_s)
    return fastest_s


def _microseconds(duration_s: float, action_count: int) -> str:
    return f"{duration_s / action_count * 1e6:.2f} us"


if __name__ == "__main__":
    main()
