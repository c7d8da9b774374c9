"""The dashboard as a WSGI application: pages, one callback for all of them, the panel.

Everything that a page shows is in its address, so that users, tabs and servers share no state.
"""

import os
import re
from collections.abc import Mapping
from math import inf, isfinite
from pathlib import Path
from typing import Any

from dash import (
    ALL,
    MATCH,
    ClientsideFunction,
    Dash,
    Input,
    Output,
    State,
    ctx,
    dcc,
    html,
    no_update,
)
from flask import Flask

from costmodels.errors import ShardwiseError, SpecError
from costmodels.scenario import Scenario
from dashboard import questions
from dashboard.attributes import aria
from dashboard.bar import (
    ERROR,
    FIELD,
    FRAMEWORK,
    GROUP,
    GROUPED,
    STEPS,
    VIEW,
    WRAP,
    bar,
    group,
    wrap_class,
)
from dashboard.delivery import deliver
from dashboard.downloads import add_downloads
from dashboard.explain import panel
from dashboard.fields import MICROBATCHES, shown_value
from dashboard.figures.schedule import Window
from dashboard.library import asked_by, keep_store
from dashboard.pages import (
    attention,
    communication,
    compare,
    formats,
    numbers,
    pipeline,
    plan,
    scenarios,
    validation,
    work,
)
from dashboard.pages.page import Asked, Page
from dashboard.reports import DEFAULT_FOLDER, keep_reports
from dashboard.security import HEALTH, Access, allow_scripts, read_access, secure
from dashboard.state import State as Shown
from dashboard.state import plain_text, query_of, read_state
from dashboard.store.database import database_url
from dashboard.store.scenarios import Store

PAGES: Mapping[str, Page] = {
    page.path: page
    for page in (
        plan.PAGE,
        pipeline.PAGE,
        communication.PAGE,
        attention.PAGE,
        formats.PAGE,
        numbers.PAGE,
        compare.PAGE,
        validation.PAGE,
    )
}
"""Pages about a scenario by their address."""


def create_app(
    store: Store | None = None, access: Access | None = None, reports: Path | None = None
) -> Dash:
    """Return the application.

    Parameters
    ----------
    store : Store, optional
        Saved scenarios; some that end with the process, if left out.
    access : Access, optional
        Who may ask; anybody who reaches the loopback address, if left out.
    reports : Path, optional
        Folder of validation reports; none, if left out.

    Returns
    -------
    dash.Dash
        Its ``server`` is the WSGI application.
    """
    server = Flask("dashboard")
    app = Dash(
        "dashboard",
        server=server,  # type: ignore[arg-type]
        title="Shardwise",
        update_title="",
        suppress_callback_exceptions=True,
        health_endpoint=HEALTH.removeprefix("/"),
        compress=False,
    )
    given = access or Access()
    secure(server, given)
    deliver(server)
    keep_store(server, store or Store())
    keep_reports(server, reports)
    app.index_string = app.index_string.replace("<html>", '<html lang="en">')
    app.layout = _frame()
    _register(app)
    add_downloads(server, lambda query: asked_by(read_state(query)))
    _warm(server, given)
    allow_scripts(server, app.csp_hashes())
    return app


def _warm(server: Flask, access: Access) -> None:
    """Ask for the first page: libraries are registered while it is made, which is not for threads."""
    headers = {"Host": access.hosts[0]} if access.hosts else {}
    credentials = (access.user, access.password) if access.password else None
    with server.test_client() as client:
        for path in ("/", "/_dash-layout", "/_dash-dependencies"):
            client.get(path, headers=headers, auth=credentials)


def _frame() -> html.Div:
    """Return what all pages have around them."""
    links = [
        dcc.Link(
            title,
            href=path,
            id={"type": "nav", "path": path},
            className="nav-link",
        )
        for path, title in _titles().items()
    ]
    return html.Div(
        [
            dcc.Location(id="nav", refresh=False),
            dcc.Location(id="url", refresh=False),
            dcc.Store(id="moved"),
            dcc.Store(id="asked"),
            dcc.Store(id="explained"),
            html.A("Skip to the answer", href="#page", className="skip"),
            html.Header(
                [
                    html.Span("Shardwise", className="brand"),
                    html.Nav(links, **aria(label="pages")),
                    html.Button("Theme", id="theme", title="switch between light and dark"),
                ]
            ),
            html.Main(id="page", tabIndex="-1"),
            html.Aside(
                [
                    html.Button("Close", id="close-panel", className="saver"),
                    html.Div(id="panel", **aria(live="polite")),
                ],
                id="panel-frame",
                className="panel closed",
                **aria(label="derivation of a number"),
            ),
        ],
        id="frame",
    )


def _titles() -> dict[str, str]:
    return {path: page.title for path, page in PAGES.items()} | {scenarios.PATH: scenarios.TITLE}


def _register(app: Dash) -> None:
    app.callback(
        Output("page", "children"),
        Input("nav", "pathname"),
        Input("nav", "search"),
        Input("moved", "data"),
    )(show_page)
    app.callback(
        Output("result", "children"),
        Output("result", "className"),
        Output("banner", "children"),
        Output({"type": FIELD, "path": ALL}, "placeholder"),
        Output({"type": WRAP, "path": ALL}, "className"),
        Output({"type": ERROR, "path": ALL}, "children"),
        Output("url", "search"),
        Output("asked", "data"),
        Output("shown", "data"),
        Input({"type": FIELD, "path": ALL}, "value"),
        Input({"type": STEPS, "path": ALL, "values": ALL, "initial": ALL}, "value"),
        Input({"type": VIEW, "name": ALL}, "value"),
        Input(work.REFRESHED, "data"),
        State("url", "pathname"),
        State("url", "search"),
        State("shown", "data"),
    )(show_answer)
    app.callback(
        Output("later", "children"),
        Input("asked", "data"),
        State("url", "pathname"),
    )(show_later)
    # In the browser: every answer brings new numbers, and a closed panel has nothing to ask for.
    app.clientside_callback(
        ClientsideFunction("shardwise", "explain"),
        Output("explained", "data"),
        Input({"type": "explain", "path": ALL, "at": ALL}, "n_clicks"),
        Input("close-panel", "n_clicks"),
        Input("asked", "data"),
        State("explained", "data"),
        prevent_initial_call=True,
    )
    app.callback(
        Output("panel", "children"),
        Output("panel-frame", "className"),
        Input("explained", "data"),
        prevent_initial_call=True,
    )(show_panel)
    app.callback(
        Output({"type": "gantt", "which": MATCH}, "figure"),
        Input({"type": "gantt", "which": MATCH}, "relayoutData"),
        State({"type": "gantt-end", "which": MATCH}, "data"),
        State("asked", "data"),
        State("shown", "data"),
        prevent_initial_call=True,
    )(zoom)
    app.callback(
        Output({"type": GROUPED, "section": MATCH}, "children"),
        Input({"type": GROUP, "section": MATCH}, "n_clicks"),
        State("url", "pathname"),
        State("url", "search"),
        prevent_initial_call=True,
    )(open_group)
    scenarios.register(app)
    work.register(app)
    app.clientside_callback(
        ClientsideFunction("shardwise", "framework"),
        Output("url", "search", allow_duplicate=True),
        Output("moved", "data"),
        Input(FRAMEWORK, "value"),
        prevent_initial_call=True,
    )
    app.clientside_callback(
        ClientsideFunction("shardwise", "links"),
        Output({"type": "nav", "path": ALL}, "href"),
        Output({"type": "nav", "path": ALL}, "className"),
        Input("url", "search"),
        Input("url", "pathname"),
        State({"type": "nav", "path": ALL}, "id"),
    )


def show_page(pathname: str | None, search: str | None, moved: Any = None) -> list[Any]:
    """Return a page: the scenario bar with what the address states, and room for the answer.

    A page that writes into its address does so unseen by `nav`, so that nothing is built anew under
    who types; hence back and forward report where they lead by `moved`.
    """
    if ctx.triggered_id == "moved" and isinstance(moved, dict):
        pathname, search = moved.get("pathname"), moved.get("search")
    if pathname == scenarios.PATH:
        return scenarios.layout(_lenient(search))
    page = PAGES.get(pathname or "/")
    if page is None:
        return [
            html.H1("There is no such page"),
            dcc.Link("Go to the plan", href="/", className="apply"),
        ]
    state = _lenient(search)
    scenario = _shown_scenario(state)
    return [
        html.H1(page.title, className="unseen"),
        bar(state, scenario, page.path, page.without)
        if page.about_scenario
        else html.Div(id="banner", role="status", className="banner"),
        html.Div(list(page.controls(state, scenario)), className="controls"),
        dcc.Store(id="shown"),
        dcc.Store(id=work.REFRESHED),
        html.Div(id="result"),
        html.Div(id="later", className="later"),
    ]


def _shown_scenario(state: Shown) -> Scenario | None:
    """Return the scenario whose values stand in empty fields."""
    try:
        return asked_by(state).scenario
    except ShardwiseError:
        # The callback that fills the page says why; controls keep what the address states.
        return _base_scenario(state)


def _base_scenario(state: Shown) -> Scenario | None:
    try:
        return asked_by(Shown(base=state.base)).scenario
    except ShardwiseError:
        return None


def open_group(clicks: Any, pathname: str | None, search: str | None) -> Any:
    """Return the controls of a group of fields that is opened for the first time."""
    if clicks != 1 or not isinstance(ctx.triggered_id, dict):
        return no_update
    page = PAGES.get(pathname or "/", plan.PAGE)
    state = _lenient(search)
    section = str(ctx.triggered_id.get("section"))
    return group(section, state, _shown_scenario(state), page.without)


def _lenient(search: str | None) -> Shown:
    try:
        return read_state(search)
    except ShardwiseError:
        return Shown()


def show_answer(
    values: list[Any],
    steps: list[Any],
    views: list[Any],
    refreshed: Any,
    pathname: str | None,
    search: str | None,
    shown: Any = None,
) -> tuple[Any, ...]:
    """Return the answer to what the controls state, or what is wrong with it beside its field."""
    del refreshed  # A job has ended: the same question may have another answer now.
    paths = [entry["id"]["path"] for entry in ctx.inputs_list[0]]
    wraps = [entry["id"]["path"] for entry in ctx.outputs_list[4]]
    errors = [entry["id"]["path"] for entry in ctx.outputs_list[5]]
    page = PAGES.get(pathname or "/", plan.PAGE)
    state = _lenient(search)
    try:
        state = _stated(read_state(search), paths, values, steps, views)
        state = state._replace(view=tuple(e for e in state.view if e not in page.defaults))
        asked = asked_by(state)
        scenario = asked.scenario
        children = page.render(Asked(state, asked))
    except ShardwiseError as error:
        first = no_update if shown else _starting_point(page, state)
        return _refused(first, state, str(error), len(paths), wraps, errors)
    changed = {path for path, _ in state.changes}
    return (
        list(children),
        "",
        "",
        [shown_value(scenario, path) or "-" for path in paths],
        [wrap_class(is_changed=path in changed, is_wrong=False) for path in wraps],
        [""] * len(errors),
        _written(state, search),
        query_of(state),
        True,
    )


def _written(state: Shown, search: str | None) -> Any:
    """Return the query to write into the address, nothing where it says the same already.

    In another order it says the same: an entry of its own would hold who goes back where they are.
    """
    return no_update if _ordered(_lenient(search)) == _ordered(state) else query_of(state)


def _ordered(state: Shown) -> Shown:
    return Shown(state.base, tuple(sorted(state.changes)), tuple(sorted(state.view)))


def _stated(
    state: Shown, paths: list[str], values: list[Any], steps: list[Any], views: list[Any]
) -> Shown:
    """Return what the controls of a page state; what it has no control for stays as it is."""
    kept = dict(state.changes)
    for path, value in zip(paths, values, strict=True):
        text = plain_text(value)
        kept.pop(path, None)
        if text:
            kept[path] = text
    for entry, value in zip(ctx.inputs_list[1], steps, strict=True):
        _slide(kept, entry["id"], value)
    view = dict(state.view)
    for entry, value in zip(ctx.inputs_list[2], views, strict=True):
        chosen = value if isinstance(value, list) else [value]
        view[entry["id"]["name"]] = plain_text(",".join(plain_text(each) for each in chosen))
    order = sorted(kept)
    return Shown(
        state.base,
        tuple((path, kept[path]) for path in order),
        tuple((name, text) for name, text in sorted(view.items()) if text),
    )


def _slide(kept: dict[str, str], identity: dict[str, str], value: Any) -> None:
    """Put down what a slider states, unless it stands where it stood without stating anything."""
    path, choices = identity["path"], identity["values"].split()
    place = _index(value, len(choices))
    if str(place) == identity["initial"] and path not in kept:
        return
    kept[path] = choices[place]
    if path == MICROBATCHES:
        kept.pop("workload.global_batch_size", None)


def _index(value: Any, count: int) -> int:
    """Return the place that a slider states."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < count:
        raise SpecError(f"a slider ({str(value)[:60]}): expected a place below {count}")
    return int(value)


def _refused(
    first: Any, state: Shown, sentence: str, count: int, wraps: list[str], errors: list[str]
) -> tuple[Any, ...]:
    """Return the sentence beside its field; the last good answer stays, greyed."""
    changed = {path for path, _ in state.changes}
    wrong = _wrong_field(sentence, wraps, changed)
    return (
        first,
        "stale",
        [html.Strong("Not answered: "), sentence],
        [no_update] * count,
        [wrap_class(is_changed=path in changed, is_wrong=path == wrong) for path in wraps],
        [sentence if path == wrong else "" for path in errors],
        no_update,
        no_update,
        True,
    )


def names_field(sentence: str, path: str) -> bool:
    """Return whether a sentence is about a field.

    Notes
    -----
    A whole section, such as ``model``, is a word of prose as well: it is meant where a value or a
    colon follows, as in ``unknown model 'gpt-9'``. Names that a sentence proposes instead are not
    what it is about.

    Examples
    --------
    >>> said = "plan.schedule (dualpipe): requires two copies of the model's parts"
    >>> names_field(said, "plan.schedule"), names_field(said, "model")
    (True, False)
    >>> names_field("model (gpt-9): no such preset", "model")
    True
    >>> names_field("unknown field 'plan.zero': did you mean 'plan.zero_stage'?", "plan.zero_stage")
    False
    """
    sentence = sentence.partition(": did you mean")[0]
    behind = r"(?![\w.])" if "." in path else r"(?=[:=]| [('])"
    return re.search(rf"(?<![\w.]){re.escape(path)}{behind}", sentence) is not None


def _wrong_field(sentence: str, paths: list[str], changed: set[str]) -> str:
    """Return the field that a sentence is about: of those it names, one that was changed last."""
    named = [path for path in paths if names_field(sentence, path)]
    touched = ctx.triggered_id.get("path") if isinstance(ctx.triggered_id, dict) else None
    ordered = [
        *(path for path in named if path == touched),
        *(path for path in named if path in changed),
        *sorted(named, key=sentence.index),
    ]
    return ordered[0] if ordered else ""


def _starting_point(page: Page, state: Shown) -> Any:
    """Return the answer to the scenario that the changes start from, where nothing else is there."""
    try:
        base = Shown(base=state.base)
        return list(page.render(Asked(base, asked_by(base))))
    except ShardwiseError:
        base = Shown()
        return list(page.render(Asked(base, asked_by(base))))


def show_later(query: str | None, pathname: str | None) -> Any:
    """Return what takes longer to answer."""
    if query is None:
        return no_update
    page = PAGES.get(pathname or "/", plan.PAGE)
    try:
        state = read_state(query)
        return list(page.later(Asked(state, asked_by(state))))
    except ShardwiseError as error:
        return [html.P(str(error), className="empty")]


def show_panel(explained: Any) -> tuple[Any, str]:
    """Return the derivation of the number that was opened, in the scenario that is shown."""
    wanted = explained if isinstance(explained, dict) else {}
    path, query = (str(wanted.get(key) or "") for key in ("path", "query"))
    if not path:
        return [], "panel closed"
    try:
        name = plain_text(path)
        return panel(name, questions.derivation(asked_by(read_state(query)), name)), "panel"
    except ShardwiseError as error:
        return [html.H2(path[:60]), html.P(str(error))], "panel"


def zoom(moved: Any, until_s: Any, query: str | None, shown: Any) -> Any:
    """Return a schedule in the window that was dragged, where the browser lacks its details."""
    if query is None or not shown or not isinstance(ctx.triggered_id, dict):
        return no_update
    window = _window(moved)
    if window is None:
        return no_update
    try:
        state = read_state(query)
        drawn = pipeline.zoomed(
            Asked(state, asked_by(state)), ctx.triggered_id["which"], window or None, float(until_s)
        )
    except (ShardwiseError, TypeError, ValueError):
        return no_update
    return no_update if drawn is None else drawn


def _window(moved: Any) -> Any:
    """Return the window of a movement, an empty one for all, None where the axis did not move."""
    if not isinstance(moved, dict):
        return None
    if moved.get("xaxis.autorange"):
        return ()
    whole = moved.get("xaxis.range", [None, None])
    edges = [moved.get(f"xaxis.range[{end}]", whole[end]) for end in (0, 1)]
    if any(isinstance(edge, bool) or not isinstance(edge, int | float) for edge in edges):
        return None
    start_s, end_s = (float(edge) for edge in edges)
    return Window(start_s, end_s) if isfinite(start_s) and start_s < end_s < inf else None


def server() -> Flask:
    """Return the WSGI application, for production servers.

    The environment says what the command line does: SHARDWISE_DATABASE_URL where scenarios are
    saved, SHARDWISE_HOSTS under which names the server is reached, by commas, SHARDWISE_AUTH the
    user and password that it asks for, SHARDWISE_REPORTS a folder of validation reports.
    """
    stated = os.environ.get("SHARDWISE_HOSTS", "")
    hosts = tuple(name.strip() for name in stated.split(",") if name.strip()) or Access().hosts
    access = read_access(os.environ.get("SHARDWISE_AUTH"), hosts)
    reports = Path(os.environ.get("SHARDWISE_REPORTS") or DEFAULT_FOLDER)
    found: Flask = create_app(Store(database_url()), access, reports).server
    return found
