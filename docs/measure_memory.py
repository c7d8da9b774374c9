"""How far memory by the closed forms is from what was published.

Run from the root of the repository: ``python -m docs.measure_memory``. The tables go into
``docs/memory.md`` by ``python -m docs.generate``.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from costmodels.units import format_bytes
from docs.markdown import markdown_table
from validation.cases import Case, error_fraction
from validation.golden_memory import (
    WITHIN_FRACTION,
    Golden,
    Score,
    contradicted,
    error_fractions,
    golden_tests,
    rests,
    scores,
)
from validation.printed_memory import printed_cases
from validation.published_memory import allocated_peak_bytes, b200_cases, b200_runs


def _signed(fraction: float) -> str:
    return f"{100 * fraction:+.2f} %"


def _summary(name: str, measured: str, cases: Sequence[Case]) -> list[str]:
    errors = [error_fraction(case) for case in cases]
    worst = max(cases, key=lambda case: abs(error_fraction(case)))
    return [
        name,
        measured,
        str(len(cases)),
        f"{100 * fmean(map(abs, errors)):.2f} %",
        _signed(fmean(errors)),
        _signed(error_fraction(worst)),
    ]


def sources_table() -> str:
    """Return the errors of each source: how many rows, mean, bias and worst."""
    printed = printed_cases()

    def named(start: str, unit: str) -> list[Case]:
        return [case for case in printed if case.name.startswith(start) and case.unit == unit]

    zero, figures, shares = (
        named("ZeRO", "byte"),
        named("Korthikanti", "byte"),
        named("Korthikanti", "percent"),
    )
    rows = [
        _summary("ZeRO, Table 1", "states, computed", zero),
        _summary("Korthikanti, Figure 1", "activations of layers, computed", figures),
        _summary("Korthikanti, Figure 7", "the same, percent of tensor parallel alone", shares),
        _summary("SimuMax, B200", "peak of allocated bytes, measured", b200_cases()[:-1]),
    ]
    return markdown_table(
        ["source", "what", "rows", "mean absolute error", "bias", "worst"],
        rows,
    )


def b200_table() -> str:
    """Return each run on B200, those that differ in microbatches only as one row."""
    groups: dict[tuple[Any, ...], list[Any]] = {}
    for run in b200_runs():
        plan, model = run.scenario.plan, run.scenario.model
        said = allocated_peak_bytes(run.scenario)
        key = (
            model.name,
            model.num_hidden_layers,
            run.scenario.workload.sequence_length,
            plan.tensor_parallel_size,
            plan.pipeline_parallel_size,
            plan.context_parallel_size,
            plan.expert_parallel_size,
            run.peak_bytes,
            said,
        )
        groups.setdefault(key, []).append(run)
    rows = [
        [
            f"{name}, {layers} layers",
            f"{length:,}",
            str(tensor),
            str(pipeline),
            str(context),
            str(expert),
            str(len(members)),
            format_bytes(peak),
            format_bytes(said),
            _signed(said / peak - 1),
        ]
        for (
            (name, layers, length, tensor, pipeline, context, expert, peak, said),
            members,
        ) in groups.items()
    ]
    head = ["model", "tokens", "tp", "pp", "cp", "ep", "runs", "measured", "Shardwise", "error"]
    return markdown_table(head, rows)


def _score_row(score: Score) -> list[str]:
    return [
        score.group,
        str(score.scored),
        f"{score.within} ({100 * score.within // score.scored} %)",
        _signed(score.median_fraction),
        f"{_signed(score.worst_fraction)}, {score.worst_test}",
    ]


def golden_table() -> str:
    """Return how well Megatron-LM's tests are met, by accelerator and setting, and in all."""
    against = contradicted(golden_tests()[0])

    def agreed(test: Golden) -> str | None:
        return None if (test.test, test.environment) in against else "all that no other contradicts"

    def sight(test: Golden) -> str:
        return "all that were in sight" if test.seen else "all that were not in sight"

    rows = [
        _score_row(score)
        for group_of in (lambda test: ", ".join(test.group), sight, agreed, lambda _: "all")
        for score in scores(group_of)
    ]
    within = f"within {100 * WITHIN_FRACTION:.0f} %"
    return markdown_table(
        ["accelerator, cuBLAS, modules", "scored", within, "median", "worst"], rows
    )


def golden_rests_table() -> str:
    """Return what is left beside the terms on each accelerator, on the half that measures it."""
    tests, _ = golden_tests()
    rows = []
    for accelerator, rest in sorted(rests(tests).items()):
        members = [test.left_bytes for test in tests if test.fits and test.group[0] == accelerator]
        members.sort()
        tenth = len(members) // 10
        rows.append(
            [
                accelerator,
                str(len(members)),
                format_bytes(rest),
                f"{format_bytes(members[tenth])} to {format_bytes(members[-1 - tenth])}",
            ]
        )
    return markdown_table(["accelerator", "tests", "median", "eight of ten"], rows)


def golden_misses_table() -> str:
    """Return every scored test that is missed, worst first."""
    missed = [entry for entry in error_fractions() if abs(entry[1]) > WITHIN_FRACTION]
    rows = [
        [
            test.test,
            test.environment,
            format_bytes(test.logged_bytes),
            format_bytes(test.left_bytes),
            _signed(error),
        ]
        for test, error in sorted(missed, key=lambda entry: -abs(entry[1]))
    ]
    return markdown_table(["test", "environment", "logged", "beside the terms", "error"], rows)


def golden_left_out_table() -> str:
    """Return why tests of Megatron-LM are left out, and how many."""
    _, left_out = golden_tests()
    rows = sorted(left_out.items(), key=lambda entry: -entry[1])
    return markdown_table(["left out", "tests"], [[reason, str(count)] for reason, count in rows])


TABLES: Mapping[str, Any] = {
    "published memory": sources_table,
    "memory of runs on B200": b200_table,
    "memory of Megatron-LM's tests": golden_table,
    "rest of Megatron-LM's tests": golden_rests_table,
    "missed tests of Megatron-LM": golden_misses_table,
    "tests left out": golden_left_out_table,
}
"""The tables by the name under which a page asks for them."""


def _printed(tables: Iterable[str]) -> str:
    return "\n\n".join(f"{name}\n\n{TABLES[name]()}" for name in tables)


if __name__ == "__main__":
    sys.stdout.write(_printed(TABLES) + "\n")
