"""The page of a plan: whether it fits, how long a step takes and why, what a run costs."""

from collections.abc import Sequence
from typing import Any

from dash import html

from costmodels.analysis import inputs_of
from costmodels.errors import ShardwiseError
from costmodels.units import (
    SECONDS_PER_HOUR,
    format_bytes,
    format_count,
    format_named,
    format_seconds,
)
from dashboard import questions
from dashboard.advice import Remark, Remedy, remarks
from dashboard.figures.memory import stage_bars
from dashboard.figures.time import step_bars
from dashboard.pages.page import Asked, Page
from dashboard.parts import (
    KNOWN,
    apply_link,
    card,
    figure,
    message,
    more,
    number,
    table,
    unit_part,
)
from simulator.answer import Answer
from simulator.inert_fields import counted, inert_fields, is_inert
from simulator.limits import QUESTIONS, Limit


def render(asked: Asked) -> Sequence[Any]:
    """Return the verdict, the headline numbers, memory and the parts of a step."""
    answer = questions.answer(asked.question)
    drawn = stage_bars(answer)
    capacity = asked.question.scenario.cluster.accelerator.memory_bytes
    return [
        verdict(answer),
        html.Div(tiles(answer), className="tiles"),
        html.Div(
            [
                card(
                    "Memory of a GPU, by stage",
                    figure(
                        "memory-by-stage",
                        drawn,
                        "Memory of a GPU of each stage as stacked bars, capacity as a line",
                    ),
                    memory_table(answer),
                    note=f"dashed: capacity {format_bytes(capacity)}",
                    key="memory",
                ),
                card("Time of a step", *_time(answer), key="time"),
            ],
            className="columns",
        ),
    ]


def verdict(answer: Answer) -> html.P:
    """Return in one sentence whether the plan fits, and what it reaches."""
    memory, time, compute = answer.memory, answer.time, answer.compute
    headroom = memory["headroom_bytes"]
    margin = number(
        "memory.headroom_bytes", headroom, at="verdict", text=format_bytes(abs(headroom))
    )
    stage = memory["worst_stage_index"]
    fits = "Fits" if answer.fits else "Does not fit"
    said: list[Any] = [
        html.Strong(fits, className="yes" if answer.fits else "no"),
        ": ",
        margin,
        f" {'left' if answer.fits else 'too much'} on the fullest GPUs (stage {stage}). ",
    ]
    if time["step_s"] is None:
        said.append("Times, throughput and costs are withheld.")
    else:
        said += [
            "A step takes ",
            number("time.step_s", time["step_s"], at="verdict"),
            ": ",
            number("time.tokens_per_s", time["tokens_per_s"], at="verdict"),
            ", ",
            number("compute.mfu_fraction", compute["mfu_fraction"], at="verdict"),
            " MFU.",
        ]
    return html.P(said, className="verdict", id="verdict")


_TILES = (
    ("time of a step", "time.step_s", None),
    ("tokens/s of a GPU", "time.tokens_per_s_per_gpu", "bare"),
    ("MFU", "compute.mfu_fraction", None),
    ("HFU", "compute.hfu_fraction", None),
    ("fullest GPU", "memory.worst_stage_bytes", None),
    ("idle in the pipeline", "pipeline.idle_fraction", None),
    ("run", "cost.run_s", None),
    ("run, GPU-hours", "cost.run_gpu_s", "hours"),
    ("run, dollars", "cost.run_usd", None),
    ("run, energy", "cost.run_energy_j", None),
)


def tiles(answer: Answer) -> list[html.Div]:
    """Return the headline numbers, each with what it rests on."""
    found = []
    for label, path, form in _TILES:
        group, name = path.split(".")
        values = getattr(answer, group)
        if name not in values:
            continue
        value = values[name]
        text = None
        if form == "hours" and value is not None:
            text = format_count(value / SECONDS_PER_HOUR)
        if form == "bare" and value is not None:
            text = format_named("", value)
        found.append(
            html.Div(
                [
                    html.Span(label, className="tile-label"),
                    number(path, value, at="tile", text=text),
                    html.Span(values["basis"], className="basis"),
                ],
                className="tile",
            )
        )
    return found


def _time(answer: Answer) -> list[Any]:
    if answer.time["step_s"] is None:
        return [message("The plan does not fit: times are withheld.")]
    step_s = answer.time["step_s"]
    rows = [
        [
            KNOWN[name].definition.rstrip("."),
            number(f"time.{name}", answer.time[name], at="terms"),
            format_named("_fraction", answer.time[name] / step_s),
        ]
        for name in (*inputs_of("step_s"), "step_s")
    ]
    simulated = answer.time["simulated_step_s"]
    if simulated is not None:
        rows.append(
            [
                "The same step in the event simulator",
                number("time.simulated_step_s", simulated, at="terms"),
                format_named("_fraction", simulated / step_s),
            ]
        )
    drawn = step_bars(answer)
    return [
        figure("step-waterfall", drawn, "Terms of a step's time, from compute to the step"),
        more(
            "Terms of the step",
            table("terms", ("term", "time", "share"), rows, marked=(len(inputs_of("step_s")),)),
        ),
    ]


def memory_table(answer: Answer) -> Any:
    """Return the memory of each stage by part, equal neighbours in one row."""
    parts = (*inputs_of("stage_bytes"), "stage_bytes")
    memory = answer.memory
    count = len(memory["stage_bytes"])
    worst = memory["worst_stage_index"]
    held = memory.get("host_bytes") or [0] * count

    def cells(stage: int) -> list[str]:
        found = []
        for name in parts:
            value = memory[name]
            found.append(format_bytes(value[stage] if isinstance(value, list) else value))
        return found

    def key(stage: int) -> list[str | int]:
        return [*cells(stage), held[stage]]

    groups: list[tuple[int, int]] = []
    for stage in range(count):
        if groups and key(groups[-1][0]) == key(stage):
            groups[-1] = (groups[-1][0], stage)
        else:
            groups.append((stage, stage))
    rows = [
        [
            f"{first}" if first == last else f"{first}-{last}",
            *cells(first)[:-1],
            number("memory.stage_bytes", memory["stage_bytes"][first], at=f"stage {first}"),
        ]
        for first, last in groups
    ]
    if any(held):
        for row, (first, _) in zip(rows, groups, strict=True):
            row.append(number("memory.host_bytes", held[first], at=f"stage {first}"))
    marked = [index for index, (first, last) in enumerate(groups) if first <= worst <= last]
    heads = [name.removesuffix("_bytes").removeprefix("stage_") for name in parts[:-1]]
    return more(
        "Table by stage",
        table(
            "memory-by-stage",
            ("stage", *heads, "total", *(["on the host"] if any(held) else [])),
            rows,
            marked=marked,
        ),
    )


def later(asked: Asked) -> Sequence[Any]:
    """Return remarks, limits, traffic and what the answer rests on."""
    answer = questions.answer(asked.question)
    said = remarks(asked.question)
    return [
        html.Div(
            [
                card("Remarks", *_remarks(said, asked), key="remarks"),
                card("How far it goes", _limits(asked), key="limits"),
                card("Bytes that a GPU sends", _traffic(answer), key="traffic"),
            ],
            className="columns three",
        ),
        html.Div(
            [
                card("What this rests on, the weakest first", _basis(answer), key="basis"),
                card("Notes", *_notes(answer.notes), key="notes"),
            ],
            className="columns uneven",
        ),
    ]


def _remarks(said: Sequence[Remark], asked: Asked) -> list[Any]:
    if not said:
        return [message("Nothing to remark: it fits, and neither pipeline nor memory lies idle.")]
    before = questions.answer(asked.question)
    return [
        html.Div(
            [
                html.P(remark.text),
                html.Ul([_remedy(remedy, before, asked) for remedy in remark.remedies])
                if remark.remedies
                else html.P("None of the usual changes helps here.", className="note"),
            ],
            className="remark",
        )
        for remark in said
    ]


def _remedy(remedy: Remedy, before: Answer, asked: Asked) -> html.Li:
    changes = ", ".join(
        f"{path.rpartition('.')[2].replace('_', ' ')} {value}" for path, value in remedy.changes
    )
    left = format_bytes(remedy.answer.memory["headroom_bytes"])
    step_s = [answer.time["step_s"] for answer in (before, remedy.answer)]
    rates = [answer.time["tokens_per_s"] for answer in (before, remedy.answer)]
    effect = f"step {format_seconds(step_s[1])}, {left} left"
    if rates[0] and rates[1]:
        effect = f"{100 * (rates[1] / rates[0] - 1):+.1f} % tokens/s, {left} left"
    return html.Li(
        [
            apply_link(changes, asked.state, dict(remedy.changes)),
            html.Span(effect, className="note"),
        ]
    )


def _limits(asked: Asked) -> Any:
    rows = []
    for sense, known in QUESTIONS.items():
        for name, (path, _) in known.items():
            if name == "layers":
                continue
            try:
                found = questions.largest(asked.question, sense, name)
            except ShardwiseError:
                continue  # Not every question makes sense of every scenario.
            label = f"{sense} {name.replace('-', ' ')}".replace("smallest gpus", "fewest GPUs")
            rows.append([label, format_count(found.stated_value), _limit_cell(found, path, asked)])
    return table("limits", ("all other fields unchanged", "stated", "that fits"), rows)


def _limit_cell(found: Limit, path: str, asked: Asked) -> Any:
    if found.found is None:
        return "none"
    text = format_count(found.found.value)
    if found.found.value == found.stated_value:
        return text
    return apply_link(text, asked.state, {path: found.found.value})


def _traffic(answer: Answer) -> Any:
    values = answer.communication
    busiest = values["busiest_stage_index"]
    names = [*_of_axes(answer), "scale_up_bytes", "network_bytes"]
    rows = [
        [
            _TIERS.get(name, f"{name.removesuffix('_bytes').replace('_', ' ')} axis"),
            number(f"communication.{name}", values[name][busiest], at="traffic"),
        ]
        for name in names
    ]
    rows.append(
        [
            "all GPUs together",
            number("communication.sent_bytes", values["sent_bytes"], at="traffic"),
        ]
    )
    rows += [
        [label, number(f"communication.{name}", values[name][busiest], at="traffic")]
        for name, label in _HOST.items()
        if any(values.get(name, ()))
    ]
    return table("traffic", ("axis or tier", f"a step, GPU of stage {busiest} (busiest)"), rows)


_HOST = {"device_to_host_bytes": "to its host", "host_to_device_bytes": "from its host"}
_TIERS = {"scale_up_bytes": "inside the node", "network_bytes": "across nodes"}


def _of_axes(answer: Answer) -> list[str]:
    """Return the bytes by axis: what is published by stage, beside tiers and totals."""
    return [
        name
        for name, value in answer.communication.items()
        if isinstance(value, list)
        and name.endswith("_bytes")
        and name not in (*_TIERS, "stage_sent_bytes")
        and name.removesuffix("_bytes") in _AXES
    ]


_AXES = ("tensor", "sequence", "context", "expert", "pipeline", "data", "tied_embedding")


def _notes(notes: Sequence[str]) -> list[Any]:
    """Return notes as a list, those on fields without effect behind a summary."""
    silent = [note for note in notes if is_inert(note)]
    said = html.Ul([html.Li(note) for note in notes if not is_inert(note)])
    if not silent:
        return [said]
    fields = counted(len(inert_fields(silent)), "field")
    behind = html.Ul([html.Li(note) for note in silent])
    return [said, more(f"{fields} of no effect here, or only with some values", behind)]


def _basis(answer: Answer) -> Any:
    rows = [
        [
            html.Span(entry.basis.value, className=f"basis {entry.basis.value}"),
            entry.field.removeprefix("cluster."),
            format_named(unit_part(entry.field), entry.value),
            html.Span(entry.source, className="source", title=entry.source),
        ]
        for entry in answer.assumptions
    ]
    return table("assumptions", ("basis", "input", "value", "source"), rows, align="llrl")


PAGE = Page("/", "Plan", render, later)
"""The page."""
