"""The part of a page that starts long work, shows how far it is, and ends it.

What is shown is read from the store each time, so that a page that is loaded again, another tab and
a server that was started again find the same job.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from dash import ALL, Dash, Input, Output, State, ctx, dcc, html, no_update

from costmodels.errors import ShardwiseError, SpecError
from costmodels.units import format_count, format_fraction, format_seconds
from dashboard.attributes import aria
from dashboard.jobs.kinds import (
    SIMULATION,
    VALIDATION,
    ask_simulation,
    ask_validation,
)
from dashboard.library import asked_by, store
from dashboard.security import is_trusted
from dashboard.state import plain_text, read_state
from dashboard.store.jobs import Job, JobState

REFRESHED = "refreshed"
"""Store of a page whose change lets the page be answered anew."""

_ACT, _SHOWN, _TICK, _OF = "job-act", "job", "job-tick", "job-of"
_TICK_MS = 500
_PATIENCE_S = 5.0


class Offer(NamedTuple):
    """Work that a button starts.

    Attributes
    ----------
    text : str
        What stands on the button.
    kind : str
        Kind of work.
    of : str
        Which one, of the kind.
    """

    text: str
    kind: str
    of: str = ""


def validation_job() -> Job | None:
    """Return the validation that runs or waits, or else the one that was asked for last."""
    found = [job for job in store().jobs.listed() if job.kind == VALIDATION]
    return next((job for job in found if job.is_open), found[0] if found else None)


def work_part(job: Job | None, offers: Sequence[Offer]) -> html.Div:
    """Return a job as it stands, watched while it is open; else what can be started.

    Parameters
    ----------
    job : Job or None
        What was asked for last.
    offers : sequence of Offer
        What may be started where nothing is open.
    """
    return html.Div(
        [
            html.Div(_status(job, offers), id=_SHOWN, **aria(live="polite")),
            dcc.Interval(id=_TICK, interval=_TICK_MS, disabled=job is None or not job.is_open),
            dcc.Store(id=_OF, data=None if job is None else job.id),
        ],
        className="work",
    )


def _status(job: Job | None, offers: Sequence[Offer]) -> list[Any]:
    if job is not None and job.is_open:
        return [*_progress(job), _button("Cancel", "cancel", str(job.id))]
    said: list[Any] = []
    if job is not None and job.state is JobState.FAILED:
        said = [html.P([html.Strong("Failed: "), job.reason], className="banner")]
    if job is not None and job.state is JobState.CANCELLED:
        said = [html.P(f"{job.title}: cancelled.", className="note")]
    buttons = [_button(offer.text, offer.kind, offer.of) for offer in offers]
    return [*said, html.Div(buttons, className="actions")]


def _button(text: str, what: str, of: str) -> html.Button:
    name = "plain" if what == "cancel" else "plain strong"
    return html.Button(text, id={"type": _ACT, "what": what, "of": of}, className=name)


def _progress(job: Job) -> list[Any]:
    share = f"{format_fraction(job.done / job.total)}" if job.total else ""
    counted = f"{format_count(job.done)} of {format_count(job.total)}" if job.total else ""
    said = [text for text in (share, counted, _says(job)) if text]
    known: dict[str, Any] = {"value": str(job.done), "max": str(job.total)} if job.total else {}
    return [
        html.P([html.Strong(job.title), ": ", ", ".join(said)]),
        html.Progress(**known, **aria(label=f"progress of {job.title}")),
    ]


def _says(job: Job) -> str:
    if job.is_cancelled:
        return "is being ended"
    if job.is_abandoned:
        return (
            f"its worker has been silent for {format_seconds(job.silent_s)}: the next one takes "
            "it over"
        )
    if job.state is JobState.QUEUED and job.silent_s > _PATIENCE_S:
        return "waits for a worker: if none is at work, start one by shardwise worker"
    return job.message or ("waits for a worker" if job.state is JobState.QUEUED else "begins")


def register(app: Dash) -> None:
    """Add the callback of the buttons and of the clock."""
    app.callback(
        Output(_SHOWN, "children"),
        Output(_TICK, "disabled"),
        Output(_OF, "data"),
        Output(REFRESHED, "data"),
        Input({"type": _ACT, "what": ALL, "of": ALL}, "n_clicks"),
        Input(_TICK, "n_intervals"),
        State(_OF, "data"),
        State("url", "search"),
        prevent_initial_call=True,
    )(act)


def act(clicks: Any, ticks: Any, of: Any, search: Any) -> tuple[Any, Any, Any, Any]:
    """Start or end work, or show how far it is."""
    del clicks, ticks
    chosen = ctx.triggered_id
    # A page that appears fires its buttons too, without a click.
    if chosen is None or not any(entry["value"] for entry in ctx.triggered):
        return (no_update,) * 4
    try:
        job = _watched(of) if chosen == _TICK else _acted(chosen, search)
    except ShardwiseError as error:
        said = html.P([html.Strong("Not done: "), str(error)], className="banner")
        return [said], True, no_update, no_update
    if job.is_open:
        return _status(job, ()), False, job.id, no_update
    # It has ended: the page has an answer that it had not before.
    return no_update, True, job.id, {"job": job.id, "state": job.state.value}


def _watched(of: Any) -> Job:
    if isinstance(of, bool) or not isinstance(of, int) or not 0 < of < 2**31:
        raise SpecError(f"job ({str(of)[:60]}): expected the number of a job")
    return store().jobs.get(of)


def _acted(chosen: Any, search: Any) -> Job:
    what, of = (plain_text(chosen.get(key)) for key in ("what", "of"))
    if what == "cancel":
        if not of.isascii() or not of.isdigit() or len(of) > 9:
            raise SpecError(f"job ({of[:60]}): expected the number of a job")
        job = store().jobs.get(int(of))
        if job.kind == VALIDATION:
            _require_trust()
        return store().jobs.cancel(job.id) if job.is_open else job
    if what == SIMULATION:
        asked = asked_by(read_state(plain_text(search) if not isinstance(search, str) else search))
        return ask_simulation(store().jobs, asked.scenario, of)
    if what == VALIDATION:
        _require_trust()
        return ask_validation(store().jobs, tuple(filter(None, (of,))))
    raise SpecError(f"a button ({what[:60]}): is not known")


def _require_trust() -> None:
    if not is_trusted():
        raise SpecError(
            "a validation runs programs on the server: only where just this machine reaches it, or "
            "where it asks for a password (--auth)"
        )
