"""Why the simulator and the closed form of a step differ, found by taking causes away."""

from simulator.metrics import PipelineMetrics
from simulator.path_metrics import path_metrics
from simulator.program import PipelineProgram
from simulator.training import with_equal_stages, with_free_links

TOLERANCE_FRACTION = 0.02
"""Gap up to which closed form and simulation count as agreeing."""


CAUSE_LIMIT = 100_000
"""Actions of a step past which the cause of a gap is not searched: that plays it twice more."""


def gap_fraction(closed_s: float, simulated_s: float) -> float:
    """Return by how much the simulation is longer than the closed form [fraction]."""
    return simulated_s / closed_s - 1.0


def gap_note(closed_s: float, program: PipelineProgram, metrics: PipelineMetrics) -> str:
    """Return a note that names the cause of a gap, empty where there is none to speak of.

    Parameters
    ----------
    closed_s : float
        Step time of the closed form [s].
    program : PipelineProgram
        What was played.
    metrics : PipelineMetrics
        What it took.

    Returns
    -------
    str
        One sentence.
    """
    simulated_s = metrics.makespan_s
    gap = gap_fraction(closed_s, simulated_s)
    if abs(gap) <= TOLERANCE_FRACTION:
        return ""
    return (
        f"the simulated step is {100 * gap:+.1f} % off the closed form; cause: "
        f"{_cause(program, simulated_s)}. Trust the simulation, which follows every wait"
    )


def _cause(program: PipelineProgram, whole_s: float) -> str:
    """Return what moves the simulated step most when it is taken away."""
    actions = program.action_count()
    if actions > CAUSE_LIMIT:
        return f"not searched in a step of {actions:,} actions, more than {CAUSE_LIMIT:,}"
    without = {
        "hand-overs between stages that the schedule cannot hide": with_free_links(program),
        "unequal stages, whose waits depend on their places": with_equal_stages(program),
    }
    saved = {
        cause: abs(whole_s - path_metrics(changed).makespan_s) for cause, changed in without.items()
    }
    cause = max(saved, key=saved.__getitem__)
    if saved[cause] <= TOLERANCE_FRACTION / 2 * whole_s:
        return "stages end their step at different times, which hides part of its end"
    return cause
