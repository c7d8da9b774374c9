"""The page of a pipeline: its schedule in simulated time, where it waits and what it holds."""

from collections.abc import Iterable, Sequence
from typing import Any

from dash import dcc, html

from costmodels.errors import ShardwiseError
from costmodels.scenario import Scenario
from costmodels.units import format_change, format_fraction, format_seconds
from dashboard import questions
from dashboard.bar import slider, view_choice
from dashboard.fields import MICROBATCHES, field_named
from dashboard.figures.schedule import (
    DETAIL_SPANS,
    Window,
    idle_bars,
    legend,
    schedule,
)
from dashboard.pages.page import Asked, Page
from dashboard.parts import card, figure, message, number, table
from dashboard.questions import Question
from dashboard.state import State, query_of
from simulator.answer import Answer
from simulator.training import Simulation

AGAINST, ALTHOUGH = "against", "although"
"""What is shown beside a schedule: another one; a schedule although the plan does not fit."""

_STAGES, _CHUNKS, _SCHEDULE = (
    "plan.pipeline_parallel_size",
    "plan.virtual_stages",
    "plan.schedule",
)
_SMALL: dict[str, str] = {
    "model": "llama-3.1-8b",
    "cluster": "h100-sxm:4",
    "plan.tensor_parallel_size": "1",
    "plan.sequence_parallel": "false",
    _STAGES: "4",
    _CHUNKS: "1",
    _SCHEDULE: "gpipe",
    "plan.micro_batch_size": "1",
    "plan.zero_stage": "0",
    "plan.recompute": "full",
    "workload.sequence_length": "4k",
}
_PRESETS = (
    ("4 stages, 1 microbatch: 75 % idle", _SMALL | {MICROBATCHES: "1"}),
    ("4 stages, 4 microbatches: 43 % idle", _SMALL | {MICROBATCHES: "4"}),
)
_MICROBATCHES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)


def controls(state: State, scenario: Scenario | None) -> Sequence[Any]:
    """Return sliders of the sizes of a pipeline, and what to show beside its schedule."""
    found: list[Any] = []
    if scenario is not None:
        found = [
            slider(field_named(path), values, current)
            for path, values, current in _sizes(scenario)
            if len(values) > 1
        ]
    schedules = field_named(_SCHEDULE).options
    found += [
        view_choice(
            AGAINST, "against", schedules, state.viewed(AGAINST), "a second schedule, played beside"
        ),
        view_choice(
            ALTHOUGH,
            "without room",
            ("withheld", "played"),
            state.viewed(ALTHOUGH),
            "whether a plan that does not fit is played all the same",
        ),
    ]
    links = [
        dcc.Link(text, href="/pipeline" + query_of(State(changes=tuple(changes.items()))))
        for text, changes in _PRESETS
    ]
    return [
        html.Div(found, className="fields"),
        html.P([html.Span("Examples: ", className="note"), *_between(links)], className="examples"),
    ]


def _between(links: list[Any]) -> list[Any]:
    return [part for link in links for part in (" · ", link)][1:]


def _sizes(scenario: Scenario) -> list[tuple[str, list[int], int]]:
    """Return the legal values of the sizes of a pipeline, all other fields unchanged."""
    plan = scenario.plan
    microbatches = questions.microbatch_count(scenario)
    sequences = scenario.workload.global_batch_size // microbatches
    stages = [*range(1, 65), 72, 80, 96, 128, plan.pipeline_parallel_size]
    counts = sorted({*_MICROBATCHES, microbatches})
    batches = questions.legal(
        scenario, "workload.global_batch_size", [count * sequences for count in counts]
    )
    return [
        (_STAGES, questions.legal(scenario, _STAGES, stages), plan.pipeline_parallel_size),
        (MICROBATCHES, [batch // sequences for batch in batches], microbatches),
        (
            _CHUNKS,
            questions.legal(scenario, _CHUNKS, [*range(1, 17), plan.virtual_stages]),
            plan.virtual_stages,
        ),
    ]


def render(asked: Asked) -> Sequence[Any]:
    """Return the schedule, a second one if one is asked for, idle time and its causes."""
    answer = questions.answer(asked.question)
    if not answer.fits and asked.state.viewed(ALTHOUGH) != "played":
        return [
            message(
                "The plan does not fit, so nothing is played. Choose “without room: played” to see "
                "its schedule all the same.",
            )
        ]
    try:
        first = questions.simulation(asked.question)
    except ShardwiseError as error:
        return [message(str(error)), _comparison(answer)]
    second_question, refused = _other(asked)
    second = questions.simulation(second_question) if second_question else None
    until_s = max(played.metrics.makespan_s for played in (first, second) if played)
    cards = [_schedule_card("first", asked.question, first, until_s, _links(asked))]
    if second_question and second:
        cards.append(_schedule_card("second", second_question, second, until_s, []))
    if refused:
        cards.append(message(refused))
    return [
        *cards,
        html.Div(
            [
                card(
                    "Idle time of each rank, by cause",
                    figure("idle", idle_bars(first.trace), "Idle time of each rank by cause"),
                    note=f"{format_fraction(first.metrics.idle_fraction)} of the pipeline's time",
                    key="idle",
                ),
                card("Closed form and simulation", _comparison(answer), key="closed-form"),
            ],
            className="columns",
        ),
    ]


def _links(asked: Asked) -> list[Any]:
    query = query_of(asked.state)
    return [
        html.A(
            "Perfetto trace",
            href="/download/trace.json" + query,
            download="trace.json",
            className="apply",
            title="open it at ui.perfetto.dev or in chrome://tracing",
        )
    ]


def _other(asked: Asked) -> tuple[Question | None, str]:
    """Return the scenario with the other schedule, its chunks made legal if need be."""
    name = asked.state.viewed(AGAINST)
    if not name:
        return None, ""
    refused = ""
    chunks = asked.question.scenario.plan.virtual_stages
    for count in dict.fromkeys((chunks, 1, 2, 3, 4, 7)):
        changed = asked.question.changed({_SCHEDULE: name, _CHUNKS: str(count)})
        try:
            questions.simulation(changed)
        except ShardwiseError as error:
            refused = refused or str(error)
            continue
        return changed, ""
    return None, f"The second schedule: {refused}"


def _schedule_card(
    which: str, asked: Question, played: Simulation, until_s: float, links: Iterable[Any]
) -> Any:
    plan = asked.scenario.plan
    count = questions.microbatch_count(asked.scenario)
    chunks = f" x {plan.virtual_stages} chunks" if plan.virtual_stages > 1 else ""
    drawn = draw(asked, None, until_s)
    metrics = played.metrics
    note = (
        f"{format_seconds(metrics.makespan_s)}, idle {format_fraction(metrics.idle_fraction)}, "
        f"{len(played.trace.spans):,} spans"
    )
    swatches = [
        html.Span([html.I(style={"background": style.colour}), style.label], className="swatch")
        for style in legend(played.trace)
    ]
    zoom = (
        f" Drag to zoom: bars appear below {DETAIL_SPANS:,} spans in view, double click shows all."
        if len(played.trace.spans) > DETAIL_SPANS
        else " Drag to zoom, double click shows all."
    )
    return card(
        f"{plan.schedule.value}: {plan.pipeline_parallel_size} stages{chunks}, {count:,} "
        "microbatches",
        html.Div([*swatches, html.Span(zoom, className="note"), *links], className="legend"),
        figure(
            {"type": "gantt", "which": which},
            drawn,
            "What each rank does over time, and what it holds below",
        ),
        dcc.Store(id={"type": "gantt-end", "which": which}, data=until_s),
        note=note,
        key=which,
    )


def draw(asked: Question, window: Window | None, until_s: float) -> dict[str, Any]:
    """Return the figure of a schedule within a window."""
    return schedule(
        questions.drawing(asked),
        window=window,
        until_s=until_s,
        capacity_bytes=asked.scenario.cluster.accelerator.memory_bytes,
    )


def zoomed(
    asked: Asked, which: str, window: Window | None, until_s: float
) -> dict[str, Any] | None:
    """Return the figure of a window, None where the browser has all that it needs."""
    question = asked.question if which == "first" else _other(asked)[0]
    if question is None:
        return None
    if len(questions.drawing(question).spans.start_s) <= DETAIL_SPANS:
        return None
    return draw(question, window, until_s)


def _comparison(answer: Answer) -> Any:
    time, pipeline = answer.time, answer.pipeline
    rows = []
    for label, closed, simulated in (
        ("time of a step", "time.step_s", "time.simulated_step_s"),
        (
            "idle share of the pipeline",
            "pipeline.idle_fraction",
            "pipeline.simulated_idle_fraction",
        ),
    ):
        group = time if closed.startswith("time") else pipeline
        values = [group[path.partition(".")[2]] for path in (closed, simulated)]
        known = None not in values
        gap = format_change(closed, values[1] - values[0]) if known else "-"
        rows.append(
            [
                label,
                number(closed, values[0], at="closed"),
                number(simulated, values[1], at="simulated"),
                gap,
            ]
        )
    ideal = number("pipeline.ideal_idle_fraction", pipeline["ideal_idle_fraction"], at="closed")
    rows.append(["bubble of equal stages and free links", ideal, "", ""])
    for name, label in (("bubble_s", "bubble"), ("imbalance_s", "unequal stages"), _HOPS):
        rows.append([f"{label} in a step", number(f"time.{name}", time[name], at="closed"), "", ""])
    return table("closed-form", ("", "closed form", "simulated", "gap"), rows)


_HOPS = ("pipeline_exposed_s", "exposed hand-overs")

PAGE = Page(
    "/pipeline",
    "Pipeline",
    render,
    controls=controls,
    without=(_STAGES, _CHUNKS, MICROBATCHES, "workload.global_batch_size"),
)
"""The page."""
