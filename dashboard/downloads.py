"""Files that pages offer: the scenario, its answer, the trace of its simulation."""

import csv
import io
from collections.abc import Callable, Mapping

import msgspec
from flask import Flask, Response, request

from costmodels.errors import ShardwiseError
from costmodels.scenario import scenario_to_table, scenario_to_toml
from dashboard import questions
from dashboard.parts import KNOWN
from dashboard.questions import Question
from simulator.answer import GROUPS, Answer
from simulator.trace import chrome_trace


def add_downloads(server: Flask, ask: Callable[[str], Question]) -> None:
    """Offer the files of a scenario that the query of an address states.

    Parameters
    ----------
    server : flask.Flask
        The application.
    ask : callable
        From the query of an address to the question about its scenario.
    """

    def download(name: str) -> Response:
        if name not in _FILES:
            return Response(f"{name}: there is no such file", 404, mimetype="text/plain")
        make, kind = _FILES[name]
        try:
            text = make(ask(request.query_string.decode("utf-8", "replace")))
        except ShardwiseError as error:
            return Response(str(error), 400, mimetype="text/plain")
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return Response(text, 200, headers, mimetype=kind)

    server.add_url_rule("/download/<name>", "download", download)


def _json(value: object) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def _trace(asked: Question) -> str:
    return msgspec.json.encode(chrome_trace(questions.simulation(asked).trace)).decode()


def answer_csv(answer: Answer) -> str:
    """Return the published numbers of an answer, one a line, in base units."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["quantity", "value", "unit", "definition"])
    for group in GROUPS:
        for name, value in getattr(answer, group).items():
            entry = KNOWN.get(name)
            unit, definition = (entry.unit, entry.definition) if entry else ("", "")
            shown = msgspec.json.encode(value).decode() if isinstance(value, list) else value
            writer.writerow([f"{group}.{name}", shown, unit, definition])
    return out.getvalue()


_Make = Callable[[Question], str]

_FILES: Mapping[str, tuple[_Make, str]] = {
    "scenario.toml": (lambda asked: scenario_to_toml(asked.scenario), "application/toml"),
    "scenario.json": (
        lambda asked: _json(scenario_to_table(asked.scenario)),
        "application/json",
    ),
    "answer.json": (lambda asked: _json(questions.answer(asked)), "application/json"),
    "answer.csv": (lambda asked: answer_csv(questions.answer(asked)), "text/csv"),
    "trace.json": (_trace, "application/json"),
}
