"""How far the closed form of a step is from the event simulator, over grids of plans.

Run from the root of the repository: ``python -m docs.measure_agreement``. The tables go into
``docs/pipeline.md`` by ``python -m docs.generate``.
"""

import sys
from collections.abc import Iterator, Mapping
from itertools import product
from statistics import median
from typing import Any, NamedTuple

from costmodels.analysis import CATALOGUE
from costmodels.errors import SpecError
from costmodels.pipelining.schedules import SCHEDULES, ScheduleName
from costmodels.quantities import parameters_of
from costmodels.scenario import scenario_from_table
from simulator.metrics import pipeline_makespan_s
from simulator.pipeline import simulate_pipeline
from simulator.program import ActionWork, PipelineProgram, StepEnd
from simulator.resources import LinkSpec
from simulator.whatif import estimate

_LINKS: Mapping[str, Mapping[str, object]] = {
    "as the preset": {},
    "a tenth of the bandwidth": {"bandwidth_bytes_per_s": "40 Gb/s"},
    "a hundredth of the bandwidth": {"bandwidth_bytes_per_s": "4 Gb/s"},
}
_MODELS = ("llama-3.1-8b", "llama-3.1-405b")
_TOLERANCE = 0.02


class Gap(NamedTuple):
    """One plan and by how much the simulation is longer than the closed form."""

    schedule: str
    links: str
    where: str
    fraction: float


def step_gaps() -> Iterator[Gap]:
    """Yield the gap of whole steps of real models: unequal ends, hand-overs, ends of the step."""
    for model, links, p in product(_MODELS, _LINKS, (2, 4, 8, 16)):
        for schedule, v in (
            ("gpipe", 1),
            ("1f1b", 1),
            ("interleaved-1f1b", 2),
            ("interleaved-1f1b", 4),
        ):
            for m in sorted({p // 2, p, p + 1, 2 * p, 4 * p}):
                try:
                    scenario = scenario_from_table(_table(model, links, schedule, p=p, v=v, m=m))
                except SpecError:  # the schedule does not exist for these sizes
                    continue
                time = estimate(scenario, ignore_memory=True).time
                where = f"{model}, p = {p}" + (f", v = {v}" if v > 1 else "") + f", m = {m}"
                yield Gap(schedule, links, where, time["simulated_step_s"] / time["step_s"] - 1)


def _table(model: str, links: str, schedule: str, *, p: int, v: int, m: int) -> dict[str, object]:
    return {
        "model": model,
        "cluster": {
            "preset": "h100-sxm",
            "accelerator_count": 16 * p,
            "network": dict(_LINKS[links]),
        },
        "plan": {
            "tensor_parallel_size": 8,
            "pipeline_parallel_size": p,
            "virtual_stages": v,
            "schedule": schedule,
            "sequence_parallel": True,
            "zero_stage": 1,
            "recompute": "full",
        },
        "workload": {"global_batch_size": 2 * m, "sequence_length": 8192},
    }


_CLOSED = (
    ScheduleName.GPIPE,
    ScheduleName.ONE_F_ONE_B,
    ScheduleName.INTERLEAVED_ONE_F_ONE_B,
)
"""Schedules whose waits for hand-overs have a closed form; those of others are replayed."""


def hand_over_gaps() -> Iterator[Gap]:
    """Yield the gap of pipelines of equal stages: forward 10, backward 20, for several hops."""
    for schedule, p, v, m, hop_s in product(
        ScheduleName, (2, 3, 4, 8), (1, 2, 3), range(1, 25), (0.0, 1.0, 5.0, 10.0, 15.0)
    ):
        sizes = {"pipeline_parallel_size": p, "virtual_stages": v, "microbatch_count": m}
        if schedule not in _CLOSED or not SCHEDULES[schedule].legal(**sizes):
            continue
        simulated_s = pipeline_makespan_s(
            simulate_pipeline(equal_pipeline(schedule, hop_s, **sizes))
        )
        stage_s = 30.0 * v
        hops_s = _hops(
            schedule,
            hop_s=hop_s,
            hop_occupancy_s=0.0,
            class_stage_count=[p],
            run_stage_count=[p],
            stage_microbatch_s=[stage_s],
            slowest_stage_s=stage_s,
            mean_chunk_forward_s=10.0,
            mean_chunk_backward_s=20.0,
            chunk_forward_s=[[10.0] * v],
            chunk_backward_s=[[20.0] * v],
            **sizes,
        )
        slots = max(v * m + p, v * p + m) - 1
        closed_s = slots * stage_s / v + hops_s
        where = f"p = {p}" + (f", v = {v}" if v > 1 else "") + f", m = {m}, c = {hop_s:g}"
        links = "hop at most a chunk's forward" if hop_s <= 10.0 else "hop longer than that"
        yield Gap(schedule.value, links, where, simulated_s / closed_s - 1)


def _hops(schedule: ScheduleName, **inputs: Any) -> float:
    function = CATALOGUE["pipeline_exposed_s"].chosen(schedule.value)
    hops_s: float = function(**{name: inputs[name] for name in parameters_of(function)})
    return hops_s


def equal_pipeline(schedule: ScheduleName, hop_s: float, **sizes: int) -> PipelineProgram:
    """Return a pipeline of equal stages: forward 10, backward 20, hand-overs `hop_s` [s]."""
    p, stages = (
        sizes["pipeline_parallel_size"],
        range(sizes["pipeline_parallel_size"] * sizes["virtual_stages"]),
    )
    nothing = StepEnd(
        reduction_s=0,
        reduction_last_s=0,
        overlaps_backward=False,
        reduction_bytes=0,
        optimizer_s=0,
        gather_s=0,
        gather_bytes=0,
    )
    link = LinkSpec(latency_s=hop_s, bandwidth_bytes_per_s=float("inf"))
    return PipelineProgram(
        order=SCHEDULES[schedule].order(**sizes),
        forward=[ActionWork(duration_s=10.0, flop=0, hand_over_bytes=0) for _ in stages],
        backward=[ActionWork(duration_s=20.0, flop=0, hand_over_bytes=0) for _ in stages],
        activation_bytes=[0 for _ in stages],
        static_bytes=[0] * p,
        step_ends=[nothing] * p,
        links={(a, b): link for a in range(p) for b in range(p) if a != b},
    )


def agreement_table(gaps: Iterator[Gap]) -> str:
    """Return a Markdown table of the gaps by schedule and links, the worst one named."""
    groups: dict[tuple[str, str], list[Gap]] = {}
    for gap in gaps:
        groups.setdefault((gap.schedule, gap.links), []).append(gap)
    lines = [
        "| schedule | links | plans | median gap | within 2 % | worst gap | where |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    for (schedule, links), members in groups.items():
        sizes = [abs(gap.fraction) for gap in members]
        worst = max(members, key=lambda gap: abs(gap.fraction))
        within = sum(size <= _TOLERANCE for size in sizes) / len(sizes)
        where = worst.where if abs(worst.fraction) > 1e-9 else ""
        lines.append(
            f"| {schedule} | {links} | {len(members)} | {100 * median(sizes):.2f} % "
            f"| {100 * within:.0f} % | {_signed(worst.fraction)} | {where} |"
        )
    return "\n".join(lines)


def _signed(fraction: float) -> str:
    return "0" if abs(fraction) <= 1e-9 else f"{100 * fraction:+.2f} %"


TABLES: Mapping[str, Any] = {
    "agreement of whole steps": lambda: agreement_table(step_gaps()),
    "agreement of hand-overs": lambda: agreement_table(hand_over_gaps()),
}
"""The tables by the name under which a page asks for them."""

if __name__ == "__main__":
    for name, table in TABLES.items():
        sys.stdout.write(f"{name}\n\n{table()}\n\n")
