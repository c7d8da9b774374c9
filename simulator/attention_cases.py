"""Questions about one layer's attention: a layout with all its sizes, by name or as a JSON object."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, get_origin, get_type_hints

import msgspec

from costmodels.errors import PresetNotFoundError, SpecError, UnitError, not_found_message
from costmodels.units import parse_quantity

LONGEST = 1 << 40
_MOST = {"batch": 1 << 20, "heads": 4096, "kv_heads": 4096, "layers": 4096, "ranks": 1 << 20}


class AttentionCase(msgspec.Struct, frozen=True, kw_only=True):
    """A layout with all its sizes; zero stands for a size that follows from others.

    Attributes
    ----------
    layout : str
        Name of a layout.
    seq_len : tuple of int
        Tokens of a sequence, one answer for each [token].

    The other attributes are the options of `cli.attention_flags`, which says what they are.
    """

    layout: str = "dense"
    seq_len: tuple[int, ...] = (1 << 10, 1 << 15, 1 << 20, 1 << 30)
    batch: int = 1
    heads: int = 8
    kv_heads: int = 0
    head_size: int = 128
    value_size: int = 0
    element_bytes: int = 2
    memory_element_bytes: int = 4
    layers: int = 1
    ranks: int = 1
    causal: bool = True
    queries: int = 0
    tile: int = 0
    window: int = 4096
    sink_tokens: int = 0
    chunk: int = 0
    segments: tuple[int, ...] = ()
    dilations: tuple[tuple[int, ...], ...] = ()
    offsets: str = "modulo"
    padded: bool = False
    keys: int = 2048
    reading: str = "sliding"
    segment: int = 2048
    update: str = "linear"
    first_read: bool = False
    last_update: bool = False
    decayed: bool = False
    normalized: bool = True
    key_value_rank: int = 512
    unrotated_size: int = 128
    rotated_size: int = 64
    absorbed: bool = False
    memory_tokens: int = 2048
    compressed_tokens: int = 512
    compression_rate: int = 4
    hidden_size: int = 0


COMMON = (
    "seq_len",
    "batch",
    "heads",
    "kv_heads",
    "head_size",
    "value_size",
    "element_bytes",
)
"""Sizes that every layout has."""

OWN: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "dense": ("causal", "queries", "tile", "ranks"),
        "sliding": ("window", "sink_tokens", "chunk", "layers", "ranks"),
        "chunked": ("chunk",),
        "dilated": ("segments", "dilations", "offsets", "padded", "causal", "layers", "ranks"),
        "dilated-heads": ("segments", "dilations", "keys", "reading", "layers", "ranks"),
        "infini": (
            *("segment", "update", "first_read", "last_update", "decayed"),
            *("memory_element_bytes", "ranks"),
        ),
        "linear": ("chunk", "normalized", "memory_element_bytes", "ranks"),
        "gated-delta": ("chunk", "memory_element_bytes", "ranks"),
        "compressive": (
            *("segment", "memory_tokens", "compressed_tokens", "compression_rate"),
            *("hidden_size", "layers"),
        ),
        "latent": ("key_value_rank", "unrotated_size", "rotated_size", "absorbed", "ranks"),
    }
)
"""Options of each layout beside `COMMON`."""

_NOT = {"latent": ("head_size", "kv_heads")}
"""Common sizes that a layout does not have."""

_MAY_BE_ZERO = {
    *("kv_heads", "value_size", "queries", "tile", "sink_tokens", "chunk", "hidden_size"),
    *("compressed_tokens", "memory_tokens"),
}
_CHOICES = {
    "offsets": ("modulo", "grouped"),
    "reading": ("sliding", "segment", "residue"),
    "update": ("linear", "delta"),
}

PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "longnet-paper": {
            "layout": "dilated",
            "segments": (2048, 4096, 8192, 16384, 32768),
            "dilations": ((1, 2, 4, 6, 12),),
            "heads": 12,
            "head_size": 64,
        },
        "notes-dilated": {
            "layout": "dilated-heads",
            "dilations": ((1, 2, 4), (8, 16, 32), (64, 128, 256)),
            "heads": 12,
            "head_size": 64,
            "layers": 3,
        },
        "infini-paper": {"layout": "infini", "segment": 2048, "heads": 8, "head_size": 128},
        "notes-infini": {
            "layout": "infini",
            "segment": 32768,
            "heads": 8,
            "head_size": 128,
            "seq_len": (1 << 20, 10 << 20),
        },
    }
)
"""Layouts with the sizes of a publication or of notes: LongNet section 4.2, Infini section 4."""


def _number(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise SpecError(f"{name} ({value}): must be a number")
    if isinstance(value, str):
        try:
            value = parse_quantity(value, "length")
        except UnitError as error:
            raise SpecError(f"{name}: {error}") from None
    if value != int(value):
        raise SpecError(f"{name} ({value}): must be a whole number")
    most = _MOST.get(name, LONGEST)
    least = 0 if name in _MAY_BE_ZERO else 1
    if not least <= value <= most:
        raise SpecError(f"{name} ({value:.15g}): must be from {least} to {most}")
    return int(value)


def _numbers(name: str, value: object) -> tuple[int, ...]:
    parts: Iterable[object] = value.split(",") if isinstance(value, str) else _listed(name, value)
    found = tuple(_number(name, part) for part in parts)
    if not found or len(found) > 64:
        raise SpecError(f"{name} ({len(found)} members): must have from 1 to 64")
    return found


def _listed(name: str, value: object) -> tuple[object, ...]:
    if isinstance(value, int):
        return (value,)
    if not isinstance(value, list | tuple):
        raise SpecError(f"{name} ({value}): must be a list of numbers")
    return tuple(value)


def _layered(name: str, value: object) -> tuple[tuple[int, ...], ...]:
    if isinstance(value, str):
        return tuple(_numbers(name, part) for part in value.split("/"))
    parts = _listed(name, value)
    if parts and all(isinstance(part, list | tuple) for part in parts):
        return tuple(_numbers(name, part) for part in parts)
    return (_numbers(name, value),)


def _truth(name: str, value: object) -> bool:
    known = {"true": True, "false": False}
    found = value if isinstance(value, bool) else known.get(str(value).lower())
    if found is None:
        raise SpecError(f"{name} ({value}): must be true or false")
    return found


def _choice(name: str, value: object) -> str:
    choices = _CHOICES[name]
    if value not in choices:
        raise SpecError(f"{name} ({value}): must be one of {', '.join(choices)}")
    return str(value)


def _read(name: str, value: object) -> Any:
    declared = get_type_hints(AttentionCase)[name]
    if declared is int:
        return _number(name, value)
    if declared is bool:
        return _truth(name, value)
    if get_origin(declared) is tuple:
        return (_layered if name == "dilations" else _numbers)(name, value)
    return _choice(name, value)


def attention_cases(table: Mapping[str, object]) -> list[AttentionCase]:
    """Return a case for each layout that a table of options names.

    Parameters
    ----------
    table : mapping of str to object
        Options by name, numbers also as text (``32k``); ``layout`` may name several.

    Raises
    ------
    SpecError
        If an option is unknown, out of its range, or none of the layouts has it.
    PresetNotFoundError
        If there is no such layout.
    """
    stated = table.get("layout", "dense")
    names = (
        stated.split(",") if isinstance(stated, str) else list(map(str, _listed("layout", stated)))
    )
    given = {name: value for name, value in table.items() if name != "layout"}
    for name in given:
        if name not in AttentionCase.__struct_fields__:
            known = ", ".join(AttentionCase.__struct_fields__)
            raise SpecError(f"{name}: is no option of attention; known: {known}")
    read = {name: _read(name, value) for name, value in given.items()}
    cases = [_case(name.strip(), read) for name in names]
    used = {option for case in cases for option in options_of(case.layout)}
    for name in read:
        if name not in used:
            raise SpecError(
                f"{name}: {', '.join(case.layout for case in cases)} attention has no such option; "
                f"it has: {', '.join(sorted(used))}"
            )
    for case in cases:
        check_case(case)
    return cases


def options_of(layout: str) -> tuple[str, ...]:
    """Return the options that decide an answer about a layout."""
    return tuple(name for name in (*COMMON, *OWN[layout]) if name not in _NOT.get(layout, ()))


def _case(name: str, read: Mapping[str, Any]) -> AttentionCase:
    if name not in OWN and name not in PRESETS:
        known = [*OWN, *PRESETS]
        raise PresetNotFoundError(not_found_message(what="layout", name=name, known=known))
    preset = dict(PRESETS.get(name, {"layout": name}))
    layout = str(preset.pop("layout"))
    own = {key: value for key, value in read.items() if key in options_of(layout)}
    return _completed(AttentionCase(layout=layout, **(preset | own)))


def _completed(case: AttentionCase) -> AttentionCase:
    """Return a case in which sizes that follow from others are stated."""
    chunks = {"sliding": case.window, "chunked": 8192, "linear": 64, "gated-delta": 64}
    changes: dict[str, Any] = {
        "kv_heads": case.kv_heads or case.heads,
        "value_size": case.value_size or case.head_size,
        "chunk": case.chunk or chunks.get(case.layout, 0),
        "hidden_size": case.hidden_size or case.heads * case.head_size,
    }
    if case.layout == "latent":
        changes["kv_heads"] = case.heads
        changes["value_size"] = case.value_size or case.unrotated_size
        changes["head_size"] = case.unrotated_size + case.rotated_size
    if case.layout in ("dilated", "dilated-heads") and not case.dilations:
        changes["dilations"] = PRESETS["longnet-paper"]["dilations"]
        if case.layout == "dilated-heads":
            changes["dilations"] = ((1, 2, 4),)
    if case.layout == "dilated" and not case.segments and not case.dilations:
        changes["segments"] = PRESETS["longnet-paper"]["segments"]
    return msgspec.structs.replace(case, **changes)


def check_case(case: AttentionCase) -> None:
    """Raise unless the sizes of a case agree with each other.

    Raises
    ------
    SpecError
        Naming the option, its value and what would be valid.
    """
    if case.heads % case.kv_heads:
        raise SpecError(f"heads ({case.heads}): must be a multiple of kv_heads ({case.kv_heads})")
    if case.layout in ("dilated", "dilated-heads"):
        _check_dilations(case)
    if case.layout == "compressive":
        _check_compression(case)
    if case.queries and not case.causal:
        raise SpecError(f"queries ({case.queries}): needs causal to be true")
    if case.tile and (case.queries or not case.causal):
        raise SpecError(f"tile ({case.tile}): needs causal to be true, and all queries")
    if case.layout == "dilated" and case.ranks > 1:
        _check_spread(case)
    if case.layout == "dilated-heads" and case.ranks > 1 and case.reading != "sliding":
        raise SpecError(f"ranks ({case.ranks}): above 1 needs reading to be sliding")
    _check_lengths(case)


def _check_lengths(case: AttentionCase) -> None:
    for length in case.seq_len:
        if case.queries > length:
            raise SpecError(f"queries ({case.queries}): must be at most seq_len ({length})")
        if length % case.ranks:
            raise SpecError(f"seq_len ({length}): must be a multiple of ranks ({case.ranks})")


def _check_spread(case: AttentionCase) -> None:
    """Raise unless ranks hold whole parts of the segments that they gather."""
    for length in case.seq_len:
        part = length // case.ranks
        for size, rate in zip(case.segments, case.dilations[0], strict=True):
            if size > part and (size % part or part % rate):
                raise SpecError(
                    f"ranks ({case.ranks}): a segment ({size}) longer than a rank's part ({part}) "
                    f"must be a multiple of it, and its dilation ({rate}) a divisor"
                )


def _check_dilations(case: AttentionCase) -> None:
    slides = case.layout == "dilated-heads" and case.reading == "sliding"
    if slides and case.segments:
        raise SpecError(f"segments ({len(case.segments)}): need reading to be segment or residue")
    if case.layout == "dilated" and len(case.dilations) != 1:
        raise SpecError(
            f"dilations ({len(case.dilations)} layers): all layers of dilated attention are alike; "
            "dilated-heads has different ones"
        )
    for rates in case.dilations:
        if not slides and len(case.segments) != len(rates):
            raise SpecError(
                f"segments ({len(case.segments)}): must be as many as dilations ({len(rates)})"
            )
        if case.layout == "dilated-heads" and len(rates) > case.heads:
            raise SpecError(
                f"dilations ({len(rates)} of a layer): must be at most heads ({case.heads})"
            )


def _check_compression(case: AttentionCase) -> None:
    if case.segment % case.compression_rate:
        raise SpecError(
            f"segment ({case.segment}): must be a multiple of compression_rate "
            f"({case.compression_rate})"
        )
    if case.memory_tokens % case.segment:
        raise SpecError(
            f"memory_tokens ({case.memory_tokens}): must be a multiple of segment ({case.segment})"
        )
