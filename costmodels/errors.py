"""The errors that Shardwise raises on purpose.

::

    ShardwiseError
    ├── SpecError              a description is wrong: names the field, its value and what is valid
    │   └── NotModelledError   the description is right, but no closed form covers it yet
    ├── UnitError              a quantity such as ``80 GB`` cannot be read
    ├── PresetNotFoundError    no preset, field or quantity has this name
    └── NoReferenceDataError   a value that the answer needs has no source and was not given

A plan that does not fit is no error: ``fits = false`` is a field of the answer. Anything
else that is raised is a defect of Shardwise.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class ShardwiseError(Exception):
    """Base of every error that is meant for the reader of the message."""


class SpecError(ShardwiseError):
    """A description is wrong; the message names field, value and what would be valid."""


class NotModelledError(SpecError):
    """The description is valid, but Shardwise has no model of it yet."""


class UnitError(ShardwiseError):
    """A quantity with a unit cannot be read."""


class PresetNotFoundError(ShardwiseError):
    """There is no preset, field or quantity of this name."""


class NoReferenceDataError(ShardwiseError):
    """A value is needed that has no source; it is never guessed."""


def not_found_message(*, what: str, name: str, known: Iterable[str]) -> str:
    """Return a sentence saying that a name is unknown, with the nearest known names.

    Examples
    --------
    >>> not_found_message(what="model", name="lama", known=["llama", "gpt"])
    "unknown model 'lama': did you mean 'llama'? (known: gpt, llama)"
    """
    names = sorted(known)
    near = get_close_matches(name, names, n=3, cutoff=0.5)
    if len(names) <= MOST_LISTED:
        hint = f"did you mean '{near[0]}'? (known: " if near else "expected one of ("
        return f"unknown {what} '{name}': {hint}{', '.join(names)})"
    if near:
        return f"unknown {what} '{name}': did you mean {_either(near)}?"
    return f"unknown {what} '{name}': expected one of {len(names)} names, such as {names[0]}"


def _either(names: list[str]) -> str:
    quoted = [f"'{name}'" for name in names]
    return " or ".join(quoted) if len(quoted) < 3 else f"{quoted[0]}, {quoted[1]} or {quoted[2]}"


MOST_LISTED = 20
"""Names up to which a message lists all that would be valid."""
