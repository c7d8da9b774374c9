"""The page of communication: where groups sit, who sends how much to whom, over which links."""

from collections.abc import Sequence
from typing import Any

from dash import html

from costmodels.errors import ShardwiseError
from costmodels.scenario import Scenario
from costmodels.specs.plan import RankAxis
from costmodels.units import format_bytes, format_count, format_seconds, format_traffic
from dashboard import questions
from dashboard.bar import view_choice
from dashboard.figures.style import in_page
from dashboard.figures.topology import gpus_by_node, heat_map, split_layers
from dashboard.figures.traffic import sent_by_stage
from dashboard.pages.page import Asked, Page
from dashboard.parts import apply_link, card, figure, message, number, table
from dashboard.questions import Question
from dashboard.state import State
from dashboard.topology import Mesh, among, axes_with_groups, mesh_of, orders
from simulator.accounting import TrafficAccount
from simulator.linear import LinearLayer, LinearSplit, linear_account

AXIS = "axis"
"""Axis whose groups have colours."""

_MOST_DRAWN = 256
_MOST_IN_MATRIX = 256


def controls(state: State, scenario: Scenario | None) -> Sequence[Any]:
    """Return the choice of the axis whose groups are coloured."""
    del scenario
    axes = tuple(axis.value for axis in RankAxis)
    return [
        html.Div(
            [view_choice(AXIS, "groups of", axes, state.viewed(AXIS), "whose groups are coloured")],
            className="fields",
        )
    ]


def render(asked: Asked) -> Sequence[Any]:
    """Return where ranks sit, the matrix of traffic and every collective."""
    question = asked.question
    scenario, answer = question.scenario, questions.closed_form(question)
    account = questions.traffic(question)
    mesh = mesh_of(scenario)
    axis = _axis(asked.state, mesh)
    return [
        _sizes(mesh, answer.communication["sent_bytes"]),
        html.Div(
            [
                _gpus(mesh, axis),
                _matrix(mesh, question),
            ],
            className="columns",
        ),
        html.Div(
            [
                card(
                    "Bytes that a GPU sends in a step, by stage",
                    figure(
                        "sent-by-stage",
                        in_page(sent_by_stage(account), height=440),
                        "Bytes sent by a GPU of each stage, by collective",
                    ),
                    key="stages",
                ),
                card(
                    "A linear layer on the tensor-parallel ranks",
                    *_linear(scenario),
                    key="linear",
                ),
            ],
            className="columns",
        ),
        card("Collectives of a step", _collectives(account), key="collectives"),
    ]


def _axis(state: State, mesh: Mesh) -> str:
    stated = state.viewed(AXIS)
    if stated in mesh.sizes:
        return stated
    return next(iter(axes_with_groups(mesh)), next(iter(mesh.sizes)))


def _sizes(mesh: Mesh, sent_bytes: float) -> html.P:
    sizes = " x ".join(f"{axis} {size}" for axis, size in mesh.sizes.items())
    return html.P(
        [
            f"Ranks from neighbours outwards: {sizes}; {mesh.per_node} GPUs a node. "
            "All GPUs together send ",
            number("communication.sent_bytes", sent_bytes, at="verdict"),
            " a step.",
        ],
        className="verdict",
    )


def _cut(mesh: Mesh, shown: dict[str, int]) -> str:
    cut = [
        f"{size} of {mesh.sizes[axis]} {axis}"
        for axis, size in shown.items()
        if size < mesh.sizes[axis]
    ]
    return f"shown: {', '.join(cut)} ranks" if cut else "all GPUs"


def _gpus(mesh: Mesh, axis: str) -> Any:
    corner = mesh.corner(_MOST_DRAWN)
    return card(
        f"GPUs by node, coloured by {axis} group",
        figure(
            "gpus",
            gpus_by_node(mesh, corner, axis),
            f"GPUs of each node, members of a {axis} group in one colour",
        ),
        note=_cut(mesh, corner.sizes),
        key="gpus",
    )


def _matrix(mesh: Mesh, asked: Question) -> Any:
    title = "Who sends to whom in a step"
    corner = mesh.corner(_MOST_IN_MATRIX)
    try:
        matrix = among(questions.matrix(asked), corner.ranks)
    except ShardwiseError as error:
        return card(title, message(str(error)))
    note = _cut(mesh, corner.sizes)
    if not matrix.sent_bytes.any():
        return card(title, message("These GPUs send each other nothing."), note=note)
    drawn = heat_map(mesh, matrix)
    described = "Bytes from each rank to each other rank"
    return card(title, figure("matrix", drawn, described), note=note, key="matrix")


def _collectives(account: TrafficAccount) -> Any:
    stage = account.busiest_stage_index
    rows = [
        [
            entry.axis,
            entry.name.replace("_", " ")
            + ("" if entry.chunk_index is None else f", chunk {entry.chunk_index}"),
            f"{entry.collective}, {entry.algorithm}",
            entry.tier,
            format_count(entry.group_size),
            format_count(entry.calls[stage]),
            format_traffic(entry.payload_bytes[stage]),
            format_traffic(entry.sent_bytes[stage]),
            format_traffic(entry.scale_up_bytes[stage]),
            format_traffic(entry.network_bytes[stage]),
        ]
        for entry in account.messages
    ]
    columns = (
        *("axis", "what", "collective", "links", "ranks", "calls", "payload of a call"),
        *(f"sent, stage {stage}", "inside the node", "across nodes"),
    )
    return table("collectives", columns, rows, align="llll")


def _linear(scenario: Scenario) -> list[Any]:
    model, plan = scenario.model, scenario.plan
    ranks = plan.tensor_parallel_size
    layer = LinearLayer(
        input_size=model.hidden_size,
        output_size=model.intermediate_size,
        token_count=plan.micro_batch_size * scenario.workload.sequence_length,
        rank_count=ranks,
        has_bias=False,
    )
    account = linear_account(layer)
    sizes = [format_count(size) for size in (layer.token_count, layer.input_size)]
    drawn = split_layers(
        ranks,
        (*sizes, format_count(layer.output_size)),
        (_combined(account.column), _combined(account.row)),
    )
    rows = [
        [
            f"by {split.by}",
            f"{split.ranks[0].input_size:,} x {split.ranks[0].output_size:,}",
            format_bytes(split.ranks[0].weight_bytes),
            format_traffic(split.sent_bytes),
            format_traffic(split.paired_sent_bytes),
        ]
        for split in (account.column, account.row)
    ]
    columns = ("split", "matrix of a rank", "its bytes", "sent alone", "sent as a pair")
    return [
        figure("linear", drawn, "A matrix product split by columns and by rows"),
        table("linear", columns, rows),
        html.P(
            f"Alone, by {account.better} is better: {account.reason}. As a pair, a split by columns "
            "and then one by rows, nothing is exchanged between the two products.",
            className="note",
        ),
    ]


def _combined(split: LinearSplit) -> str:
    forward = [entry for entry in split.messages if entry.phase == "forward" and entry.calls]
    return f"{forward[0].collective} makes it whole" if forward else "whole"


def later(asked: Asked) -> Sequence[Any]:
    """Return what it costs to move each axis across nodes: other orders of the ranks, tried."""
    question = asked.question
    before = questions.closed_form(question)
    rows = []
    for order in orders(question.scenario):
        changes = {"plan.rank_order": ",".join(order)}
        try:
            after = questions.closed_form(question.changed(changes))
        except ShardwiseError:
            continue
        stage = after.communication["busiest_stage_index"]
        step_s, stated_s = after.time["step_s"], before.time["step_s"]
        known = step_s is not None and stated_s is not None
        rows.append(
            [
                apply_link(" · ".join(order), asked.state, changes, "/communication"),
                format_traffic(after.communication["scale_up_bytes"][stage]),
                format_traffic(after.communication["network_bytes"][stage]),
                format_seconds(step_s) if known else "withheld",
                f"{100 * (step_s / stated_s - 1):+.1f} %" if known else "-",
            ]
        )
    columns = (
        *("order of the axes, neighbours first", "inside the node", "across nodes"),
        *("step", "change"),
    )
    return [
        card("What moving an axis across nodes costs", table("orders", columns, rows, marked=(0,)))
    ]


PAGE = Page("/communication", "Communication", render, later, controls)
"""The page."""
