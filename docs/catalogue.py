"""The page of the catalogue: every preset, and where each of its values comes from."""

import tomllib
from collections.abc import Iterator

import msgspec

from cli.descriptions import Described, described, value_text
from cli.listings import Listing, listing
from costmodels.huggingface.families import FAMILIES
from costmodels.presets import preset_names, preset_table, preset_text
from docs.markdown import markdown_table

_GENERATED = "<!-- Written by `python -m docs.generate`; edit the data files instead. -->"
_FOLDER = "../costmodels/presets/data"


def _listed(table: Listing, folder: str) -> str:
    rows = ((f"[`{row[0]}`]({_FOLDER}/{folder}/{row[0]}.toml)", *row[1:]) for row in table.rows)
    return markdown_table(table.columns, rows)


def _model_sources() -> Iterator[tuple[str, str, str]]:
    for name in preset_names("model"):
        found = described("model", name)
        own = "; ".join(f"{each.field}: {each.source}" for each in found.fields if each.basis)
        yield (
            f"`{name}`",
            found.source or "",
            "; ".join([*found.notes, own] if own else found.notes),
        )


def _values(found: Described) -> Iterator[tuple[str, str, str, str]]:
    for each in found.fields:
        if each.basis:
            yield f"`{each.field}`", value_text(each), each.basis, each.source or ""


def _own(name: str, base: str | None) -> Described:
    """Return a cluster's values beside its accelerator's that it does not share with its base."""
    found = described("cluster", name)
    shared = described("cluster", base).fields if base else []
    kept = [
        each
        for each in found.fields
        if not each.field.startswith("accelerator.") and each not in shared
    ]
    return msgspec.structs.replace(found, fields=kept)


def _sections(kind: str) -> Iterator[str]:
    for name in preset_names(kind):
        yield f"### {kind} {name}"
        found = described(kind, name)
        if kind == "cluster":
            base = tomllib.loads(preset_text("cluster", name)).get("preset")
            found = _own(name, base)
            accelerator = preset_table("cluster", name)["accelerator"]["name"]
            rest = f" What is not listed is that of [`{base}`](#cluster-{base})." if base else ""
            yield f"Accelerator: {accelerator}.{rest}"
        rows = list(_values(found))
        if rows:
            yield markdown_table(("field", "value", "basis", "source"), rows)


def page() -> str:
    """Return the page of all presets with their sources."""
    parts = [
        "# Catalogue",
        _GENERATED,
        (
            "What a scenario can name, and where every value comes from. A value has one of five "
            "[bases](nomenclature.md#basis-what-a-number-rests-on-from-the-strongest-to-the-weakest); "
            "`assumed` ones state their reasoning, and are the first to replace by your own. "
            "`shardwise show accelerator h100-sxm` prints one description, `shardwise list "
            "accelerators fp8` filters. A number without a source is not here: an accelerator that has "
            "no sourced peak for a format refuses a recipe that needs it."
        ),
        "## Models",
        (
            "Parameters are counted from the description, and compared with what transformers builds "
            "and with published totals in the [validation suite](accuracy.md). Active parameters "
            "include the embeddings. [Models](models.md) says which layouts of attention have work, "
            "memory and time; the others are counted, and refused by name in a scenario."
        ),
        _listed(listing("models"), "models"),
        "### Sources of models",
        markdown_table(
            ("model", "source of its values", "notes, and values with a source of their own"),
            _model_sources(),
        ),
        "## Families that can be imported",
        (
            "`--model path/to/config.json` and `shardwise import-model` read files of these "
            f"`model_type`s: {', '.join(f'`{name}`' for name in FAMILIES)}. See "
            "[models](models.md)."
        ),
        "## Accelerators",
        "Peaks are dense. Where a datasheet prints the sparse number, it is halved, and the source says so.",
        _listed(listing("accelerators"), "accelerators"),
        "## Clusters",
        "Bandwidths are those of one accelerator in one direction.",
        _listed(listing("clusters"), "clusters"),
        "## Plans of frameworks",
        "What each preset leaves out has its default. Sources are in the comments of the files.",
        _listed(listing("plans"), "plans"),
        "## Precision recipes",
        _listed(listing("precisions"), "precisions"),
        "## Sources of accelerators",
        *_sections("accelerator"),
        "## Sources of clusters",
        *_sections("cluster"),
    ]
    return "\n\n".join(parts) + "\n"
