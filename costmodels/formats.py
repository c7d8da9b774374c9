"""Number formats of tensors, as descriptions.

A `Format` says how many bytes a tensor takes. The floats of 16 and 32 bits are its members so far,
and closed forms take their bytes of one element; formats whose blocks share a scale need more than
that one number.
"""

from types import MappingProxyType
from typing import Protocol

import msgspec

from costmodels.columns import Column, ceil_div
from costmodels.errors import SpecError, not_found_message


class Format(Protocol):
    """What every number format can tell about itself."""

    @property
    def name(self) -> str:
        """Return the name under which scenarios refer to the format."""

    @property
    def description(self) -> str:
        """Return one line for people."""

    @property
    def stored(self) -> bool:
        """Return whether tensors can be kept in the format, not only multiplied in it."""

    def tensor_bytes(self, element_count: Column) -> Column:
        """Return the bytes of a tensor of so many elements [byte]."""


class FloatFormat(msgspec.Struct, frozen=True, kw_only=True):
    """A binary floating-point format whose elements stand alone.

    Attributes
    ----------
    name : str
        Name in scenarios.
    exponent_bits, mantissa_bits : int
        Widths of the fields, beside one sign bit [bit].
    element_bytes : int
        Bytes of one stored element, or of so many as are packed [byte].
    packed_count : int
        Elements that are stored together in as many bytes [count].
    stored : bool
        False for a format of multiplication units only (TF32).
    roles : frozenset of str
        Roles of a recipe that it may fill; empty for all that hold tensors.
    peak : str or None
        Peak of an accelerator that its products use, None for that of its own name.
    units : str or None
        Units that apply a scale to every block of inputs, which its products need: ``mx`` or ``nvfp4``.
    source : str
        Where the layout is defined.
    """

    name: str
    exponent_bits: int
    mantissa_bits: int
    element_bytes: int
    source: str
    packed_count: int = 1
    stored: bool = True
    roles: frozenset[str] = frozenset()
    peak: str | None = None
    units: str | None = None

    @property
    def peak_name(self) -> str:
        """Return the name of the peak that products in the format use."""
        return self.name if self.peak is None else self.peak

    def fills(self, role: str) -> bool:
        """Return whether a role of a recipe may have the format."""
        return role in self.roles if self.roles else self.stored or role == "compute"

    @property
    def description(self) -> str:
        """Return one line for people."""
        size = f"{self.element_bytes} byte{'s' if self.element_bytes > 1 else ''}"
        size += f" for {self.packed_count}" if self.packed_count > 1 else ""
        kept = size if self.stored else "matmul inputs only, kept as fp32"
        return f"1 sign, {self.exponent_bits} exponent, {self.mantissa_bits} mantissa bits; {kept}"

    def tensor_bytes(self, element_count: Column) -> Column:
        """Return the bytes of a tensor of so many elements [byte].

        Parameters
        ----------
        element_count : Column
            Elements [count].

        Returns
        -------
        Column
            Elements times bytes per element, packed ones filled up to whole bytes [byte].
        """
        return ceil_div(element_count, self.packed_count) * self.element_bytes

    @property
    def element_bits(self) -> int:
        """Return the bits of one stored element [bit]."""
        return 8 * self.element_bytes // self.packed_count


_IEEE = "IEEE 754-2019, table 3.5"
_MX = "OCP Microscaling Formats (MX) Specification 1.0, section 5: blocks of 32 share a scale"
_OFP8 = "OCP 8-bit Floating Point Specification (OFP8) 1.0, table 1; one scale for a tensor"

FORMATS = MappingProxyType(
    {
        member.name: member
        for member in (
            FloatFormat(
                name="fp32", exponent_bits=8, mantissa_bits=23, element_bytes=4, source=_IEEE
            ),
            FloatFormat(
                name="tf32",
                exponent_bits=8,
                mantissa_bits=10,
                element_bytes=4,
                stored=False,
                source="NVIDIA A100 Tensor Core GPU Architecture whitepaper, 2020",
            ),
            FloatFormat(
                name="bf16",
                exponent_bits=8,
                mantissa_bits=7,
                element_bytes=2,
                source="Kalamkar et al., A Study of BFLOAT16 for Deep Learning Training, "
                "arXiv:1905.12322",
            ),
            FloatFormat(
                name="fp16", exponent_bits=5, mantissa_bits=10, element_bytes=2, source=_IEEE
            ),
            FloatFormat(
                name="fp8_e4m3fn",
                exponent_bits=4,
                mantissa_bits=3,
                element_bytes=1,
                roles=frozenset({"weights", "kv_cache", "compute"}),
                peak="fp8",
                source=_OFP8,
            ),
            FloatFormat(
                name="fp8_e5m2",
                exponent_bits=5,
                mantissa_bits=2,
                element_bytes=1,
                roles=frozenset({"kv_cache"}),
                peak="fp8",
                source=_OFP8,
            ),
            FloatFormat(
                name="int8",
                exponent_bits=0,
                mantissa_bits=7,
                element_bytes=1,
                roles=frozenset({"kv_cache", "compute"}),
                source="two's complement with one scale for a tensor",
            ),
            FloatFormat(
                name="mxfp8",
                units="mx",
                exponent_bits=4,
                mantissa_bits=3,
                element_bytes=1,
                roles=frozenset({"compute"}),
                peak="fp8",
                source=_MX,
            ),
            FloatFormat(
                name="mxfp4",
                units="mx",
                exponent_bits=2,
                mantissa_bits=1,
                element_bytes=1,
                packed_count=2,
                roles=frozenset({"compute"}),
                peak="fp4",
                source=_MX,
            ),
            FloatFormat(
                name="nvfp4",
                units="nvfp4",
                exponent_bits=2,
                mantissa_bits=1,
                element_bytes=1,
                packed_count=2,
                roles=frozenset({"compute"}),
                peak="fp4",
                source="NVIDIA, Pretraining Large Language Models with NVFP4, arXiv:2509.25149, "
                "section 2: blocks of 16",
            ),
            FloatFormat(
                name="int4",
                exponent_bits=0,
                mantissa_bits=3,
                element_bytes=1,
                packed_count=2,
                roles=frozenset({"kv_cache"}),
                source="two's complement, two in a byte, with a scale for a tensor or a group",
            ),
        )
    }
)
"""Every format that scenarios may name."""


def format_named(name: str) -> FloatFormat:
    """Return the number format of this name.

    Raises
    ------
    SpecError
        If there is none; the message suggests the nearest.
    """
    try:
        return FORMATS[name]
    except KeyError:
        message = not_found_message(what="number format", name=name, known=FORMATS)
        raise SpecError(message) from None
