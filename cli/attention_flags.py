"""The options of `shardwise attention`: every size of a layout, without loading what answers."""

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from types import MappingProxyType
from typing import Annotated, Any

import typer

from cli.flags import flag

SIZES: Mapping[str, str] = MappingProxyType(
    {
        "layout": "layouts or presets, NAME,NAME",
        "seq_len": "tokens of a sequence, 1k,32k,1M,1B (k is 1024)",
        "batch": "sequences",
        "heads": "heads of queries; of values in a gated delta rule",
        "kv_heads": "heads of keys and values; left out, as many as queries",
        "head_size": "width of a query and key",
        "value_size": "width of a value; left out, as wide as a key",
        "element_bytes": "bytes of an element of keys, values and activations",
        "memory_element_bytes": "bytes of an element of a memory or state",
        "layers": "layers over which reach is counted",
        "ranks": "ranks that share a sequence, for the bytes they send",
        "queries": "last queries only, as an append does; left out, all",
        "tile": "tile of a kernel that skips masked ones; left out, the square",
        "window": "keys of a query, its own included",
        "sink_tokens": "first tokens that every query sees",
        "chunk": "tokens of a chunk; left out: the window, 8192 chunked, 64 linear and delta",
        "segments": "tokens of a segment, one for each dilation",
        "dilations": "steps between tokens, of each branch or head; layers apart by /, 1,2,4/8,16,32",
        "offsets": "modulo (paper) or grouped (torchscale)",
        "keys": "keys of a query in each head",
        "reading": "sliding, segment or residue",
        "segment": "tokens of a segment with a memory before it",
        "update": "linear or delta",
        "key_value_rank": "width of compressed keys and values",
        "unrotated_size": "width of the unrotated part of a key",
        "rotated_size": "width of the rotated part of a key",
        "memory_tokens": "hidden states kept as they are",
        "compressed_tokens": "compressed hidden states kept",
        "compression_rate": "hidden states that one compressed one holds",
        "hidden_size": "width of hidden states; left out, heads times width",
    }
)
"""What each option that takes a value says; keys of a case in a file are the same names."""

TRUTHS: Mapping[str, str] = MappingProxyType(
    {
        "causal": "whether the future is masked",
        "padded": "whether a program fills segments up, as torchscale",
        "first_read": "whether a program reads the empty memory",
        "last_update": "whether it updates after the last segment",
        "decayed": "whether an update scales memory and addition",
        "normalized": "whether outputs are divided by a sum of keys",
        "absorbed": "whether queries are compressed, not keys expanded",
    }
)
"""The same for options that are true or false."""


def _parameters() -> list[inspect.Parameter]:
    found = []
    for name, text in SIZES.items():
        option = flag(f"--{name.replace('_', '-')}", text)
        found.append((name, Annotated[str | None, option]))
    for name, text in TRUTHS.items():
        dashed = name.replace("_", "-")
        option = typer.Option(f"--{dashed}/--no-{dashed}", help=text)
        found.append((name, Annotated[bool | None, option]))
    return [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=declared)
        for name, declared in found
    ]


def describes_attention(function: Callable[..., None]) -> Callable[..., None]:
    """Return a command with a flag for each size of a layout, after its first parameter.

    The command itself takes its context, then its own options; the flags are in the context.
    """
    own = inspect.signature(function).parameters
    before, after = list(own.values())[:1], list(own.values())[1:]

    @wraps(function)
    def command(**given: Any) -> None:
        function(**{name: given[name] for name in own})

    parameters = [*before, *_parameters(), *after]
    command.__dict__["__signature__"] = inspect.Signature(
        [entry.replace(kind=inspect.Parameter.KEYWORD_ONLY) for entry in parameters]
    )
    command.__annotations__ = {entry.name: entry.annotation for entry in parameters}
    return command


def given_options(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that a command was given."""
    names = (*SIZES, *TRUTHS)
    return {name: parameters[name] for name in names if parameters.get(name) is not None}
