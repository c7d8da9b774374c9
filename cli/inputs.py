"""From flags and files to a scenario."""

import shlex
import sys
import tomllib
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from costmodels.errors import SpecError, UnitError
from costmodels.huggingface.importing import Imported, import_config
from costmodels.pipelining.given_orders import GivenOrder, given_order
from costmodels.presets import model_preset, preset_names
from costmodels.scenario import Scenario, scenario_from_table, table_from_toml
from costmodels.specs.model import Model
from costmodels.specs.tables import merged, to_table
from costmodels.units import parse_quantity, unit_of_field

PRESET_FLAGS = ("model", "cluster", "plan", "precision")
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
    "saved_tensors": "plan.saved_tensors",
    "global_batch_size": "workload.global_batch_size",
    "sequence_length": "workload.sequence_length",
    "total_tokens": "workload.total_tokens",
    "optimizer": "workload.optimizer",
}
"""Field of the scenario that each flag sets."""


def read_scenario(
    file: Path | None,
    flags: Mapping[str, Any],
    settings: Sequence[str] = (),
    *,
    strict: bool = False,
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
    strict : bool
        Whether an unknown key of a model's ``config.json`` is an error.

    Raises
    ------
    SpecError
        If the file cannot be read or the scenario is wrong.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    for name, value in (*given.items(), *(("--set", setting) for setting in settings)):
        _refuse_broken_text(name, value)
    flagged = [(FIELD_FLAGS[name], value) for name, value in given.items() if name in FIELD_FLAGS]
    flagged += [(name, given[name]) for name in PRESET_FLAGS if name in given]
    changes = _agreed([*flagged, *map(_change, settings)])
    if file is None:
        return scenario_of_text("workload = {}", Path(), changes, strict=strict)
    folder = Path() if str(file) == "-" else file.parent
    return scenario_of_text(
        read_text(file), folder, changes, strict=strict, name=f"scenario ({file})"
    )


def states_scenario(
    file: Path | None, flags: Mapping[str, Any], settings: Sequence[str] | None
) -> bool:
    """Return whether a command was given a scenario: a file, a flag of one of its fields, or a change."""
    named = (*FIELD_FLAGS, *PRESET_FLAGS)
    return bool(file or settings) or any(flags.get(name) is not None for name in named)


def scenario_of_text(
    text: str,
    folder: Path,
    changes: Mapping[str, Any] | None = None,
    *,
    strict: bool = False,
    name: str = "scenario",
) -> Scenario:
    """Return the scenario of a TOML text, a model that names a file read.

    Parameters
    ----------
    text : str
        The scenario.
    folder : Path
        Where a relative path of the text starts; one of a change starts here.
    changes : mapping of str to object, optional
        Values by path.
    strict : bool
        Whether an unknown key of a model's file is an error.
    name : str
        What an error calls the text where it is no TOML.

    Raises
    ------
    SpecError
        If the scenario or the file is wrong.
    """
    table, changed = table_from_toml(text, name), dict(changes or {})
    if "model" in changed:
        table.pop("model", None)
    stated = "precision" in table or "precision" in changed
    table = with_cluster_file(table, folder)
    table = with_imported_model(table, folder, strict=strict, keep_recipe=stated)
    changed = with_cluster_file(changed, Path())
    changed = with_imported_model(changed, Path(), strict=strict, keep_recipe=stated)
    return scenario_from_table(table, changed)


def named_model(name: str, *, strict: bool = False) -> Model:
    """Return the model of a preset, or of a file.

    Raises
    ------
    SpecError
        If the file is wrong.
    PresetNotFoundError
        If there is no such preset.
    """
    if names_file(name):
        return import_file(Path(name), strict=strict).model
    return model_preset(name)


def with_imported_model(
    sections: Mapping[str, Any], folder: Path, *, strict: bool = False, keep_recipe: bool = False
) -> dict[str, Any]:
    """Return sections in which a model that names a file is what the file describes.

    Parameters
    ----------
    sections : mapping
        Sections of a scenario, or changes of whole sections.
    folder : Path
        Where a relative path starts.
    strict : bool
        Whether an unknown key of the file is an error.
    keep_recipe : bool
        Whether a precision recipe is stated elsewhere, so that a quantized file's is not used.
    """
    found = dict(sections)
    entry = found.get("model")
    changes = {}
    if isinstance(entry, dict):
        changes = {key: value for key, value in entry.items() if key != "preset"}
        entry = entry.get("preset")
    if not isinstance(entry, str) or not names_file(entry, folder):
        return found
    imported = import_file(folder / entry, strict=strict)
    table = to_table(imported.model)
    keep = keep_recipe or "precision" in found
    if imported.precision is not None and keep:
        table["notes"] = [
            *table.get("notes", []),
            f"the quantization section of {_shown(entry)} is not used: a precision is stated",
        ]
    elif imported.precision is not None:
        found["precision"] = to_table(imported.precision)
    return found | {"model": merged(table, changes)}


def with_cluster_file(sections: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return sections in which a cluster that names a file is what the file states.

    Parameters
    ----------
    sections : mapping
        Sections of a scenario, or changes of whole sections; a cluster may be ``FILE.toml:N``, or a
        table with the key ``preset`` that names a file, and what differs.
    folder : Path
        Where a relative path starts.

    Raises
    ------
    SpecError
        If the file cannot be read, or is no table.
    """
    found = dict(sections)
    entry = found.get("cluster")
    changes: dict[str, Any] = {}
    if isinstance(entry, dict):
        changes = {key: value for key, value in entry.items() if key != "preset"}
        entry = entry.get("preset")
    if not isinstance(entry, str):
        return found
    name, _, count = entry.rpartition(":") if not entry.endswith(_TOML) else (entry, "", "")
    if not name.endswith(_TOML):
        return found
    table = cluster_of_text(read_text(folder / name), where=_shown(name))
    if count:
        table["accelerator_count"] = count
    return found | {"cluster": merged(table, changes)}


_TOML = ".toml"


def cluster_of_text(text: str, *, where: str) -> dict[str, Any]:
    """Return the table of a cluster's file, such as ``shardwise calibrate`` writes.

    Raises
    ------
    SpecError
        If the text is no TOML.
    """
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise SpecError(f"cluster ({where}): not a valid TOML file: {error}") from None


def names_file(model: str, folder: Path = Path()) -> bool:
    """Return whether a model is named by a file, not by a preset; paths start at a folder."""
    return model not in preset_names("model") and (
        model.endswith(".json") or "/" in model or (folder / model / CONFIG).is_file()
    )


def import_file(path: Path, *, name: str | None = None, strict: bool = False) -> Imported:
    """Return the model of a `config.json`, or of a folder that holds one.

    Parameters
    ----------
    path : Path
        File or folder.
    name : str, optional
        Label of the model; left out, the name of the file, or of the folder of a `config.json`.
    strict : bool
        Whether an unknown key is an error.

    Raises
    ------
    SpecError
        If the file cannot be read, or describes no model that is known.
    """
    file = path / CONFIG if path.is_dir() else path
    label = file.resolve().parent.name if file.name == CONFIG else file.stem
    text = read_text(file)
    return import_config(
        text, name=name or _shown(label) or "model", where=_shown(file.name), strict=strict
    )


CONFIG = "config.json"


def _shown(text: str) -> str:
    """Return a name of a file as it can be printed and kept."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)[:100]


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
        If a text has no ``=``, or two give a field different values.
    """
    return _agreed([_change(setting) for setting in settings])


def read_case(text: str, *, strict: bool = False) -> tuple[dict[str, str], dict[str, Any]]:
    """Return the changes of one case as stated, and with models that name files read.

    The text is split as a shell would: a value with spaces is quoted.

    Parameters
    ----------
    text : str
        ``field=value`` texts.
    strict : bool
        Whether an unknown key of a model's ``config.json`` is an error.

    Raises
    ------
    SpecError
        If the case is empty, ends inside quotes, or states no changes.
    """
    _refuse_broken_text("--case", text)
    try:
        words = shlex.split(text)
    except ValueError:
        raise SpecError(f"case '{text}': a quotation mark is not closed") from None
    if not words:
        raise SpecError(f"case '{text}': is empty; expected field=value, such as plan.zero_stage=1")
    try:
        changes = read_changes(words)
        # What a case does not change is that of the scenario, its precision recipe included.
        read = with_imported_model(changes, Path(), strict=strict, keep_recipe=True)
    except SpecError as error:
        raise SpecError(f"case '{text}': {error}") from None
    return changes, read


def _change(setting: str) -> tuple[str, str]:
    path, equals, value = setting.partition("=")
    if not equals or not path.strip():
        raise SpecError(f"'{setting}': expected field=value, such as plan.schedule=1f1b")
    return path.strip(), value.strip()


def _agreed(changes: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return changes by field, refusing two values of one."""
    agreed: dict[str, Any] = {}
    for path, value in changes:
        if path in agreed and _read(path, agreed[path]) != _read(path, value):
            raise SpecError(f"{path}: is given twice, as '{agreed[path]}' and as '{value}'")
        agreed[path] = value
    count = str(agreed.get("cluster", "")).partition(":")[2].strip()
    stated = agreed.get(_COUNT, count)
    if count and _read(_COUNT, count) != _read(_COUNT, stated):
        raise SpecError(f"{_COUNT}: is given twice, as '{agreed['cluster']}' and as '{stated}'")
    return agreed


_COUNT = "cluster.accelerator_count"


def _read(path: str, value: Any) -> Any:
    """Return a value so that two ways to write it are equal: 8k and 8192, true and yes."""
    text = str(value).strip()
    try:
        return parse_quantity(text, unit_of_field(path.rpartition(".")[2]))
    except UnitError:
        return {"yes": "true", "on": "true", "no": "false", "off": "false"}.get(
            text.lower(), text.lower()
        )


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


def read_order(file: Path | None) -> GivenOrder | None:
    """Return the order of a file, None where there is none.

    Raises
    ------
    SpecError
        If it cannot be read, or cannot be played.
    """
    if file is None:
        return None
    try:
        return given_order(read_text(file), name=_shown(file.name))
    except SpecError as error:
        raise SpecError(f"--order ({file}): {error}") from None


def one_question(largest: str | None, smallest: str | None) -> tuple[str, str] | None:
    """Return the sense and the name of an inverse question, None where none is asked.

    Raises
    ------
    SpecError
        If two are asked at once.
    """
    asked = [
        (sense, name) for sense, name in (("largest", largest), ("smallest", smallest)) if name
    ]
    if len(asked) > 1:
        raise SpecError(
            f"--largest {largest} --smallest {smallest}: ask one question at a time; all other "
            "fields stay as they are"
        )
    return asked[0] if asked else None


def check_figure(option: str, file: Path | None) -> None:
    """Raise where a figure is asked for that cannot be drawn, before anything is computed.

    Raises
    ------
    SpecError
        If the file's name does not end in ``.html``, or plotly is not installed.
    """
    if file is None:
        return
    if file.suffix.lower() != ".html":
        raise SpecError(f"{option} ({file}): figures are pages, so the name must end in .html")
    if find_spec("plotly") is None:
        raise SpecError(
            f"{option} ({file}): figures need plotly, of the extra 'dashboard': pip install plotly"
        )


def check_drawing(option: str, file: Path | None) -> None:
    """Raise where a drawing is asked for that cannot be made; an SVG needs nothing installed.

    Raises
    ------
    SpecError
        If the file's name ends neither in ``.svg`` nor in ``.html``, or the latter needs plotly.
    """
    if file is None or file.suffix.lower() == ".svg":
        return
    if file.suffix.lower() != ".html":
        raise SpecError(f"{option} ({file}): the name must end in .html or .svg")
    check_figure(option, file)


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
