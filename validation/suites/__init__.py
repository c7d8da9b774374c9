"""Suites of validation: every module of this package that has a `SUITE` is one."""

from collections.abc import Iterable, Mapping
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from types import MappingProxyType

from costmodels.errors import SpecError, not_found_message
from validation.jobs import Suite

_ORDER = ("parameters", "flops", "memory", "communication", "schedules", "attention", "formats")
"""Suites that come first in a report; others follow by name."""


@cache
def known_suites() -> Mapping[str, Suite]:
    """Return every suite by its name, in the order of a report."""
    names = [module.name for module in iter_modules(__path__, f"{__name__}.")]
    found = [getattr(import_module(name), "SUITE", None) for name in names]
    suites = {suite.name: suite for suite in found if isinstance(suite, Suite)}
    ordered = sorted(suites, key=lambda name: (_place(name), name))
    return MappingProxyType({name: suites[name] for name in ordered})


def chosen_suites(names: Iterable[str]) -> list[Suite]:
    """Return suites by their names, in the order of a report; all where none is named.

    Raises
    ------
    SpecError
        If there is no suite of a name.
    """
    known, wanted = known_suites(), list(names)
    for name in wanted:
        if name not in known:
            raise SpecError(not_found_message(what="suite", name=name, known=known))
    return [suite for suite in known.values() if not wanted or suite.name in wanted]


def _place(name: str) -> int:
    return _ORDER.index(name) if name in _ORDER else len(_ORDER)
