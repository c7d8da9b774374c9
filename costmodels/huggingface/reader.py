"""Reading a `config.json` key by key, so that what was not read can be named."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from costmodels.errors import SpecError

LARGEST_DOCUMENT = 16 * 2**20
"""Characters of a document; real ones have some thousands."""

_REQUIRED: Any = object()
_LAYERS = 2**16
_TRUTH = "expected true or false"


def shown(value: object) -> str:
    """Return a value for a message: short, and without control characters.

    Examples
    --------
    >>> shown("a" * 100), shown(3)
    ("'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa...", '3')
    """
    if isinstance(value, dict):
        return "{...}" if value else "{}"
    if isinstance(value, list):
        # Members may nest as deep as the parser allows: only plain ones are written out.
        plain = all(isinstance(member, str | int | float | None) for member in value[:8])
        text = ascii(value[:8]) if plain else "[...]"
        if len(value) > 8:
            text = f"{text[:-1]}, ...]"
    else:
        text = ascii(value[:100] if isinstance(value, str) else value)
    return text if len(text) <= 45 else text[:42] + "..."


def parse_document(text: str, where: str) -> dict[str, Any]:
    """Return the object that a JSON text states.

    Parameters
    ----------
    text : str
        The document.
    where : str
        Its name, for messages.

    Raises
    ------
    SpecError
        If it is no JSON object, too large, nested too deeply, or gives a key twice.
    """
    if len(text) > LARGEST_DOCUMENT:
        raise SpecError(
            f"{where}: has {len(text):,} characters; expected at most {LARGEST_DOCUMENT:,}"
        )

    def constant(name: str) -> Any:
        raise SpecError(f"{where}: holds {name}, which is no JSON number")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) != len(pairs):
            counts = Counter(key for key, _ in pairs)
            twice = next(key for key, count in counts.items() if count > 1)
            raise SpecError(f"{where}: key {shown(twice)} is given twice")
        return table

    try:
        document = json.loads(text, parse_constant=constant, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise SpecError(f"{where}: not a valid JSON file: {error}") from None
    except RecursionError:
        raise SpecError(f"{where}: not a valid JSON file: nested too deeply") from None
    except ValueError:
        raise SpecError(f"{where}: not a valid JSON file: a number has too many digits") from None
    if not isinstance(document, dict):
        raise SpecError(f"{where}: expected an object with keys such as model_type")
    return document


def _place(where: str) -> str:
    """Return where a key stands, for a sentence: a section of a file, or the file.

    Examples
    --------
    >>> _place("config.json: text_config"), _place("config.json")
    ('text_config of config.json', 'config.json')
    """
    file, colon, section = where.partition(": ")
    return f"{section} of {file}" if colon else file


class Reader:
    """A table whose keys are read one by one; `unread` tells which were not.

    A key that is ``null`` counts as absent, except where families tell the two apart.

    Parameters
    ----------
    table : dict
        Keys and values.
    where : str
        Name of the table, for messages.
    """

    def __init__(self, table: dict[str, Any], where: str) -> None:
        self.where = where
        self.defaults: Mapping[str, int] = MappingProxyType({})
        self.notes: list[str] = []
        self._table = table
        self._read: set[str] = set()

    @property
    def contents(self) -> dict[str, Any]:
        """Return the table."""
        return self._table

    def has(self, key: str) -> bool:
        """Return whether a key has a value."""
        return self._table.get(key) is not None

    def unread(self) -> dict[str, Any]:
        """Return the keys that nobody asked for, with their values."""
        return {key: value for key, value in self._table.items() if key not in self._read}

    def error(self, key: str, expected: str) -> SpecError:
        """Return the error that a key's value is not what it should be."""
        return SpecError(f"{self.where}: {key} ({shown(self._table.get(key))}): {expected}")

    def skip(self, *keys: str) -> None:
        """Say that keys were looked at, and decide nothing."""
        self._read.update(keys)

    def value(self, *keys: str) -> Any:
        """Return the value of the first of some keys that has one, None without; all are read."""
        self._read.update(keys)
        return next((self._table[key] for key in keys if self.has(key)), None)

    def integer(
        self, *keys: str, default: Any = _REQUIRED, least: int = 1, most: int = 2**40
    ) -> Any:
        """Return a whole number within bounds.

        Raises
        ------
        SpecError
            If it is missing and has no default, or is none.
        """
        value = self.value(*keys)
        if value is None:
            return self._default(keys[0], default)
        for key in keys:
            if self.has(key) and self._table[key] != value:
                raise self.error(key, f"contradicts {self._given(keys)} ({shown(value)})")
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self.error(
                self._given(keys), f"expected a whole number from {least:,} to {most:,}"
            )
        return value

    def size(
        self, key: str, *, otherwise: Any = _REQUIRED, least: int = 1, most: int = 2**40
    ) -> int:
        """Return a whole number, or the default of the family, which a note then tells.

        Parameters
        ----------
        key : str
            Its key.
        otherwise : int, optional
            What ``null`` means, and an absent key in families that have no default.
        least, most : int
            Bounds.
        """
        if key not in self._table and key in self.defaults:
            self._read.add(key)
            number = self.defaults[key]
            self.notes.append(
                f"key {key} of {_place(self.where)} is absent: {number:,}, the default of its "
                "family, is used"
            )
            return number
        return int(self.integer(key, default=otherwise, least=least, most=most))

    def false(self, key: str) -> bool:
        """Return whether a key is given as false."""
        return self._table.get(key) is False

    def flag(self, *keys: str, default: bool) -> bool:
        """Return a truth."""
        value = self.value(*keys)
        if value is None:
            if default and any(key in self._table for key in keys):
                raise self.error(next(key for key in keys if key in self._table), _TRUTH)
            return default
        if not isinstance(value, bool):
            raise self.error(self._given(keys), _TRUTH)
        return value

    def number(self, *keys: str, default: float = 0.0) -> float:
        """Return a number of at least zero."""
        value = self.value(*keys)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e30:
            raise self.error(self._given(keys), "expected a number of at least 0")
        return float(value)

    def text(self, *keys: str, default: str | None = None) -> str | None:
        """Return a text."""
        value = self.value(*keys)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self.error(self._given(keys), "expected a text")
        return value

    def table(self, key: str) -> dict[str, Any]:
        """Return a nested table, empty where it is absent."""
        value = self.value(key)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise self.error(key, "expected an object")
        return value

    def integers(self, key: str) -> list[int] | None:
        """Return a list of whole numbers, None where it is absent."""
        value = self.value(key)
        if value is None:
            return None
        plain = isinstance(value, list) and all(type(member) is int for member in value)
        if not plain or len(value) > _LAYERS:
            raise self.error(key, "expected a list of whole numbers")
        return list(value)

    def by_layer(self, key: str, layers: int, known: Sequence[str]) -> list[str] | None:
        """Return a list with a word for each layer, None where it is absent."""
        value = self.value(key)
        if value is None:
            return None
        if not isinstance(value, list) or len(value) != layers:
            raise self.error(key, f"expected a list with a word for each of {layers} layers")
        for word in value:
            if word not in known:
                raise SpecError(
                    f"{self.where}: {key}: {shown(word)} is no kind of attention that this family "
                    f"is known to have; known: {', '.join(known)}"
                )
        return list(value)

    def require(self, key: str, *, only: tuple[Any, ...], reason: str) -> None:
        """Raise unless a key is absent or has one of some values.

        Raises
        ------
        SpecError
            Naming key, value and reason.
        """
        value = self.value(key)
        if value is not None and value not in only:
            raise self.error(key, reason)

    def _given(self, keys: tuple[str, ...]) -> str:
        return next(key for key in keys if self.has(key))

    def _default(self, key: str, default: Any) -> Any:
        if default is _REQUIRED:
            raise SpecError(f"{self.where}: {key} is missing")
        return default
