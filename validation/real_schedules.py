"""Torch's pipelining runtime, timed on this machine, against the simulator fed with its times."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import fmean, median
from typing import NamedTuple

from costmodels.pipelining.actions import Action, ActionKind, Order, parse_action
from costmodels.pipelining.orderings import ORDERINGS, ScheduleName
from simulator.path_metrics import path_metrics
from simulator.program import ActionWork, PipelineProgram, StepEnd
from simulator.resources import LinkSpec
from validation.cases import Case

SUITE = "schedules-executed"

SLEEP_S = 0.06
"""What a rank's forward, input gradient and weight gradient sleep each, of all its stages [s]."""

STEPS = 3
MICROBATCHES_PER_RANK = 2
QUICK = (("1f1b", 2, 1), ("zb-h1", 2, 1))
"""Schedule, ranks and virtual stages."""

FULL = tuple(
    (name, ranks, chunks)
    for ranks in (2, 4)
    for name, chunks in (
        *(("gpipe", 1), ("1f1b", 1), ("looped-bfs", 2), ("interleaved-1f1b", 2)),
        *(("zb-h1", 1), ("interleaved-zb", 2), ("zb-v", 2), ("dualpipe-v", 2)),
    )
)

COMPUTED = tuple(run for run in FULL if run[1] == 2)
"""Runs whose stages are matrix products, on two processes."""

TOLERANCE_FRACTION, COMPUTED_TOLERANCE_FRACTION = 0.06, 0.1
MEAN_TOLERANCE_FRACTION = 0.03

_NO_END = StepEnd(
    reduction_s=0,
    reduction_last_s=0,
    overlaps_backward=False,
    reduction_bytes=0,
    optimizer_s=0,
    gather_s=0,
    gather_bytes=0,
)
_METHOD = (
    "torch.distributed.pipelining over gloo, one process for each rank; each "
    "action timed on a common clock, the first step left out, the median of three"
)
_SOURCE = "torch 2.13, torch.distributed.pipelining, on the machine that runs this"


class Sleeps(NamedTuple):
    """How long an action of a stage sleeps.

    Attributes
    ----------
    forward_s, input_s, weight_s : float
        A forward, and the two gradients of a backward [s].
    """

    forward_s: float
    input_s: float
    weight_s: float


class Ran(NamedTuple):
    """One action as it really ran.

    Attributes
    ----------
    step : int
        Which repetition, from zero, the first left out [index].
    rank : int
        Of the process [index].
    action : str
        In torch's notation.
    start_s, end_s : float
        On a clock that all processes share [s].
    """

    step: int
    rank: int
    action: str
    start_s: float
    end_s: float


class Compared(NamedTuple):
    """Median of several steps.

    Attributes
    ----------
    predicted_s, measured_s : float
        From the first action's start to the last one's end [s].
    predicted_idle_fraction, measured_idle_fraction : float
        Idle share of the ranks' time in between [fraction].
    """

    predicted_s: float
    measured_s: float
    predicted_idle_fraction: float
    measured_idle_fraction: float

    @property
    def error_fraction(self) -> float:
        """Return by what share of the measurement the prediction is too long [fraction]."""
        return self.predicted_s / self.measured_s - 1


def executed_cases(
    runs: Sequence[tuple[str, int, int]] = FULL, *, sleep: bool = True
) -> Iterator[Case]:
    """Yield for each run its makespan, predicted and measured, and the mean error of all.

    Parameters
    ----------
    runs : sequence of (str, int, int), optional
        Schedule, ranks and virtual stages of each.
    sleep : bool
        Whether stages sleep; else they are matrix products.

    Yields
    ------
    Case
        Needs torch, and seconds for each run.
    """
    errors = []
    stages = "" if sleep else ", stages of matrix products"
    for name, ranks, chunks in runs:
        found = compared(name, ranks=ranks, virtual_stages=chunks, sleep=sleep)
        errors.append(abs(found.error_fraction))
        idle = (
            f"{found.predicted_idle_fraction:.1%} idle, measured {found.measured_idle_fraction:.1%}"
        )
        yield _case(
            f"{name}, {ranks} ranks{stages}",
            f"the simulator finds the makespan of {name} on {ranks} ranks ({idle})",
            found.predicted_s,
            found.measured_s,
            "s",
            TOLERANCE_FRACTION if sleep else COMPUTED_TOLERANCE_FRACTION,
        )
    yield _case(
        f"mean error of the makespan{stages}",
        "on average over all runs the makespan is as predicted; every error counts as too long",
        1 + fmean(errors),
        1.0,
        "ratio",
        MEAN_TOLERANCE_FRACTION,
    )


def compared(name: str, *, ranks: int, virtual_stages: int, sleep: bool = True) -> Compared:
    """Return the makespan of a schedule as torch's runtime plays it, and as the simulator does.

    Parameters
    ----------
    name : str
        One of torch's schedules.
    ranks, virtual_stages : int
        Processes, and stages of each [count].

    Returns
    -------
    Compared
        Of the step with the median error.
    """
    from validation.torch_programs.pipelining_runs import ran_actions

    microbatches = MICROBATCHES_PER_RANK * ranks
    ran = ran_actions(
        name,
        ranks=ranks,
        virtual_stages=virtual_stages,
        microbatch_count=microbatches,
        sleeps=Sleeps(SLEEP_S, SLEEP_S, SLEEP_S) if sleep else None,
        steps=STEPS,
    )
    steps = [[one for one in ran if one.step == step] for step in range(STEPS)]
    found = [_compared_step(name, ranks, virtual_stages, microbatches, step) for step in steps]
    return sorted(found, key=lambda one: one.error_fraction)[len(found) // 2]


def _compared_step(
    name: str, ranks: int, virtual_stages: int, microbatches: int, ran: Sequence[Ran]
) -> Compared:
    program = measured_program(
        name,
        ran,
        pipeline_parallel_size=ranks,
        virtual_stages=virtual_stages,
        microbatch_count=microbatches,
    )
    metrics = path_metrics(program)
    measured_s = max(one.end_s for one in ran) - min(one.start_s for one in ran)
    busy_s = sum(one.end_s - one.start_s for one in ran)
    return Compared(
        predicted_s=metrics.pipeline_makespan_s,
        measured_s=measured_s,
        predicted_idle_fraction=1 - busy_s / (ranks * metrics.pipeline_makespan_s),
        measured_idle_fraction=1 - busy_s / (ranks * measured_s),
    )


def measured_program(
    name: str,
    ran: Sequence[Ran],
    *,
    pipeline_parallel_size: int,
    virtual_stages: int,
    microbatch_count: int,
) -> PipelineProgram:
    """Return the schedule's program with the times that its actions and hand-overs really took.

    Parameters
    ----------
    name : str
        A schedule.
    ran : sequence of Ran
        One step, rank by rank.
    pipeline_parallel_size, virtual_stages, microbatch_count : int
        Sizes [count].

    Returns
    -------
    PipelineProgram
        Each action lasts as long as it did, with what the runtime spends between two actions of a
        rank that wait for nothing; a hand-over takes the mean of those that a rank waited for.
    """
    ordering = ORDERINGS[ScheduleName(name)]
    sizes = {
        "pipeline_parallel_size": pipeline_parallel_size,
        "virtual_stages": virtual_stages,
    }
    rows = ordering.rows_of(**sizes, microbatch_count=microbatch_count)
    placement = ordering.placement(**sizes)
    order: Order = tuple(row.actions for row in rows)
    times = {parse_action(one.action): (one.start_s, one.end_s) for one in ran}
    nothing = [ActionWork(duration_s=0, flop=0, hand_over_bytes=0)] * placement.stage_count
    ranks = range(pipeline_parallel_size)
    base = PipelineProgram(
        order=order,
        forward=nothing,
        backward=nothing,
        input_gradient=nothing,
        weight_gradient=nothing,
        activation_bytes=[0] * placement.stage_count,
        static_bytes=[0] * pipeline_parallel_size,
        step_ends=[_NO_END] * pipeline_parallel_size,
        links={
            (one, two): LinkSpec(latency_s=0, bandwidth_bytes_per_s=1)
            for one in ranks
            for two in ranks
            if one != two
        },
        successors=placement.following,
        # The runtime plays the two halves of an overlapped pair one behind the other.
        overlapped=(),
    )
    return _with_times(base, times, microbatch_count)


def _with_times(
    base: PipelineProgram, times: Mapping[Action, tuple[float, float]], microbatch_count: int
) -> PipelineProgram:
    hop_s, turn_s = _gaps(base, times)
    durations = {
        kind: [
            [
                _length_s(times, Action(stage, kind, microbatch), turn_s)
                for microbatch in range(microbatch_count)
            ]
            for stage in range(base.stage_count)
        ]
        for kind in ActionKind
    }
    # The turn is part of the action before it; a hand-over starts without it.
    link = LinkSpec(latency_s=max(hop_s - turn_s, 0), bandwidth_bytes_per_s=1)
    return replace(base, durations_s=durations, links=dict.fromkeys(base.links, link))


def _length_s(times: Mapping[Action, tuple[float, float]], action: Action, turn_s: float) -> float:
    if action not in times:
        return 0
    start_s, end_s = times[action]
    return end_s - start_s + turn_s


def _gaps(
    program: PipelineProgram, times: Mapping[Action, tuple[float, float]]
) -> tuple[float, float]:
    """Return the mean hand-over that a rank waited for, and the median turn that waits for none."""
    ranks = program.stage_ranks()
    hops, turns = [], []
    for rank, actions in enumerate(program.order):
        free_s = 0.0
        for action in actions:
            start_s, end_s = times[action]
            needed = program.previous_action(action)
            made_s = times[needed][1] if needed is not None else 0.0
            crosses = needed is not None and ranks[needed.stage] != rank
            if crosses and made_s > free_s:
                hops.append(start_s - made_s)
            elif free_s:
                turns.append(start_s - free_s)
            free_s = end_s
    return fmean(hops or [0.0]), median(turns or [0.0])


def _case(
    name: str, claim: str, predicted: float, measured: float, unit: str, tolerance: float
) -> Case:
    return Case(
        suite=SUITE,
        name=name,
        claim=claim,
        prediction=predicted,
        measurement=measured,
        unit=unit,
        tolerance_fraction=tolerance,
        tolerance_reason="hand-overs over gloo take 1 to 3 ms each and vary, beside actions of "
        "30 to 120 ms, and processes that compute share their cores with the system; 3 % on average "
        "over all runs",
        method=_METHOD,
        source=_SOURCE,
    )
