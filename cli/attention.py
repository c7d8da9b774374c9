"""Attention layouts for people: tables, comma-separated values, patterns, memory by segments."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import typer
from rich.console import Console

from cli.inputs import read_text
from cli.tables import console, print_table, table_of
from costmodels.errors import SpecError
from costmodels.units import format_bytes, format_count, format_flop, format_number
from simulator.attention import (
    AttentionAnswer,
    MemoryStep,
    answers_of,
    attention_answers,
    memory_steps,
    pattern_of,
)
from simulator.attention_cases import AttentionCase, attention_cases

LONGEST_PATTERN = 128
_STEPS_SHOWN = 4
_MARKS = ".#23456789"


class Asked(msgspec.Struct, frozen=True):
    """Cases with their labels.

    Attributes
    ----------
    cases : list of AttentionCase
        As they were asked for.
    labels : list of str
        What each was called: its layout, or its preset.
    """

    cases: list[AttentionCase]
    labels: list[str]

    def answers(self) -> list[AttentionAnswer]:
        """Return the answers of all cases."""
        return list(answers_of(self.cases))


def asked(options: Mapping[str, Any], file: Path | None) -> Asked:
    """Return the cases of options, or of a file that says what differs from them.

    Raises
    ------
    SpecError
        If the file is no list of objects, or a case is wrong.
    """
    tables = [options] if file is None else [{**options, **case} for case in _cases_of(file)]
    cases: list[AttentionCase] = []
    labels: list[str] = []
    for number, table in enumerate(tables, start=1):
        try:
            cases += attention_cases(table)
        except SpecError as error:
            if file is None:
                raise
            raise SpecError(f"{file}, case {number}: {error}") from None
        stated = table.get("layout", "dense")
        labels += [stated] if not isinstance(stated, str) else stated.split(",")
    return Asked(cases, [str(label) for label in labels])


def _cases_of(file: Path) -> list[Mapping[str, Any]]:
    try:
        found = json.loads(read_text(file))
    except json.JSONDecodeError as error:
        raise SpecError(f"{file}: is no JSON: {error}") from None
    cases = found.get("cases") if isinstance(found, dict) else found
    if not isinstance(cases, list) or not all(isinstance(case, dict) for case in cases):
        raise SpecError(f"{file}: must be a list of objects, such as [{{'layout': 'dense'}}]")
    return cases


def json_of(question: Asked) -> str:
    """Return all answers as one JSON object; integers have all their digits."""
    answers = []
    for number, (case, label) in enumerate(zip(question.cases, question.labels, strict=True)):
        for answer in attention_answers(case):
            own = {"case": number, "label": label} | msgspec.to_builtins(answer)
            if case.layout == "infini" and label.startswith("notes"):
                steps = memory_steps(case, answer.sequence_length)
                own["memory_steps"] = msgspec.to_builtins(steps)
            answers.append(own)
    return json.dumps({"schema_version": 1, "answers": answers}, indent=2)


def csv_of(question: Asked) -> str:
    """Return all answers as comma-separated values, one row each, in base units."""
    rows = []
    for number, (case, label) in enumerate(zip(question.cases, question.labels, strict=True)):
        for answer in attention_answers(case):
            table = msgspec.to_builtins(answer)
            sent = table.pop("sent_bytes")
            options = {name: _listed(value) for name, value in table.pop("options").items()}
            options.pop("seq_len")
            row = {"case": number, "label": label} | table
            rows.append(row | {f"sent_{name}_bytes": sent[name] for name in sent} | options)
    names = dict.fromkeys(name for row in rows for name in row)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(names), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _listed(value: Any) -> Any:
    if not isinstance(value, list | tuple):
        return value
    nested = any(isinstance(part, list | tuple) for part in value)
    return ("/" if nested else ",").join(str(_listed(part)) for part in value)


def show_attention(question: Asked) -> None:
    """Print answers beside dense causal attention, by length."""
    out = console()
    for case, label in zip(question.cases, question.labels, strict=True):
        print_table(out, _table(case, label, attention_answers(case)))
        if case.ranks > 1:
            _show_sent(out, case, attention_answers(case))
        if case.layout == "infini" and label.startswith("notes"):
            for length in case.seq_len:
                print_table(out, _steps_table(memory_steps(case, length), length))
    out.print(
        "One layer, all heads and sequences; projections aside. Ratios: dense causal attention's "
        "ideal forward and state over the layout's. Backward keeps probabilities."
    )


def _table(case: AttentionCase, label: str, answers: Sequence[AttentionAnswer]) -> Any:
    title = f"{label}: {_sizes(case)}"
    table = table_of(
        title,
        "tokens",
        "ideal forward",
        "dense/this",
        "executed forward",
        "backward",
        "state",
        "dense/this",
        "decode step",
        "FLOP/B",
        "reached",
        left=0,
    )
    for answer in answers:
        layer = f", layer {answer.layer_index}" if len(case.dilations) > 1 else ""
        reached = "-" if answer.reached_tokens is None else format_count(answer.reached_tokens)
        table.add_row(
            format_count(answer.sequence_length) + layer,
            format_flop(answer.ideal_forward_flop),
            format_number(answer.dense_flop_ratio),
            format_flop(answer.executed_forward_flop),
            format_flop(answer.executed_backward_flop),
            format_bytes(answer.state_bytes),
            format_number(answer.dense_state_ratio),
            format_flop(answer.decode_flop),
            format_number(answer.decode_flop_per_byte),
            reached,
        )
    return table


def _sizes(case: AttentionCase) -> str:
    parts = [
        f"{case.layout} attention",
        f"{case.heads} heads, {case.kv_heads} of keys and values",
        f"width {case.head_size} and {case.value_size}",
        f"reach over {case.layers} layer{'s' * (case.layers > 1)}",
    ]
    return ", ".join(parts)


def _show_sent(out: Console, case: AttentionCase, answers: Sequence[AttentionAnswer]) -> None:
    table = table_of(
        f"Sent by each of {case.ranks} ranks in a forward", "tokens", "scheme", "bytes"
    )
    for answer in answers:
        for scheme, sent in answer.sent_bytes.items():
            name = scheme.replace("_", " ")
            table.add_row(format_count(answer.sequence_length), name, format_bytes(sent))
    if any(answer.sent_bytes for answer in answers):
        print_table(out, table)


def _steps_table(steps: Sequence[MemoryStep], length: int) -> Any:
    table = table_of(
        f"Memory after each segment of {format_count(length)} tokens",
        "step",
        "tokens read",
        "memory",
        "segment's keys and values",
        "work of the segment",
        "work so far",
        left=0,
    )
    last = len(steps) - _STEPS_SHOWN
    for place, step in enumerate(steps):
        if _STEPS_SHOWN <= place < last:
            if place == _STEPS_SHOWN:
                table.add_row("...", "", "", "", "", "")
            continue
        table.add_row(
            str(step.step),
            format_count(step.tokens),
            format_bytes(step.memory_bytes),
            format_bytes(step.window_bytes),
            format_flop(step.segment_flop),
            format_flop(step.total_flop),
        )
    return table


def pattern_lengths(question: Asked) -> list[int]:
    """Return the first length of each case, for a drawing.

    Raises
    ------
    SpecError
        If one is too long to be drawn.
    """
    lengths = [case.seq_len[0] for case in question.cases]
    for length in lengths:
        if length > LONGEST_PATTERN:
            raise SpecError(
                f"seq_len ({length}): a pattern is drawn of at most {LONGEST_PATTERN} tokens"
            )
    return lengths


def show_pattern(question: Asked) -> None:
    """Print who attends whom in each different head: a row for each query, a column for each key."""
    for case, label, length in zip(
        question.cases, question.labels, pattern_lengths(question), strict=True
    ):
        for layer in range(max(len(case.dilations), 1)):
            _show_layer(case, label, length, layer)


def _show_layer(case: AttentionCase, label: str, length: int, layer: int) -> None:
    drawn: dict[str, list[int]] = {}
    for head in range(case.heads):
        pattern = pattern_of(case, length, head, layer)
        drawn.setdefault("\n".join(map(_line, pattern.tolist())), []).append(head)
    for text, heads in drawn.items():
        where = f", layer {layer}" if len(case.dilations) > 1 else ""
        typer.echo(f"{label}{where}, heads {', '.join(map(str, heads))}: queries down, keys across")
        typer.echo(text)


def _line(row: Sequence[int]) -> str:
    return "".join(_MARKS[min(count, len(_MARKS) - 1)] for count in row)


def drawn_patterns(question: Asked) -> dict[str, Any]:
    """Return the pattern of each different head, by a label, at most eight.

    Raises
    ------
    SpecError
        If a length is too long to be drawn.
    """
    found: dict[str, Any] = {}
    for case, label, length in zip(
        question.cases, question.labels, pattern_lengths(question), strict=True
    ):
        for layer in range(max(len(case.dilations), 1)):
            seen: list[Any] = []
            for head in range(case.heads):
                pattern = pattern_of(case, length, head, layer)
                if not any((pattern == other).all() for other in seen):
                    seen.append(pattern)
                    found[f"{label}, layer {layer}, head {head}"] = pattern
    return dict(list(found.items())[:8])


def drawn_answers(question: Asked) -> dict[str, list[AttentionAnswer]]:
    """Return the answers of dense attention and of each layout at every power of two up to 2^30."""
    lengths = tuple(1 << power for power in range(8, 31))
    plain = msgspec.structs.replace(attention_cases({})[0], seq_len=lengths)
    found = {"dense": attention_answers(plain)}
    for case, label in zip(question.cases, question.labels, strict=True):
        answers = attention_answers(msgspec.structs.replace(case, seq_len=lengths, ranks=1))
        for layer in range(max(len(case.dilations), 1)):
            name = f"{label}, layer {layer}" if len(case.dilations) > 1 else label
            found[name] = [answer for answer in answers if answer.layer_index == layer]
    return found
