"""The page of scenarios: save, name, tag, annotate, duplicate, delete, import, export; presets."""

import base64
import binascii
import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import PurePath
from typing import Any, NamedTuple

from dash import ALL, Dash, Input, Output, State, ctx, dcc, html, no_update

from costmodels.analysis import evaluate
from costmodels.compilation import compile_model
from costmodels.errors import ShardwiseError, SpecError
from costmodels.huggingface.importing import import_config
from costmodels.presets import model_preset, preset_names, preset_table
from costmodels.scenario import (
    Scenario,
    scenario_from_table,
    scenario_from_toml,
    scenario_to_table,
)
from costmodels.specs.cluster import Cluster
from costmodels.specs.tables import build, to_table
from costmodels.units import format_bytes, format_count, format_named, format_rate
from dashboard import questions
from dashboard.library import asked_by, saved, store
from dashboard.parts import apply_link, card, message, more, table
from dashboard.questions import Question, question
from dashboard.security import MOST_BYTES
from dashboard.state import State as Shown
from dashboard.state import plain_text, query_of, read_state
from dashboard.store.scenarios import ConflictError, Saved
from simulator.answer import Answer

PATH, TITLE = "/scenarios", "Scenarios"
MOST_UPLOADED_BYTES = MOST_BYTES // 2
_ACT = "act"


def layout(state: Shown) -> list[Any]:
    """Return the page: what the address states, to be saved; what is saved; presets."""
    return [
        html.H1(TITLE, className="unseen"),
        html.Div(id="said", role="status", className="said"),
        html.Div(
            [
                card("Save", *_form(state), key="save"),
                card("Import and export", *_files(state), key="files"),
            ],
            className="columns",
        ),
        html.Div(_listing(state), id="listing"),
        card("Models", more("browse the presets", _models(state)), key="models"),
        card("Clusters", more("browse the presets", _clusters(state)), key="clusters"),
    ]


def _form(state: Shown) -> list[Any]:
    try:
        scenario = asked_by(state).scenario
        found = saved(state.base) if state.base else None
    except ShardwiseError as error:
        return [message(str(error))]
    version = []
    if found is not None:
        version = [
            html.Button(
                f"Save as version {found.version + 1} of “{found.name}”",
                id={"type": _ACT, "what": "version", "of": str(found.id)},
                className="plain",
            )
        ]
    return [
        html.P(_sentence(scenario), className="note"),
        html.Div(
            [
                _text("name", "name", found.name if found else _suggested(scenario)),
                _text("tags", "tags, by commas", found.tags if found else ""),
            ],
            className="fields two",
        ),
        html.Div(
            [
                html.Label("note", htmlFor="note"),
                dcc.Textarea(id="note", value=found.note if found else "", rows=2),
            ],
            className="field",
        ),
        dcc.Store(id="seen-version", data=found.version if found else 0),
        html.Div(
            [
                html.Button(
                    "Save as a new scenario",
                    id={"type": _ACT, "what": "new", "of": "0"},
                    className="plain strong",
                ),
                *version,
            ],
            className="actions",
        ),
    ]


def _sentence(scenario: Scenario) -> str:
    plan = scenario.plan
    return (
        f"{scenario.model.name} on {scenario.cluster.accelerator_count:,} x "
        f"{scenario.cluster.accelerator.name}, tensor {plan.tensor_parallel_size} x pipeline "
        f"{plan.pipeline_parallel_size}, {plan.schedule.value}, batch "
        f"{scenario.workload.global_batch_size:,} x {scenario.workload.sequence_length:,}"
    )


def _suggested(scenario: Scenario) -> str:
    return (
        f"{scenario.model.name} on {scenario.cluster.accelerator_count:,} {scenario.cluster.name}"
    )


def _text(name: str, label: str, value: str) -> html.Div:
    return html.Div(
        [
            html.Label(label, htmlFor=name),
            dcc.Input(id=name, type="text", value=value, autoComplete="off"),
        ],
        className="field wide-text",
    )


def _files(state: Shown) -> list[Any]:
    query = query_of(state._replace(view=()))
    names = ("scenario.toml", "scenario.json", "answer.json", "answer.csv")
    links = [
        html.A(name, href=f"/download/{name}{query}", download=name, className="apply")
        for name in names
    ]
    return [
        dcc.Upload(
            html.Div(
                [
                    "Drop a scenario file (TOML or JSON) or a model's config.json here, or ",
                    html.U("choose one"),
                ]
            ),
            id="upload",
            max_size=MOST_UPLOADED_BYTES,
            className="upload",
        ),
        html.P(
            "A config.json takes the place of the model in the scenario that is shown; the rest "
            "stays.",
            className="note",
        ),
        html.P(["Take this scenario as ", *_joined(links)]),
    ]


def _joined(parts: Sequence[Any]) -> list[Any]:
    return [piece for part in parts for piece in (" · ", part)][1:]


def _listing(state: Shown) -> list[Any]:
    listed, gone = store().listed(), store().listed(deleted=True)
    cards: list[Any] = []
    if listed:
        rows = [_row(each, state) for each in listed]
        marked = [
            index for index, each in enumerate(listed) if state.base.split(".")[0] == str(each.id)
        ]
        made = table("scenarios", _COLUMNS, rows, align="lllrrrrll", marked=marked)
        cards.append(card("Saved scenarios", made, note=f"{len(listed):,} of them", key="saved"))
    else:
        cards.append(card("Saved scenarios", message("None is saved yet."), key="saved"))
    if state.base:
        cards.append(_history(state))
    if gone:
        rows = [[each.name, _when(each), _button("restore", each, "Restore")] for each in gone]
        made = table("deleted", ("name", "saved", ""), rows, align="lll")
        cards.append(card("Deleted", more(f"{len(gone):,} to take back", made), key="deleted"))
    return cards


_COLUMNS = ("name", "tags", "note", "version", "step", "MFU", "fullest GPU", "saved", "")


def _row(each: Saved, state: Shown) -> list[Any]:
    target = "/" + query_of(Shown(base=str(each.id)))
    compared = "/compare" + query_of(Shown(state.base, state.changes, (("with", str(each.id)),)))
    answer = each.answer
    fits = bool(answer.get("fits"))
    return [
        dcc.Link(each.name, href=target, className="apply"),
        each.tags,
        html.Span(each.note, className="clamped", title=each.note),
        str(each.version),
        format_named("step_s", answer["time"].get("step_s")) if fits else "does not fit",
        format_named("_fraction", answer["compute"].get("mfu_fraction")),
        format_named("_bytes", answer["memory"].get("worst_stage_bytes")),
        html.Span(_when(each), title=f"by Shardwise {each.shardwise_version}"),
        html.Span(
            [
                dcc.Link("compare", href=compared, className="apply"),
                _button("duplicate", each, "Duplicate"),
                _button("delete", each, "Delete"),
            ],
            className="actions",
        ),
    ]


def _button(what: str, each: Saved, text: str) -> html.Button:
    return html.Button(text, id={"type": _ACT, "what": what, "of": str(each.id)}, className="plain")


def _when(each: Saved) -> str:
    return each.saved_at.strftime("%Y-%m-%d %H:%M UTC")


def _history(state: Shown) -> Any:
    try:
        versions = store().history(saved(state.base).id)
    except ShardwiseError as error:
        return message(str(error))
    rows = [
        [
            dcc.Link(
                f"version {each.version}",
                href="/" + query_of(Shown(base=f"{each.id}.{each.version}")),
                className="apply",
            ),
            each.name,
            each.note,
            format_named("step_s", each.answer["time"].get("step_s")),
            _when(each),
            each.shardwise_version,
        ]
        for each in versions
    ]
    heads = ("version", "name", "note", "step then", "saved", "answered by Shardwise")
    return card(f"History of “{versions[0].name}”", table("history", heads, rows, align="lllrll"))


class _ModelRow(NamedTuple):
    name: str
    total: int
    active: int
    layers: int
    hidden: int
    longest: int


@lru_cache(maxsize=1)
def _model_rows() -> tuple[_ModelRow, ...]:
    rows = []
    for name in preset_names("model"):
        model = model_preset(name)
        values = evaluate(compile_model(model), ("total_parameters", "active_parameters"))
        total, active = (int(values[key][0]) for key in values)
        sizes = (model.num_hidden_layers, model.hidden_size, model.max_position_embeddings)
        rows.append(_ModelRow(name, total, active, *sizes))
    return tuple(rows)


def _models(state: Shown) -> Any:
    rows = [
        [
            apply_link(row.name, state, {"model": row.name}),
            format_count(row.total),
            format_count(row.active),
            format_count(row.layers),
            format_count(row.hidden),
            format_count(row.longest),
        ]
        for row in _model_rows()
    ]
    heads = ("model", "parameters", "active", "layers", "hidden size", "longest sequence")
    return table("models", heads, rows)


@lru_cache(maxsize=1)
def _cluster_rows() -> tuple[tuple[str, ...], ...]:
    rows = []
    for name in preset_names("cluster"):
        described = build(
            Cluster, preset_table("cluster", name) | {"accelerator_count": 1}, "cluster"
        )
        chip = described.accelerator
        peak = chip.peak_flop_per_s.get("bf16")
        price = chip.price_usd_per_s
        rows.append(
            (
                name,
                chip.name,
                str(described.accelerators_per_node),
                format_bytes(chip.memory_bytes),
                format_rate(chip.memory_bandwidth_bytes_per_s, "B/s"),
                "-" if peak is None else format_rate(peak, "FLOP/s"),
                format_rate(described.scale_up.bandwidth_bytes_per_s, "B/s"),
                format_rate(described.network.bandwidth_bytes_per_s, "B/s"),
                "-" if price is None else format_named("price_usd_per_s", price),
            )
        )
    return tuple(rows)


def _clusters(state: Shown) -> Any:
    rows = [[apply_link(row[0], state, {"cluster": row[0]}), *row[1:]] for row in _cluster_rows()]
    heads = (
        *("cluster", "accelerator", "a node", "memory", "bandwidth", "peak bf16"),
        *("scale-up", "network", "rent"),
    )
    return table("clusters", heads, rows, align="ll")


def register(app: Dash) -> None:
    """Add the callback of the page's buttons and of its upload."""
    app.callback(
        Output("said", "children"),
        Output("listing", "children"),
        Output("seen-version", "data", allow_duplicate=True),
        Input({"type": _ACT, "what": ALL, "of": ALL}, "n_clicks"),
        Input("upload", "contents"),
        State("upload", "filename"),
        State("name", "value"),
        State("tags", "value"),
        State("note", "value"),
        State("seen-version", "data"),
        State("url", "search"),
        prevent_initial_call=True,
    )(act)


def act(
    clicks: Any,
    contents: Any,
    filename: Any,
    name: Any,
    tags: Any,
    note: Any,
    seen: Any,
    search: Any,
) -> tuple[Any, Any, Any]:
    """Return what was done, and the list of scenarios after it."""
    del clicks
    chosen = ctx.triggered_id
    # A page that appears fires its buttons too, without a click.
    if chosen is None or not any(entry["value"] for entry in ctx.triggered):
        return no_update, no_update, no_update
    state = Shown()
    try:
        state = read_state(plain_text(search) if not isinstance(search, str) else search)
        labels = (_long_text(name), _long_text(tags), _long_text(note))
        if chosen == "upload":
            said, version = _uploaded(state, contents, filename), seen
        else:
            said, version = _done(chosen, state, labels, seen)
    except ConflictError as conflict:
        return _conflict(conflict), _listing(state), no_update
    except ShardwiseError as error:
        return _said("Not done: ", str(error), is_bad=True), no_update, no_update
    return said, _listing(state), version


def _long_text(value: object) -> str:
    """Return a text of a form, which may be longer than a field's and have several lines."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise SpecError(f"a text ({str(value)[:60]!r}): expected a text")
    return value.encode("utf-8", "replace").decode().replace("\x00", "?")


def _done(chosen: Any, state: Shown, labels: tuple[str, str, str], seen: Any) -> tuple[Any, Any]:
    what, number = str(chosen.get("what")), str(chosen.get("of"))
    name, tags, note = labels
    if what == "new":
        made = _save(asked_by(state), name, tags, note)
        return _said_saved("Saved as", made), no_update
    if what == "version":
        if isinstance(seen, bool) or not isinstance(seen, int):
            raise SpecError(f"version ({str(seen)[:60]}): expected a whole number")
        asked, found = asked_by(state), saved(number)
        made = store().save_version(
            found.id, seen, _table(asked), _answer(asked), name=name, tags=tags, note=note
        )
        return _said_saved(f"Saved version {made.version} of", made), made.version
    found = saved(number)
    if what == "duplicate":
        asked = question(found.table, ())
        made = _save(asked, f"{found.name} (copy)"[:200], found.tags, found.note)
        return _said_saved("Duplicated as", made), no_update
    if what == "delete":
        store().delete(found.id)
        undo = html.Button(
            "Undo", id={"type": _ACT, "what": "undo", "of": str(found.id)}, className="plain"
        )
        return _said("Deleted ", f"“{found.name}”. ", undo), no_update
    if what in ("restore", "undo"):
        store().restore(found.id)
        return _said_saved("Restored", found), no_update
    raise SpecError(f"a button ({what[:60]}): is not known")


def _save(asked: Question, name: str, tags: str, note: str) -> Saved:
    return store().save_new(_table(asked), _answer(asked), name=name, tags=tags, note=note)


def _table(asked: Question) -> dict[str, Any]:
    return scenario_to_table(asked.scenario)


def _answer(asked: Question) -> Answer:
    return questions.answer(asked)


def _said(start: str, *parts: Any, is_bad: bool = False) -> Any:
    return html.P([html.Strong(start), *parts], className="banner" if is_bad else "done")


def _said_saved(start: str, made: Saved) -> Any:
    href = "/" + query_of(Shown(base=str(made.id)))
    return _said(
        f"{start} ",
        f"“{made.name}”. ",
        dcc.Link("Open it", href=href, className="apply", id="open-saved"),
    )


def _conflict(conflict: ConflictError) -> Any:
    theirs = "/" + query_of(Shown(base=str(conflict.current.id)))
    return html.Div(
        [
            html.Strong("Not saved: "),
            f"{conflict}. ",
            dcc.Link("Open theirs", href=theirs, className="apply"),
            " or keep both: ",
            html.Button(
                "Save mine as a new scenario",
                id={"type": _ACT, "what": "new", "of": "conflict"},
                className="plain",
            ),
        ],
        className="banner",
        id="conflict",
    )


def _uploaded(state: Shown, contents: Any, filename: Any) -> Any:
    """Save what a file states: a scenario, or a model in the scenario that is shown."""
    name = PurePath(_long_text(filename) or "file").name[:200]
    text = _decoded(contents, name)
    if name.lower().endswith(".toml"):
        made = _save_scenario(scenario_from_toml(text), name.removesuffix(".toml"))
        return _said_saved("Imported", made)
    table_ = _json_table(text)
    if table_ is not None:
        return _said_saved("Imported", _save_scenario(scenario_from_table(table_), name))
    imported = import_config(text, name=name.removesuffix(".json"), where=name)
    shown = scenario_to_table(asked_by(state).scenario)
    sections = {"model": to_table(imported.model)}
    if imported.precision is not None:
        sections["precision"] = to_table(imported.precision)
    return _said_saved("Imported", _save_scenario(scenario_from_table(shown | sections), name))


def _save_scenario(scenario: Scenario, name: str) -> Saved:
    return _save(question(scenario_to_table(scenario), ()), name, "imported", "")


def _json_table(text: str) -> dict[str, Any] | None:
    """Return the table of a scenario in JSON, None where the text describes something else."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and "workload" in found and "cluster" in found else None


def _decoded(contents: Any, name: str) -> str:
    """Return the text of an uploaded file; its size is checked here, whatever the browser did."""
    if not isinstance(contents, str) or "," not in contents:
        raise SpecError(f"{name}: was not received; files of at most 1 MiB are")
    try:
        raw = base64.b64decode(contents.partition(",")[2], validate=True)
        text = raw.decode("utf-8")
    except (binascii.Error, ValueError):
        raise SpecError(f"{name}: not a UTF-8 text") from None
    if len(raw) > MOST_UPLOADED_BYTES:
        raise SpecError(f"{name}: has {len(raw):,} bytes; expected at most {MOST_UPLOADED_BYTES:,}")
    return text
