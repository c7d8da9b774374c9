"""The page of a pipeline: its schedule in simulated time, where it waits and what it holds."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from dash import dcc, html

from costmodels.errors import ShardwiseError
from costmodels.scenario import Scenario
from costmodels.units import format_change, format_fraction, format_seconds
from dashboard import library, questions
from dashboard.bar import slider, view_choice
from dashboard.fields import MICROBATCHES, field_named
from dashboard.figures.played import Played
from dashboard.figures.schedule import (
    DETAIL_SPANS,
    Window,
    idle_bars,
    legend,
    schedule,
)
from dashboard.jobs.kinds import SIMULATION
from dashboard.library import NotPlayedError, store
from dashboard.pages.page import Asked, Page
from dashboard.pages.work import Offer, work_part
from dashboard.parts import card, figure, message, number, table
from dashboard.questions import Question
from dashboard.state import State, query_of
from simulator.answer import Answer

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
        first = library.played(asked.question)
    except NotPlayedError as error:
        return [_large(asked, error), card("Closed form", _comparison(answer), key="closed-form")]
    except ShardwiseError as error:
        return [message(str(error)), _comparison(answer)]
    second, refused = _other(asked)
    until_s = max(first.makespan_s, second.played.makespan_s if second else 0.0)
    is_small = questions.actions(asked.question) <= questions.MOST_ACTIONS
    links = _links(asked) if is_small else []
    cards = [_schedule_card("first", asked.question, first, until_s, links)]
    if second:
        cards.append(_schedule_card("second", second.question, second.played, until_s, []))
    if refused:
        cards.append(message(refused))
    return [
        *cards,
        html.Div(
            [
                card(
                    "Idle time of each rank, by cause",
                    figure("idle", idle_bars(first.idle), "Idle time of each rank by cause"),
                    note=f"{format_fraction(first.idle_fraction)} of the pipeline's time",
                    key="idle",
                ),
                card("Closed form and simulation", _comparison(answer, first), key="closed-form"),
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


def _large(asked: Asked, error: NotPlayedError) -> Any:
    """Return what stands in place of a schedule that takes long to play."""
    if error.count > questions.MOST_JOB_ACTIONS:
        return message(
            f"The step has {error.count:,} actions, more than the {questions.MOST_JOB_ACTIONS:,} "
            "that are played; the closed forms answer."
        )
    told = html.P(
        f"The step has {error.count:,} actions, more than the {questions.MOST_ACTIONS:,} that a "
        "page waits for."
    )
    if not store().jobs.is_shared:
        return message(
            f"{told.children} The store ends with this process, so that no worker can play it: "
            "start with --database, or without for a file in your data folder."
        )
    plan = asked.question.scenario.plan
    title = f"{plan.schedule.value} of {error.count:,} actions"
    offer = Offer("Simulate it in the background", SIMULATION, title)
    return card("Schedule", told, work_part(error.job, [offer]), key="large")


class _Second(NamedTuple):
    question: Question
    played: Played


def _other(asked: Asked) -> tuple[_Second | None, str]:
    """Return the scenario with the other schedule, its chunks made legal if need be."""
    name = asked.state.viewed(AGAINST)
    if not name:
        return None, ""
    refused = ""
    chunks = asked.question.scenario.plan.virtual_stages
    for count in dict.fromkeys((chunks, 1, 2, 3, 4, 7)):
        changed = asked.question.changed({_SCHEDULE: name, _CHUNKS: str(count)})
        try:
            return _Second(changed, library.played(changed)), ""
        except ShardwiseError as error:
            refused = refused or str(error)
    return None, f"The second schedule: {refused}"


def _schedule_card(
    which: str, asked: Question, played: Played, until_s: float, links: Iterable[Any]
) -> Any:
    plan = asked.scenario.plan
    count = questions.microbatch_count(asked.scenario)
    chunks = f" x {plan.virtual_stages} chunks" if plan.virtual_stages > 1 else ""
    drawn = draw(asked, played, None, until_s)
    note = (
        f"{format_seconds(played.makespan_s)}, idle {format_fraction(played.idle_fraction)}, "
        f"{played.span_count:,} spans"
    )
    swatches = [
        html.Span([html.I(style={"background": style.colour}), style.label], className="swatch")
        for style in legend(played.drawing.spans)
    ]
    zoom = (
        f" Drag to zoom: bars appear below {DETAIL_SPANS:,} spans in view, double click shows all."
        if played.span_count > DETAIL_SPANS
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


def draw(asked: Question, played: Played, window: Window | None, until_s: float) -> dict[str, Any]:
    """Return the figure of a schedule within a window."""
    return schedule(
        played.drawing,
        window=window,
        until_s=until_s,
        capacity_bytes=asked.scenario.cluster.accelerator.memory_bytes,
    )


def zoomed(
    asked: Asked, which: str, window: Window | None, until_s: float
) -> dict[str, Any] | None:
    """Return the figure of a window, None where the browser has all that it needs."""
    if which == "first":
        shown: _Second | None = _Second(asked.question, library.played(asked.question))
    else:
        shown, _ = _other(asked)
    if shown is None or shown.played.span_count <= DETAIL_SPANS:
        return None
    return draw(shown.question, shown.played, window, until_s)


def _comparison(answer: Answer, played: Played | None = None) -> Any:
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
        if values[1] is None and played is not None:
            values[1] = _FROM_PLAYED[simulated](played)
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


_FROM_PLAYED: Mapping[str, Callable[[Played], float]] = {
    "time.simulated_step_s": lambda played: played.makespan_s,
    "pipeline.simulated_idle_fraction": lambda played: played.idle_fraction,
}
_HOPS = ("pipeline_exposed_s", "exposed hand-overs")

PAGE = Page(
    "/pipeline",
    "Pipeline",
    render,
    controls=controls,
    without=(_STAGES, _CHUNKS, MICROBATCHES, "workload.global_batch_size"),
)
"""The page."""
