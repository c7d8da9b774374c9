"""A scenario: model, cluster, plan, precision and workload, as one file that people share."""

import hashlib
import tomllib
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import msgspec

from costmodels import rules
from costmodels.errors import SpecError, UnitError, not_found_message
from costmodels.leaves import SECTIONS
from costmodels.presets import FOLDERS, preset_table, with_accelerator
from costmodels.specs.base import Spec, field_types, plain_type
from costmodels.specs.cluster import Cluster
from costmodels.specs.model import Model
from costmodels.specs.plan import Plan
from costmodels.specs.precision import Precision
from costmodels.specs.tables import Table, build, is_sourced_value, merged, to_table
from costmodels.specs.workload import Workload
from costmodels.units import parse_quantity

DEFAULT_PRECISION = "bf16-mixed"
_TOKENS = "-tokens"


class Scenario(Spec, frozen=True, kw_only=True):
    """Everything that an answer depends on.

    Attributes
    ----------
    model : Model
        What is trained.
    cluster : Cluster
        On what.
    plan : Plan
        How it is spread.
    precision : Precision
        In which number formats.
    workload : Workload
        How much of it.

    Raises
    ------
    SpecError
        If the descriptions do not go together.
    """

    section: ClassVar[str] = "scenario"

    model: Model
    cluster: Cluster
    plan: Plan
    precision: Precision
    workload: Workload

    def __post_init__(self) -> None:
        """Check the descriptions against each other."""
        super().__post_init__()
        rules.check(self)


def scenario_from_table(
    table: Mapping[str, Any], changes: Mapping[str, Any] | None = None
) -> Scenario:
    """Return the scenario that a table states, some of its fields changed.

    Parameters
    ----------
    table : mapping
        A table for each section. Model, cluster and precision may be the name of a preset, or a
        table with the key ``preset`` and the fields that differ; a cluster's name may carry its
        number of accelerators, ``h100-sxm:16384``. So may the accelerator of a cluster.
    changes : mapping of str to object, optional
        Values by path, such as ``plan.tensor_parallel_size``; text is read as on the command line.
        A section that has presets may be changed as a whole, ``cluster`` to ``h100-sxm:64``, and so
        may ``cluster.accelerator``; changes of its fields apply after that.

    Raises
    ------
    SpecError
        If a section or field is unknown, missing or wrong.
    PresetNotFoundError
        If a preset has no such name.
    """
    return Scenario(**sections_from_table(table, changes)._asdict())


class StatedSections(NamedTuple):
    """The five descriptions of a scenario, each valid, not yet checked against each other."""

    model: Model
    cluster: Cluster
    plan: Plan
    precision: Precision
    workload: Workload


def sections_from_table(
    table: Mapping[str, Any], changes: Mapping[str, Any] | None = None
) -> StatedSections:
    """Return the descriptions that a table states (parameters and errors as of a scenario)."""
    for key in table:
        if key not in SECTIONS:
            raise SpecError(
                not_found_message(what="section of a scenario", name=str(key)[:60], known=SECTIONS)
            )
    changed = dict(changes or {})
    presets = {name: changed.pop(name) for name in FOLDERS if name in changed}
    sections = {"precision": DEFAULT_PRECISION, "plan": {}} | dict(table) | presets
    for name in SECTIONS:
        if name not in sections:
            raise SpecError(
                f"{name}: is missing; a scenario needs the sections {', '.join(SECTIONS)}"
            )
    expanded = {name: _expanded(name, entry) for name, entry in sections.items()}
    # A description as a whole before its fields, in whatever order they are given.
    for path in sorted(changed, key=lambda path: str(path).count(".")):
        _set(expanded, path, changed[path])
    _refuse_uncounted(sections["cluster"], expanded["cluster"])
    _read_token_batch(expanded["workload"])
    return StatedSections(
        model=build(Model, expanded["model"], "model"),
        cluster=build(Cluster, expanded["cluster"], "cluster"),
        plan=build(Plan, expanded["plan"], "plan"),
        precision=build(Precision, expanded["precision"], "precision"),
        workload=build(Workload, expanded["workload"], "workload"),
    )


def scenario_from_toml(text: str, changes: Mapping[str, Any] | None = None) -> Scenario:
    """Return the scenario that a TOML text states, some of its fields changed.

    Raises
    ------
    SpecError
        If the text is no TOML, or the scenario is wrong (see `scenario_from_table`).
    """
    return scenario_from_table(table_from_toml(text), changes)


def table_from_toml(text: str, name: str = "scenario") -> Table:
    """Return the table that a TOML text states, not yet checked.

    Parameters
    ----------
    text : str
        The text.
    name : str
        What an error calls it.

    Raises
    ------
    SpecError
        If the text is no TOML.
    """
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise SpecError(f"{name}: not a valid TOML file: {error}") from None


def scenario_to_table(scenario: Scenario) -> Table:
    """Return the table that states a scenario in full, presets written out."""
    return to_table(scenario)


def scenario_to_toml(scenario: Scenario) -> str:
    """Return the TOML text that states a scenario in full, presets written out."""
    import tomli_w

    return tomli_w.dumps(to_table(scenario))


def scenario_hash(scenario: Scenario) -> str:
    """Return the SHA-256 of a scenario's canonical JSON: equal for equal inputs.

    Replicas that are stated are those that would be derived, so they are left out.
    """
    table = to_table(scenario)
    table["plan"].pop("data_parallel_size", None)
    canonical = msgspec.json.encode(table, order="sorted")
    return hashlib.sha256(canonical).hexdigest()


def _expanded(section: str, entry: Any) -> Table:
    """Return a section's table with its preset, if it names one, filled in."""
    if section not in FOLDERS:
        return dict(entry) if isinstance(entry, dict) else _refused(section, entry)
    changes: Table = {}
    if isinstance(entry, dict):
        changes = {key: value for key, value in entry.items() if key != "preset"}
        if "preset" not in entry:
            return _with_accelerator(section, changes)
        entry = entry["preset"]
    if not isinstance(entry, str):
        return _refused(section, entry)
    name, _, count = entry.partition(":") if section == "cluster" else (entry, "", "")
    table = preset_table(section, name)
    if count:
        table["accelerator_count"] = _count(count)
    expanded = _with_accelerator(section, changes)
    if "accelerator" in changes and expanded is not changes:
        # Another accelerator as a whole: nothing of the one that it replaces stays.
        table = {key: value for key, value in table.items() if key != "accelerator"}
    return merged(table, expanded)


def _with_accelerator(section: str, table: Table) -> Table:
    """Return a cluster's table with the accelerator that it names, other tables as they are."""
    return with_accelerator(table) if section == "cluster" else table


def _refuse_uncounted(entry: object, cluster: Table) -> None:
    """Raise where a cluster's preset comes without a number of accelerators."""
    name = entry.get("preset") if isinstance(entry, dict) else entry
    if isinstance(name, str) and "accelerator_count" not in cluster:
        raise SpecError(
            "cluster.accelerator_count: is missing; write it after the preset's name, such as "
            f"{name.rstrip(':')}:64"
        )


def _refused(section: str, entry: object) -> Table:
    raise SpecError(f"{section} ({str(entry)[:60]!r}): expected a table of fields")


def _count(text: str) -> int | float:
    try:
        return parse_quantity(text, "count")
    except UnitError as error:
        raise SpecError(f"cluster.accelerator_count: {error}") from None


def _set(table: Table, path: str, value: Any) -> None:
    """Set a field by its path, naming the nearest where there is none."""
    section, _, rest = path.partition(".")
    if section not in SECTIONS or not rest:
        raise SpecError(not_found_message(what="field", name=path[:80], known=field_paths()))
    kind: Any = SECTIONS[section]
    here = table[section]
    parts = rest.split(".")
    for depth, part in enumerate(parts):
        is_description = isinstance(kind, type) and issubclass(kind, Spec)
        if is_description and part not in field_types(kind):
            raise SpecError(not_found_message(what="field", name=path[:80], known=field_paths()))
        kind = plain_type(field_types(kind)[part]) if is_description else kind
        if depth == len(parts) - 1:
            here[part] = value
            table[section] = _with_accelerator(section, table[section])
            return
        nested = here.get(part)
        if nested is not None and not isinstance(nested, dict):
            raise SpecError(not_found_message(what="field", name=path[:80], known=field_paths()))
        here[part] = {} if nested is None or is_sourced_value(nested) else dict(nested)
        here = here[part]


def field_paths() -> tuple[str, ...]:
    """Return the path of every field of a scenario."""

    def of(description: type[Spec], path: str) -> list[str]:
        found = []
        for name, declared in field_types(description).items():
            kind = plain_type(declared)
            if isinstance(kind, type) and issubclass(kind, Spec):
                found.extend(of(kind, f"{path}.{name}"))
            elif name != "sources":
                found.append(f"{path}.{name}")
        return found

    return tuple(path for section, kind in SECTIONS.items() for path in of(kind, section))


def _read_token_batch(workload: Table) -> None:
    """Turn a batch stated in tokens (``16M-tokens``) into sequences."""
    batch, length = workload.get("global_batch_size"), workload.get("sequence_length")
    if not isinstance(batch, str) or not batch.endswith(_TOKENS):
        return
    try:
        tokens = parse_quantity(batch.removesuffix(_TOKENS), "length")
        length = parse_quantity(length, "length") if isinstance(length, str) else length
    except UnitError as error:
        raise SpecError(f"workload.global_batch_size: {error}") from None
    if not isinstance(length, int) or isinstance(length, bool) or length < 1:
        raise SpecError("workload.sequence_length: is needed to read a batch stated in tokens")
    if not isinstance(tokens, int) or tokens % length:
        raise SpecError(
            f"workload.global_batch_size ({batch}): {tokens:,} tokens are no whole number of "
            f"sequences of {length:,} tokens"
        )
    workload["global_batch_size"] = tokens // length
