"""A model's weights in every number format: memory, accelerators, loading, speed, error."""

import math
import tomllib
from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib import resources
from types import MappingProxyType
from typing import Any

import msgspec

from costmodels.columns import ceil_div
from costmodels.errors import SpecError, not_found_message
from costmodels.model_tensors import Role, model_tensors
from costmodels.number_formats import layouts
from costmodels.number_formats.error import decibel, known_sqnr_db
from costmodels.number_formats.layouts import StoredFormat
from costmodels.number_formats.native import native_accelerators
from costmodels.number_formats.propagation import noise_share
from costmodels.presets import preset_names, preset_table
from costmodels.quantities import Basis, Source
from costmodels.scenario import Scenario, scenario_hash
from costmodels.specs.cluster import Accelerator
from costmodels.specs.tables import build
from costmodels.units import parse_quantity
from costmodels.version import VERSION
from costmodels.weight_storage import (
    StoredTensor,
    WeightRecipe,
    bits_per_weight,
    bytes_by_role,
    stored_tensors,
    weight_recipe,
    weight_recipes,
)
from simulator.answer import SCHEMA_VERSION

_MATRICES = (Role.ATTENTION, Role.FFN, Role.EXPERTS)
_BLOCK_SCALES = MappingProxyType({"power-of-two": "mx", "nvfp4": "nvfp4"})


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """How many of an accelerator hold the weights.

    Attributes
    ----------
    accelerator : str
        Preset, or the label of the scenario's own.
    count : int
        Smallest number whose memory, less context and allocator reserve, holds the weights [count].
    """

    accelerator: str
    count: int


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """The weights in one storage.

    Attributes
    ----------
    name, description, source : str
        Of the recipe, or of the format.
    weights_bytes : int
        All tensors [byte].
    role_bytes : dict of str to int
        Bytes by what they are for [byte].
    bits_per_weight : float
        Over all weights of the model [bit].
    formats : tuple of str
        Formats that occur.
    holders : tuple of Holder
        Smallest number of each accelerator.
    storage_load_s : float
        Reading from storage once [s].
    pcie_load_s : float
        Copying to the fewest of the scenario's accelerators, each over its own link [s].
    multiplies : str
        Peak that products of the layers' matrices use on the scenario's accelerator.
    flop_multiple : float
        That peak over the 16-bit peak [ratio].
    read_multiple : float
        How much sooner the weights are read than in 16 bit: 16 over bits per weight [ratio].
    remark : str
        Why products are not in the stored format, empty where they are.
    sqnr_db : float or None
        Expected ratio of signal to noise of the layers' matrices; None where nobody knows [dB].
    error_basis : str
        ``exact``, ``measured`` or ``unknown``.
    """

    name: str
    description: str
    source: str
    weights_bytes: int
    role_bytes: dict[str, int]
    bits_per_weight: float
    formats: tuple[str, ...]
    holders: tuple[Holder, ...]
    storage_load_s: float
    pcie_load_s: float
    multiplies: str
    flop_multiple: float
    read_multiple: float
    remark: str
    sqnr_db: float | None
    error_basis: str

    def count_of(self, accelerator: str) -> int:
        """Return the smallest number of an accelerator."""
        return next(each.count for each in self.holders if each.accelerator == accelerator)


class FormatComparison(msgspec.Struct, frozen=True, kw_only=True):
    """A model's weights in some storages.

    Attributes
    ----------
    schema_version, shardwise_version, scenario_hash
        As of an `Answer`.
    model, accelerator : str
        Labels.
    weights : int
        Weights of the model [count].
    distribution : str
        Distribution for which the error is expected.
    storage_bytes_per_s, pcie_bytes_per_s : float
        How fast weights come [byte/s].
    sources : dict of str to Source
        Where these two come from.
    storages : tuple of Stored
        The largest first.
    """

    schema_version: int
    shardwise_version: str
    scenario_hash: str
    model: str
    accelerator: str
    weights: int
    distribution: str
    storage_bytes_per_s: float
    pcie_bytes_per_s: float
    sources: dict[str, Source]
    storages: tuple[Stored, ...]


def compare_formats(
    scenario: Scenario,
    names: Iterable[str] = (),
    *,
    own: Mapping[str, StoredFormat] = MappingProxyType({}),
    distribution: str = "gaussian",
    storage_bytes_per_s: float | None = None,
    pcie_bytes_per_s: float | None = None,
) -> FormatComparison:
    """Return the weights of a scenario's model in some storages, or in all recipes.

    Parameters
    ----------
    scenario : Scenario
        Model and accelerator; its plan and workload play no part.
    names : iterable of str
        Recipes or formats; none for every recipe and format of the user.
    own : mapping of str to StoredFormat
        Further formats of the user.
    distribution : str
        gaussian, laplace or uniform: for which the error is expected.
    storage_bytes_per_s, pcie_bytes_per_s : float or None
        How fast weights come; None for the stated default [byte/s].

    Raises
    ------
    SpecError
        If a name is unknown, or an accelerator cannot hold anything.
    """
    chosen = tuple(names) or (*weight_recipes(), *own)
    rates = _rates(storage_bytes_per_s, pcie_bytes_per_s)
    holders = accelerators(scenario)
    stored = [
        _stored(scenario, weight_recipe(name, own), own, holders, rates, distribution)
        for name in dict.fromkeys(chosen)
    ]
    weights = sum(entry.elements_count for entry in model_tensors(scenario.model))
    return FormatComparison(
        schema_version=SCHEMA_VERSION,
        shardwise_version=VERSION,
        scenario_hash=scenario_hash(scenario),
        model=scenario.model.name,
        accelerator=scenario.cluster.accelerator.name,
        weights=weights,
        distribution=distribution,
        storage_bytes_per_s=rates["storage_bytes_per_s"][0],
        pcie_bytes_per_s=rates["pcie_bytes_per_s"][0],
        sources={name: source for name, (_, source) in rates.items()},
        storages=tuple(sorted(stored, key=lambda entry: -entry.weights_bytes)),
    )


def _rates(storage: float | None, pcie: float | None) -> dict[str, tuple[float, Source]]:
    """Return how fast weights come, and where that comes from."""
    tables = _data("loading.toml")
    found = {}
    for name, given in (("storage_bytes_per_s", storage), ("pcie_bytes_per_s", pcie)):
        table = tables[name]
        if given is None:
            value = float(parse_quantity(table["value"], "bytes_per_s"))
            source = Source(basis=Basis(table["basis"]), source=table["source"])
        else:
            value, source = given, Source(basis=Basis.ASSUMED, source="stated by the user")
        if not 0 < value < math.inf:
            raise SpecError(f"{name} ({value:g}): must be above 0")
        found[name] = (value, source)
    return found


@lru_cache(maxsize=4)
def _data(name: str) -> Mapping[str, Any]:
    file = resources.files(layouts.__package__) / "data" / name
    return MappingProxyType(tomllib.loads(file.read_text(encoding="utf-8")))


@lru_cache(maxsize=1)
def _presets() -> Mapping[str, Accelerator]:
    return MappingProxyType(
        {
            name: build(Accelerator, preset_table("accelerator", name), "accelerator")
            for name in preset_names("accelerator")
        }
    )


def accelerators(scenario: Scenario) -> Mapping[str, Accelerator]:
    """Return every accelerator by its preset, and the scenario's own where it is none.

    Parameters
    ----------
    scenario : Scenario
        Whose accelerator is meant.
    """
    found = dict(_presets())
    found.setdefault(own_accelerator(scenario), scenario.cluster.accelerator)
    return found


def own_accelerator(scenario: Scenario) -> str:
    """Return the preset of the scenario's accelerator, its label where it is changed or unknown."""
    own = scenario.cluster.accelerator
    for name, preset in _presets().items():
        if msgspec.structs.replace(preset, sources={}) == msgspec.structs.replace(own, sources={}):
            return name
    return own.name


def usable_bytes(accelerator: Accelerator) -> int:
    """Return the memory that weights can take: less the context and the allocator's reserve [byte].

    Parameters
    ----------
    accelerator : Accelerator
        Which.
    """
    return (
        accelerator.memory_bytes - accelerator.context_bytes - accelerator.allocator_reserve_bytes
    )


def _stored(
    scenario: Scenario,
    recipe: WeightRecipe,
    own: Mapping[str, StoredFormat],
    holders: Mapping[str, Accelerator],
    rates: Mapping[str, tuple[float, Source]],
    distribution: str,
) -> Stored:
    tensors = stored_tensors(scenario.model, recipe, own)
    size = sum(entry.stored_bytes for entry in tensors)
    counts = tuple(
        Holder(accelerator=name, count=int(ceil_div(size, usable_bytes(entry))))
        for name, entry in holders.items()
        if usable_bytes(entry) > 0
    )
    mine = own_accelerator(scenario)
    count = next((each.count for each in counts if each.accelerator == mine), None)
    if count is None:
        raise SpecError(
            f"cluster.accelerator ({scenario.cluster.accelerator.name}): context_bytes and "
            "allocator_reserve_bytes leave no memory for weights"
        )
    error = _error(tensors, distribution)
    bits = bits_per_weight(tensors)
    peak, multiple, remark = _products(tensors, scenario.cluster.accelerator, mine)
    return Stored(
        name=recipe.name,
        description=recipe.description,
        source=recipe.source,
        weights_bytes=size,
        role_bytes={role.value: size for role, size in bytes_by_role(tensors).items() if size},
        bits_per_weight=bits,
        formats=tuple(sorted({entry.stored.name for entry in tensors})),
        holders=counts,
        storage_load_s=size / rates["storage_bytes_per_s"][0],
        pcie_load_s=size / count / rates["pcie_bytes_per_s"][0],
        multiplies=peak,
        flop_multiple=multiple,
        read_multiple=16 / bits,
        remark=remark,
        sqnr_db=error[0],
        error_basis=error[1],
    )


def _error(tensors: tuple[StoredTensor, ...], distribution: str) -> tuple[float | None, str]:
    """Return the ratio of the layers' matrices, all of the same spread, and its basis."""
    noise = weights = 0.0
    basis = "exact"
    for entry in tensors:
        if entry.tensor.role not in _MATRICES:
            continue
        known = known_sqnr_db(entry.stored, distribution, entry.tensor.rows, entry.tensor.columns)
        if known.sqnr_db is None:
            return None, "unknown"
        if known.basis != "exact":
            basis = known.basis
        noise += entry.tensor.elements_count * noise_share(known.sqnr_db)
        weights += entry.tensor.elements_count
    return decibel(noise / weights), basis


def _products(
    tensors: tuple[StoredTensor, ...], accelerator: Accelerator, preset: str
) -> tuple[str, float, str]:
    """Return the peak of products with most of the matrices, over 16 bit, and why not a higher one."""
    sizes: dict[str, int] = {}
    formats: dict[str, StoredFormat] = {}
    for entry in tensors:
        if entry.tensor.role in _MATRICES:
            sizes[entry.stored.name] = sizes.get(entry.stored.name, 0) + entry.tensor.elements_count
            formats[entry.stored.name] = entry.stored
    stored = formats[max(sizes, key=lambda name: sizes[name])]
    peaks = accelerator.peak_flop_per_s
    sixteen = "bf16" if "bf16" in peaks else "fp16"
    if sixteen not in peaks:
        sixteen = next(iter(peaks))
    if stored.multiplies is None:
        return sixteen, 1.0, "weights are widened to 16 bit: only reading them is faster"
    if stored.multiplies not in peaks:
        return sixteen, 1.0, f"no unit for {stored.multiplies}: widened to 16 bit"
    needed = _BLOCK_SCALES.get(stored.scaling)
    if needed and preset not in native_accelerators(needed):
        return sixteen, 1.0, f"no unit for scales of {stored.name}: widened to 16 bit"
    if stored.multiplies == "fp8" and preset in native_accelerators("fnuz"):
        multiple = peaks["fp8"] / peaks[sixteen]
        return "fp8", multiple, "units take FNUZ numbers only: weights are converted once"
    return stored.multiplies, peaks[stored.multiplies] / peaks[sixteen], ""


def checked_accelerators(names: Iterable[str], scenario: Scenario) -> tuple[str, ...]:
    """Return names of accelerators that there are.

    Parameters
    ----------
    names : iterable of str
        Presets; none for a few that are common, the scenario's own first.
    scenario : Scenario
        Whose accelerator is meant.

    Raises
    ------
    SpecError
        If there is no such accelerator.
    """
    known = accelerators(scenario)
    wanted = tuple(names) or _COMMON
    for name in wanted:
        if name not in known:
            raise SpecError(not_found_message(what="accelerator", name=name, known=known))
    return tuple(dict.fromkeys((own_accelerator(scenario), *wanted)))


_COMMON = ("rtx-4090", "a100-80gb-sxm", "h100-sxm", "h200-sxm", "b200-sxm", "mi300x")
