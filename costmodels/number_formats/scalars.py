"""Formats of single numbers, as descriptions: fields of bits and what has no number."""

import tomllib
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from types import MappingProxyType
from typing import Annotated, Any, Literal

import msgspec

from costmodels.errors import SpecError, not_found_message

Overflow = Literal["infinity", "nan", "saturate"]

GENERIC = "specification"
"""Semantics of the document that defines a format, where no library is named."""

LIBRARIES = ("torch", "ml_dtypes")
"""Libraries whose casts are described beside the specification."""

_NONE_OF_A_LIBRARY = MappingProxyType[str, Any]({})


class Library(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a library calls a format, and where its casts differ from the specification.

    Attributes
    ----------
    dtype : str
        Name of the library's type.
    overflow : str or None
        What a number beyond the largest becomes, None where it is as specified.
    negative_input : str or None
        What a negative number becomes in a format without sign.
    lowest_gap : str or None
        How numbers between the two smallest round in a format without zero.
    """

    dtype: str
    overflow: Overflow | None = None
    negative_input: Literal["nan", "magnitude"] | None = None
    lowest_gap: Literal["nearest", "up"] | None = None


class ScalarFormat(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A binary floating-point format whose elements stand alone.

    Attributes
    ----------
    name : str
        Name.
    sign_bits, exponent_bits, mantissa_bits : int
        Widths of the fields, from the highest bit down [bit].
    bias : int
        What is taken off the exponent field.
    nan : str
        Codes that are no number: ``ieee`` (highest exponent, mantissa not 0), ``all-ones``,
        ``negative-zero`` or ``none``.
    infinity : bool
        Whether the highest exponent with mantissa 0 is infinite.
    zero : bool
        Whether exponent field 0 holds zero and the subnormals; without, it is a power of two.
    overflow : str
        What a number beyond the largest becomes: ``infinity``, ``nan`` or ``saturate``.
    negative_input : str
        What a negative number becomes where there is no sign: ``nan`` or ``magnitude``.
    lowest_gap : str
        How numbers between the two smallest round where there is no zero: ``nearest``, or ``up``.
    stored_bits : int or None
        Bits of a stored element, None for the sum of its fields [bit].
    storable : bool
        False for a format of multiplication units only (TF32).
    source : str
        Where the format is defined.
    torch, ml_dtypes : Library or None
        Casts of these libraries, None where they have no such type.

    Raises
    ------
    SpecError
        If the fields make no format.
    """

    name: str
    exponent_bits: Annotated[int, msgspec.Meta(ge=1, le=11)]
    mantissa_bits: Annotated[int, msgspec.Meta(ge=0, le=52)]
    bias: Annotated[int, msgspec.Meta(ge=-1000, le=1023)]
    source: Annotated[str, msgspec.Meta(min_length=1)]
    sign_bits: Annotated[int, msgspec.Meta(ge=0, le=1)] = 1
    nan: Literal["ieee", "all-ones", "negative-zero", "none"] = "ieee"
    infinity: bool = True
    zero: bool = True
    overflow: Overflow = "infinity"
    negative_input: Literal["nan", "magnitude"] = "nan"
    lowest_gap: Literal["nearest", "up"] = "nearest"
    stored_bits: Annotated[int, msgspec.Meta(ge=1, le=64)] | None = None
    storable: bool = True
    torch: Library | None = None
    ml_dtypes: Library | None = None

    def __post_init__(self) -> None:
        """Check that the fields go together."""
        for wrong, said in _faults(self):
            if wrong:
                raise SpecError(f"number format {self.name}: {said}")

    @property
    def bits(self) -> int:
        """Return the width of the fields together [bit]."""
        return self.sign_bits + self.exponent_bits + self.mantissa_bits

    @property
    def element_bits(self) -> int:
        """Return the bits of a stored element [bit]."""
        return self.bits if self.stored_bits is None else self.stored_bits

    @property
    def largest_code(self) -> int:
        """Return the code of the largest finite number, without sign."""
        codes = 1 << (self.exponent_bits + self.mantissa_bits)
        if self.infinity or self.nan == "ieee":
            return codes - 1 - (1 << self.mantissa_bits)
        return codes - 2 if self.nan == "all-ones" else codes - 1

    @property
    def nan_code(self) -> int:
        """Return the code that a number which is none gets; -0 where the format has no NaN."""
        magnitude_bits = self.exponent_bits + self.mantissa_bits
        if self.nan == "ieee":
            quiet = 1 << (self.mantissa_bits - 1)
            return (((1 << self.exponent_bits) - 1) << self.mantissa_bits) | quiet
        return (1 << magnitude_bits) - 1 if self.nan == "all-ones" else 1 << magnitude_bits

    @property
    def infinity_code(self) -> int:
        """Return the code of infinity, without sign; only where `infinity` holds."""
        return ((1 << self.exponent_bits) - 1) << self.mantissa_bits

    @property
    def least_exponent(self) -> int:
        """Return the exponent of the smallest normal number."""
        return (1 if self.zero else 0) - self.bias

    @property
    def largest(self) -> float:
        """Return the largest finite number."""
        return self.magnitude(self.largest_code)

    @property
    def smallest_normal(self) -> float:
        """Return the smallest number with a full mantissa."""
        return 2.0**self.least_exponent

    @property
    def smallest_subnormal(self) -> float | None:
        """Return the smallest number above zero, None where there is no zero."""
        return self.magnitude(1) if self.zero else None

    @property
    def epsilon(self) -> float:
        """Return the distance from 1 to the next larger number, in a wide enough format."""
        return 2.0**-self.mantissa_bits

    @property
    def decimal_digits(self) -> float:
        """Return the decimal digits of a mantissa: (mantissa_bits + 1) log10 2."""
        return (self.mantissa_bits + 1) * 0.30102999566398120

    def magnitude(self, code: int) -> float:
        """Return the number of a finite code without sign."""
        exponent, mantissa = divmod(code, 1 << self.mantissa_bits)
        if exponent == 0 and self.zero:
            return mantissa * 2.0 ** (self.least_exponent - self.mantissa_bits)
        significand = mantissa + (1 << self.mantissa_bits)
        return significand * 2.0 ** (exponent - self.bias - self.mantissa_bits)

    @property
    def description(self) -> str:
        """Return one line for people."""
        fields = (
            f"{self.sign_bits} sign, {self.exponent_bits} exponent, {self.mantissa_bits} mantissa "
            "bits"
        )
        if not self.storable:
            return f"{fields}; matmul inputs only, kept as fp32"
        size = self.element_bits
        whole = f"{size // 8} byte{'s' if size > 8 else ''}" if size % 8 == 0 else f"{size} bits"
        return f"{fields}; {whole}"

    def as_of(self, library: str) -> "ScalarFormat":
        """Return the format with a library's semantics, itself for `GENERIC`.

        Raises
        ------
        SpecError
            If there is no such library, or it has no such type.
        """
        if library == GENERIC:
            return self
        if library not in LIBRARIES:
            known = (GENERIC, *LIBRARIES)
            raise SpecError(not_found_message(what="library", name=library, known=known))
        found = self.torch if library == "torch" else self.ml_dtypes
        if found is None:
            raise SpecError(f"{library} has no type for {self.name}")
        changes = {
            name: getattr(found, name)
            for name in ("overflow", "negative_input", "lowest_gap")
            if getattr(found, name) is not None
        }
        return msgspec.structs.replace(self, **changes) if changes else self


def _faults(entry: ScalarFormat) -> tuple[tuple[bool, str], ...]:
    """Return what would be wrong with a format, and whether it is."""
    largest_exponent = (1 << entry.exponent_bits) - 1 - entry.bias
    return (
        (entry.bits > 64, "has more than 64 bits"),
        (
            entry.nan == "ieee" and entry.mantissa_bits == 0,
            "nan = 'ieee' needs a bit of mantissa; use 'all-ones' or 'none'",
        ),
        (
            entry.infinity and entry.nan in ("all-ones", "none") and entry.mantissa_bits == 0,
            "infinity = true needs a bit of mantissa",
        ),
        (
            entry.infinity and entry.nan != "ieee",
            "infinity = true needs nan = 'ieee'",
        ),
        (
            entry.nan == "negative-zero" and not entry.sign_bits,
            "nan = 'negative-zero' needs a sign bit",
        ),
        (
            entry.overflow == "infinity" and not entry.infinity,
            "overflow = 'infinity' needs infinity = true; use 'nan' or 'saturate'",
        ),
        (
            entry.overflow == "nan" and entry.nan == "none",
            "overflow = 'nan' needs a code that is NaN; use 'saturate'",
        ),
        (
            largest_exponent > 1024 or entry.least_exponent < -1022,
            "bias puts numbers out of reach of fp64, in which they are computed",
        ),
        (
            entry.stored_bits is not None and entry.stored_bits < entry.bits,
            f"stored_bits ({entry.stored_bits}) is less than its {entry.bits} bits",
        ),
    )


def scalars_of_text(text: str, *, where: str) -> dict[str, ScalarFormat]:
    """Return the formats of single numbers that a TOML text describes, each in a table of its name.

    Tables with `parts` describe stored matrices and are left out here.

    Parameters
    ----------
    text : str
        The text.
    where : str
        What to call it in messages.

    Raises
    ------
    SpecError
        If it is no TOML or no description of a format.
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"{where}: {error}") from None
    return {
        name: scalar_of_table(name, table, where=where)
        for name, table in tables.items()
        if not (isinstance(table, dict) and "parts" in table)
    }


def scalar_of_table(name: str, table: object, *, where: str) -> ScalarFormat:
    """Return the format that a table describes.

    Parameters
    ----------
    name : str
        Its name.
    table : object
        The table.
    where : str
        What to call the text in messages.

    Raises
    ------
    SpecError
        If it describes none.
    """
    try:
        stated = {"name": name} | (table if isinstance(table, dict) else {"": table})
        return msgspec.convert(stated, ScalarFormat)
    except msgspec.ValidationError as error:
        raise SpecError(f"{where}, number format {name}: {error}") from None


@lru_cache(maxsize=1)
def scalar_formats() -> Mapping[str, ScalarFormat]:
    """Return every format of single floating-point numbers by its name."""
    file = resources.files(__package__) / "data" / "scalars.toml"
    text = file.read_text(encoding="utf-8")
    return MappingProxyType(scalars_of_text(text, where="scalars.toml"))
