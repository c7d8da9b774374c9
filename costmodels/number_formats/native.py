"""Which accelerators multiply a format as it is stored."""

import tomllib
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from types import MappingProxyType


@lru_cache(maxsize=1)
def _units() -> Mapping[str, tuple[str, ...]]:
    file = resources.files(__package__) / "data" / "native.toml"
    tables = tomllib.loads(file.read_text(encoding="utf-8"))
    return MappingProxyType({name: tuple(table["accelerators"]) for name, table in tables.items()})


def native_accelerators(units: str) -> tuple[str, ...]:
    """Return the presets of accelerators that have some units.

    Parameters
    ----------
    units : str
        ``mx`` for blocks of 32 of OCP, ``nvfp4`` for those of 16, ``fnuz`` for floats without -0.

    Examples
    --------
    >>> "b200-sxm" in native_accelerators("mx"), "h100-sxm" in native_accelerators("mx")
    (True, False)
    """
    return _units()[units]
