"""From flags and files to a scenario."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from costmodels.errors import SpecError
from costmodels.scenario import Scenario, scenario_from_table, scenario_from_toml

PRESET_FLAGS = ("model", "cluster", "precision")
FIELD_FLAGS: Mapping[str, str] = {
    "tensor_parallel_size": "plan.tensor_parallel_size",
    "pipeline_parallel_size": "plan.pipeline_parallel_size",
    "data_parallel_size": "plan.data_parallel_size",
    "context_parallel_size": "plan.context_parallel_size",
    "expert_parallel_size": "plan.expert_parallel_size",
    "virtual_stages": "plan.virtual_stages",
    "layers_per_stage": "plan.layers_per_stage",
    "schedule": "plan.schedule",
    "micro_batch_size": "plan.micro_batch_size",
    "sequence_parallel": "plan.sequence_parallel",
    "zero_stage": "plan.zero_stage",
    "recompute": "plan.recompute",
    "attention_kernel": "plan.attention_kernel",
    "global_batch_size": "workload.global_batch_size",
    "sequence_length": "workload.sequence_length",
    "total_tokens": "workload.total_tokens",
    "optimizer": "workload.optimizer",
}
"""Field of the scenario that each flag sets."""


def read_scenario(
    file: Path | None, flags: Mapping[str, Any], settings: Sequence[str] = ()
) -> Scenario:
    """Return the scenario of a file, of flags, or of a file that flags change.

    Parameters
    ----------
    file : Path or None
        A scenario file, ``-`` for standard input.
    flags : mapping of str to object
        Value of each flag, None where it was not given.
    settings : sequence of str
        Further changes, ``plan.schedule=1f1b``.

    Raises
    ------
    SpecError
        If the file cannot be read or the scenario is wrong.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    for name, value in (*given.items(), *(("--set", setting) for setting in settings)):
        _refuse_broken_text(name, value)
    changes = {FIELD_FLAGS[name]: value for name, value in given.items() if name in FIELD_FLAGS}
    changes |= read_changes(settings)
    presets = {name: given[name] for name in PRESET_FLAGS if name in given}
    if file is None:
        return scenario_from_table({"workload": {}} | presets, changes)
    text = read_text(file)
    if presets:
        import tomllib

        try:
            table = tomllib.loads(text) | presets
        except (tomllib.TOMLDecodeError, RecursionError):
            table = None
        if table is not None:
            return scenario_from_table(table, changes)
    return scenario_from_toml(text, changes)


def _refuse_broken_text(name: str, value: object) -> None:
    """Raise where an argument came as bytes that are no UTF-8: it could not be printed again."""
    if isinstance(value, str) and not value.isprintable():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise SpecError(f"{name} ({value!r}): not a UTF-8 text") from None


def read_changes(settings: Sequence[str]) -> dict[str, str]:
    """Return the changes that ``field=value`` texts state.

    Raises
    ------
    SpecError
        If a text has no ``=``.
    """
    changes = {}
    for setting in settings:
        path, equals, value = setting.partition("=")
        if not equals or not path:
            raise SpecError(f"'{setting}': expected field=value, such as plan.schedule=1f1b")
        changes[path.strip()] = value.strip()
    return changes


def read_text(file: Path) -> str:
    """Return the text of a file, of standard input for ``-``.

    Raises
    ------
    SpecError
        If it cannot be read as text.
    """
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a UTF-8 text"
        raise SpecError(f"cannot read {file}: {reason}") from None


def write_text(file: Path, text: str) -> None:
    """Write a text to a file.

    Raises
    ------
    SpecError
        If it cannot be written.
    """
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SpecError(f"cannot write {file}: {error.strerror}") from None
