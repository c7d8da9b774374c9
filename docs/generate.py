"""Everything in the documentation that a program can write: run ``python -m docs.generate``.

Two pages come from the catalogue whole. In the other pages and the README, what follows a command
or a piece of Python is its real output, put there by running it; and a table between
``<!-- table: NAME -->`` and ``<!-- end -->`` is computed, as one of the catalogue's formulas is
between ``<!-- formulas: NAME NAME -->`` and ``<!-- end -->``. ``--check`` writes nothing and names the
pages that are out of date; ``--quick`` leaves computed tables as they are.
"""

import contextlib
import io
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from cli.main import main as shardwise
from costmodels.analysis import CATALOGUE, MODULES, inputs_of
from costmodels.leaves import leaves
from costmodels.quantities import Basis, Quantity, Scope, quantities_of
from docs import catalogue, validation_record
from docs.markdown import markdown_table
from docs.measure_agreement import TABLES as AGREEMENT
from docs.measure_memory import TABLES as MEMORY
from docs.measure_rates import TABLES as RATES
from simulator.training import SIMULATED

TABLES: Mapping[str, Callable[[], str]] = {
    **AGREEMENT,
    **MEMORY,
    **RATES,
    "validation run": validation_record.run_table,
    "validation errors": validation_record.near_table,
    "validation failures": validation_record.failures_table,
}
"""The computed tables by the name under which a page asks for them."""

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

_SYMBOLS = {
    "tensor_parallel_size": "t",
    "pipeline_parallel_size": "p",
    "context_parallel_size": "cp",
    "virtual_stages": "v",
    "micro_batch_size": "b",
    "global_batch_size": "B",
    "sequence_length": "s",
    "hidden_size": "h",
    "intermediate_size": "f",
    "num_hidden_layers": "L",
    "num_attention_heads": "a",
    "num_key_value_heads": "k",
    "head_size": "e",
    "vocabulary_size": "V",
    "expert_count": "E",
    "experts_per_token": "k_E",
    "zero_stage": "z",
    "accelerator_count": "G",
    "stage_index": "i",
    "data_parallel_size": "d",
    "microbatch_count": "m",
    "mean_stage_s": "w",
    "slowest_stage_s": "w_max",
    "hop_s": "c",
    "mean_chunk_forward_s": "f_c",
    "mean_chunk_backward_s": "b_c",
}
"""Letters of the pages for names that carry none in the catalogue."""

_TERMS = {
    "stage": "The layers of one pipeline rank. With several chunks on a rank, all of them together.",
    "chunk, virtual stage": "A run of neighbouring layers that a pipeline rank computes in one go. "
    "A rank has v of them; chunk j of rank i is virtual stage j p + i of the model.",
    "class of stages": "Stages of one plan that are equal in layers, ends and microbatches in "
    "flight, and so in memory and time.",
    "kind of layer": "Layers of a model that share their layout of attention, and whether they have "
    "experts.",
    "replica": "All ranks that hold one copy of the model: t p ranks, one of d copies.",
    "microbatch": "The sequences that go through the pipeline together: b of them; a replica has m "
    "in a step.",
    "step": "From the first forward to updated weights.",
    "hop, hand-over": "An activation or its gradient sent from one pipeline rank to the next.",
    "bubble": "Time in which the pipeline fills and drains, with equal stages and free links.",
    "idle time": "All time in which a GPU waits while the pipeline runs: the bubble, waiting for "
    "slower stages, and waiting for hand-overs.",
    "exposed": "Time of communication that no computation hides.",
    "model FLOP, hardware FLOP": "What the model needs, and what is executed. One multiply-add is "
    "two FLOP.",
    "MFU, HFU": "Model and hardware FLOP per second over the dense peak.",
    "leaf": "An input of the closed forms: a field of the scenario, as a number.",
}

_BASES = {
    Basis.EXACT: "follows from the definition or from what the scenario states",
    Basis.MEASURED: "somebody measured it and published how",
    Basis.DATASHEET: "the vendor states it",
    Basis.FITTED: "chosen so that a formula meets measurements",
    Basis.ASSUMED: "a judgement, with its reasoning; or a value that came without a source",
}


def _published(entry: Quantity) -> str:
    return f"`{entry.group}.{entry.name}`" if entry.group else ""


def _symbol(name: str, stated: str = "") -> str:
    return stated or _SYMBOLS.get(name, "")


def _entries() -> list[Quantity]:
    return [*CATALOGUE.values(), *SIMULATED]


_GENERATED = "<!-- Written by `python -m docs.generate`; edit the catalogue instead. -->"


def nomenclature() -> str:
    """Return the page of terms, inputs and quantities."""
    inputs = [
        (
            f"`{name}`",
            _symbol(name),
            leaf.unit,
            f"`{leaf.path}`",
            " x ".join(leaf.axes),
            leaf.definition,
        )
        for name, leaf in leaves().items()
    ]
    quantities = [
        (
            f"[`{entry.name}`](quantities.md#{entry.name})",
            _symbol(entry.name, entry.symbol),
            entry.unit,
            entry.scope.value,
            _published(entry),
            entry.definition,
        )
        for entry in _entries()
    ]
    return (
        "\n\n".join(
            [
                "# Nomenclature",
                _GENERATED,
                (
                    "One term for each idea. A name that holds a number ends with its unit: `_bytes`, "
                    "`_flop`, `_s`, `_bytes_per_s`, `_flop_per_s`, `_w`, `_j`, `_usd`; without dimension "
                    "`_count`, `_size`, `_length`, `_fraction`. Inside the program there are no other "
                    "units; prefixes such as GiB and hours appear in files and on screens only."
                ),
                "## Terms",
                markdown_table(("term", "meaning"), _TERMS.items()),
                "## Basis: what a number rests on, from the strongest to the weakest",
                markdown_table(
                    ("basis", "meaning"), ((basis.value, _BASES[basis]) for basis in Basis)
                ),
                (
                    "The basis of an answer's number is the weakest that it reaches, its formulas and its "
                    "inputs taken together."
                ),
                "## Scope: what a quantity is counted over",
                markdown_table(("scope", "quantities"), _scopes()),
                "## Inputs",
                (
                    "Fields of a scenario as closed forms see them. A choice becomes one truth for each "
                    "member; a number format becomes its bytes."
                ),
                markdown_table(("name", "symbol", "unit", "field", "axes", "definition"), inputs),
                "## Quantities",
                "Formulas and sources are in [the catalogue](quantities.md).",
                markdown_table(
                    ("name", "symbol", "unit", "scope", "published as", "definition"), quantities
                ),
            ]
        )
        + "\n"
    )


def _scopes() -> Iterator[tuple[str, str]]:
    for scope in Scope:
        yield scope.value, str(sum(entry.scope is scope for entry in _entries()))


def quantities() -> str:
    """Return the page that states formula and source of every quantity."""
    parts = [
        "# Quantities",
        _GENERATED,
        (
            f"All {len(_entries())} quantities, in the order of derivation. The names in a formula are "
            "quantities of this page or [inputs](nomenclature.md#inputs). `total(x)` adds over the axis "
            "that the quantity itself does not have, from left to right; `largest(x)` and `first(x)` "
            "are over the same axis. `algorithm` stands where no single expression states it: the "
            "source says which. `shardwise explain SCENARIO.toml NAME` puts numbers in."
        ),
    ]
    homes, module = _homes(), ""
    for entry in _entries():
        home = homes.get(entry.name, "simulator.training")
        if home != module:
            module = home
            parts.append(f"## {module}")
        parts.append(_quantity(entry))
    return "\n\n".join(parts) + "\n"


def _homes() -> Mapping[str, str]:
    """Return for each quantity the module that defines it."""
    return {entry.name: module.__name__ for module in MODULES for entry in quantities_of(module)}


def _quantity(entry: Quantity) -> str:
    symbol = _symbol(entry.name, entry.symbol)
    facts = [
        f"symbol {symbol}" if symbol else "",
        f"unit {entry.unit}",
        entry.scope.value,
        f"for each {' and '.join(entry.axes)}" if entry.axes else "",
        f"basis of the formula: {entry.basis.value}",
        f"published as {_published(entry)}" if entry.group else "",
    ]
    lines = [
        f"### {entry.name}",
        "",
        entry.definition,
        "",
        "; ".join(fact for fact in facts if fact) + ".",
        "",
        "```text",
        *(_variant_formulas(entry) or [entry.formula]),
        "```",
        "",
    ]
    if entry.selector:
        lines += [f"One function for each {entry.selector}: {', '.join(entry.variants)}.", ""]
    if entry.name in CATALOGUE:
        needed = ", ".join(f"`{name}`" for name in inputs_of(entry.name))
        lines += [f"From: {needed}.", ""]
    return "\n".join([*lines, f"Source: {entry.source}."])


def _variant_formulas(entry: Quantity) -> list[str]:
    """Return a line for each formula of a quantity's variants, with the variants that share it."""
    names: dict[str, list[str]] = {}
    for option, formula in entry.formulas.items():
        names.setdefault(formula, []).append(option)
    return [f"{', '.join(options)}: {formula}" for formula, options in names.items()]


_CONSOLE = re.compile(
    r"^```console\n(?P<command>\$ (?:[^\n]*\\\n)*[^\n]*\n)(?P<output>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_PYTHON = re.compile(
    r"^```python\n(?P<code>.*?)^```$(?:\n\n```text\n(?P<output>.*?)^```$)?",
    re.MULTILINE | re.DOTALL,
)
_BLOCK = re.compile(
    rf"{_CONSOLE.pattern}|{_PYTHON.pattern.replace('output', 'printed')}", re.MULTILINE | re.DOTALL
)
_FORMULAS = re.compile(
    r"^(?P<start><!-- formulas: (?P<names>[^>]*?) -->)\n.*?^<!-- end -->$",
    re.MULTILINE | re.DOTALL,
)
_COMPUTED = re.compile(
    r"^<!-- table: (?P<name>.*?) -->\n.*?^<!-- end -->$", re.MULTILINE | re.DOTALL
)


def refreshed(text: str, *, tables: bool = True) -> str:
    """Return a page with the outputs of its commands and code as they are now.

    Parameters
    ----------
    text : str
        The page.
    tables : bool, optional
        Whether to compute the tables again, which takes some time.
    """
    names: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        text = _BLOCK.sub(lambda match: _run_block(match, names), text)
    text = _FORMULAS.sub(_formulas, text)
    if tables:
        text = _COMPUTED.sub(_computed, text)
    return text


def _formulas(match: re.Match[str]) -> str:
    entries = [CATALOGUE[name] for name in match["names"].split()]
    rows = [
        (
            f"[`{entry.name}`](quantities.md#{entry.name})",
            entry.definition,
            "; ".join(f"`{line}`" for line in _variant_formulas(entry) or [entry.formula]),
        )
        for entry in entries
    ]
    table = markdown_table(("quantity", "definition", "formula"), rows)
    return f"{match['start']}\n\n{table}\n\n<!-- end -->"


def _run_block(match: re.Match[str], names: dict[str, Any]) -> str:
    if match["command"]:
        output = run_command(match["command"].removeprefix("$ ").replace("\\\n", " "))
        return f"```console\n{match['command']}{output}```"
    code = f"```python\n{match['code']}```"
    printed = run_python(match["code"], names)
    if not printed:
        return code
    return f"{code}\n\n```text\n{printed}```"


def run_python(code: str, names: dict[str, Any]) -> str:
    """Return what a piece of Python prints; `names` are its globals, kept for the next one."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(code, names)  # noqa: S102 - the documentation's own examples
    return out.getvalue()


def run_command(command: str) -> str:
    """Return what a ``shardwise`` command prints, piped through ``grep -E`` or into a file.

    Raises
    ------
    ValueError
        If it is another command.
    """
    command, _, target = command.partition(" > ")
    command, *filters = command.split(" | ")
    program, *arguments = shlex.split(command)
    if program != "shardwise":
        raise ValueError(f"the documentation runs only shardwise, not {program!r}")
    lines = [line.rstrip() for line in _shardwise(arguments).splitlines()]
    for entry in filters:
        lines = _filtered(lines, shlex.split(entry))
    while lines and not lines[-1]:
        lines.pop()
    text = "".join(line + "\n" for line in lines)
    if target:
        Path(target.strip()).write_text(text, encoding="utf-8")
        return ""
    return text


def _filtered(lines: list[str], arguments: Sequence[str]) -> list[str]:
    if arguments[:2] != ["grep", "-E"]:
        raise ValueError(f"the documentation pipes only into grep -E, not {arguments!r}")
    return [line for line in lines if re.search(arguments[2], line)]


def _shardwise(arguments: Sequence[str]) -> str:
    out = io.StringIO()
    given, width = sys.argv, os.environ.pop("COLUMNS", None)
    sys.argv = ["shardwise", *arguments]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            shardwise()
    except SystemExit:
        pass
    finally:
        sys.argv = given
        if width is not None:
            os.environ["COLUMNS"] = width
    return out.getvalue()


def _computed(match: re.Match[str]) -> str:
    name = match["name"]
    return f"<!-- table: {name} -->\n\n{TABLES[name]()}\n\n<!-- end -->"


WHOLE_PAGES: Mapping[str, Callable[[], str]] = {
    "catalogue.md": catalogue.page,
    "nomenclature.md": nomenclature,
    "quantities.md": quantities,
}
"""The pages that come from the catalogue whole."""


def written_pages() -> list[Path]:
    """Return the pages that people write, in which only outputs are generated."""
    pages = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
    return [page for page in pages if page.name not in WHOLE_PAGES]


def main(arguments: Sequence[str]) -> int:
    """Bring every page up to date, or with ``--check`` name those that are not."""
    new = {DOCS / name: page() for name, page in WHOLE_PAGES.items()}
    for page in written_pages():
        new[page] = refreshed(page.read_text(encoding="utf-8"), tables="--quick" not in arguments)
    old = {page: page.read_text(encoding="utf-8") if page.exists() else "" for page in new}
    changed = [page for page in new if new[page] != old[page]]
    for page in changed:
        sys.stdout.write(f"{page.relative_to(ROOT)}\n")
        if "--check" not in arguments:
            page.write_text(new[page], encoding="utf-8")
    images = import_module("docs.make_images")
    return int(images.main(arguments)) or int("--check" in arguments and bool(changed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
