"""How tensors are stored: elements, scales and what else, counted to the byte."""

import re
import tomllib
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from types import MappingProxyType
from typing import Annotated, Any, Literal

import msgspec

from costmodels.columns import Column, ceil_div, maximum, total, where
from costmodels.errors import SpecError, not_found_message
from costmodels.number_formats.scalars import ScalarFormat, scalar_formats, scalar_of_table

Scaling = Literal[
    "none",
    "absmax",
    "affine",
    "signed-max",
    "power-of-two",
    "nvfp4",
    "absmean",
    "search",
]

_SIDE = msgspec.Meta(ge=0, le=1 << 40)
_COUNT = msgspec.Meta(ge=1, le=1 << 40)
_WHOLE = (0, 0)


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of the tensors that hold a matrix: codes, scales, zero points.

    Attributes
    ----------
    name : str
        What it holds.
    bits : int
        Bits of an item [bit].
    rows, columns : int
        Weights that an item covers, as a block of the matrix; 0 for a whole side [count].
    flat : int
        If not 0, an item covers so many weights of the flattened matrix instead [count].
    pack_rows, pack_columns : int
        Items that share a word [count].
    word_bits : int or None
        Bits of a word, None for those of its items [bit].
    optional : bool
        Whether the numbers can be found without it.
    """

    name: Annotated[str, msgspec.Meta(min_length=1)]
    bits: Annotated[int, _COUNT]
    rows: Annotated[int, _SIDE] = 1
    columns: Annotated[int, _SIDE] = 1
    flat: Annotated[int, _SIDE] = 0
    pack_rows: Annotated[int, _COUNT] = 1
    pack_columns: Annotated[int, _COUNT] = 1
    word_bits: Annotated[int, _COUNT] | None = None
    optional: bool = False

    @property
    def stored_word_bits(self) -> int:
        """Return the bits of a word [bit]."""
        items = self.pack_rows * self.pack_columns
        return self.bits * items if self.word_bits is None else self.word_bits

    def items_count(self, rows: Column, columns: Column) -> Column:
        """Return the items of a matrix [count]."""
        blocks = _pieces_count(rows, self.rows) * _pieces_count(columns, self.columns)
        return where(self.flat > 0, _pieces_count(rows * columns, self.flat), blocks)

    def stored_bytes(self, rows: Column, columns: Column) -> Column:
        """Return the bytes of a matrix's items as they are packed, the last byte filled up [byte]."""
        along_rows = where(self.flat > 0, 1, _pieces_count(rows, self.rows))
        flat = _pieces_count(rows * columns, self.flat)
        along_columns = where(self.flat > 0, flat, _pieces_count(columns, self.columns))
        words = ceil_div(along_rows, self.pack_rows) * ceil_div(along_columns, self.pack_columns)
        return ceil_div(words * self.stored_word_bits, 8)


def _pieces_count(side: Column, size: int) -> Column:
    """Return the pieces of a side, the last one filled up; one where the size is 0 [count]."""
    return where(size == 0, 1, ceil_div(side, maximum(size, 1)))


class StoredFormat(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a library stores a matrix.

    Attributes
    ----------
    name : str
        Name.
    element : str or None
        Format of a weight, a float, an integer such as ``int4``, or a codebook; None where a block's
        codes are no numbers of their own.
    scaling : str
        How the numbers of a block are fitted to the element's.
    block : tuple of int
        Rows and columns that share a scale, 0 for a whole side [count].
    flat : int
        If not 0, so many weights of the flattened matrix share a scale instead [count].
    scale_format : str
        Float of the stored scales.
    multiplies : str or None
        Peak of an accelerator that products can use; None where weights are widened to 16 bit.
    library : str
        Who stores it so.
    source : str
        Where that is stated.
    parts : tuple of Part
        The tensors.
    multiple_of : int
        Columns of which a matrix must have a whole number [count].
    storable : bool
        False for a format of multiplication units only.
    """

    name: str
    library: Annotated[str, msgspec.Meta(min_length=1)]
    source: Annotated[str, msgspec.Meta(min_length=1)]
    parts: Annotated[tuple[Part, ...], msgspec.Meta(min_length=1)]
    element: str | None = None
    scaling: Scaling = "none"
    block: tuple[Annotated[int, _SIDE], Annotated[int, _SIDE]] = (1, 1)
    flat: Annotated[int, _SIDE] = 0
    scale_format: str = "fp32"
    multiplies: str | None = None
    multiple_of: Annotated[int, _COUNT] = 1
    storable: bool = True

    def tensor_bytes(self, rows: Column, columns: Column, matrix_count: Column = 1) -> Column:
        """Return the bytes of matrices of the same shape, as the library stores them [byte].

        Parameters
        ----------
        rows, columns : Column
            Outputs and inputs of a matrix [count].
        matrix_count : Column, optional
            Matrices, each stored by itself [count].
        """
        return matrix_count * total([part.stored_bytes(rows, columns) for part in self.parts])

    def fits(self, columns: int) -> bool:
        """Return whether a row of so many weights can be stored."""
        return columns % self.multiple_of == 0

    def ideal_bits(self, rows: int, columns: int) -> int:
        """Return the bits that the numbers need: no padding, no words, nothing optional [bit]."""
        return sum(
            part.bits * int(part.items_count(rows, columns))
            for part in self.parts
            if not part.optional
        )

    def part_bytes(self, rows: int, columns: int) -> dict[str, int]:
        """Return the bytes of each part of a matrix [byte]."""
        return {part.name: int(part.stored_bytes(rows, columns)) for part in self.parts}

    def bits_per_weight(self, rows: int, columns: int) -> float:
        """Return the stored bits of a matrix over its weights [bit]."""
        return 8 * int(self.tensor_bytes(rows, columns)) / (rows * columns)

    @property
    def least_bits_per_weight(self) -> float:
        """Return the bits per weight of a matrix so large that whole rows and columns vanish [bit]."""
        found = 0.0
        for part in self.parts:
            covered = part.flat or part.rows * part.columns
            items = part.pack_rows * part.pack_columns
            found += part.stored_word_bits / items / covered if covered else 0.0
        return found

    @property
    def description(self) -> str:
        """Return one line for people."""
        if not self.storable:
            return "matmul inputs only, kept as fp32"
        names = ", ".join(part.name for part in self.parts)
        return f"{self.least_bits_per_weight:.6g} bits a weight in large matrices: {names}"


class GgufBlock(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A block of GGUF.

    Attributes
    ----------
    weights : int
        Weights of a block, of which a row is a whole number [count].
    bytes : int
        Bytes of a block [byte].
    element, scaling : str
        As of `StoredFormat`.
    """

    weights: Annotated[int, _COUNT]
    bytes: Annotated[int, _COUNT]
    element: str | None = None
    scaling: Scaling = "none"


_GGUF_SOURCE = "github.com/ggml-org/llama.cpp: ggml/src/ggml-common.h"
_INTEGER = re.compile(r"u?int([2-8])")
_SYMMETRIC = re.compile(r"(int[2-8])_(sym|affine)_(tensor|row|g([1-9]\d{0,5}))")


def is_integer(element: str) -> bool:
    """Return whether an element is an integer of 2 to 8 bits, such as ``int4`` or ``uint8``."""
    return _INTEGER.fullmatch(element) is not None


def integer_bits(element: str) -> int:
    """Return the bits of an integer element [bit].

    Examples
    --------
    >>> integer_bits("uint4")
    4
    """
    match = _INTEGER.fullmatch(element)
    if match is None:
        raise SpecError(f"{element}: expected int2 to int8 or uint2 to uint8")
    return int(match[1])


def stored_scalar(source: ScalarFormat) -> StoredFormat:
    """Return how tensors of single floats are stored: every element by itself."""
    width = source.element_bits
    words = -(-width // 8) * 8
    part = Part(name="elements", bits=source.bits, word_bits=words)
    peaks = {"fp8": "fp8", "fp6": "fp6", "fp4": "fp4"}
    return StoredFormat(
        name=source.name,
        element=source.name,
        multiplies=peaks.get(source.name[:3], source.name),
        library="numpy, torch: each element in whole bytes",
        source=source.source,
        parts=(part,),
        storable=source.storable,
    )


def _gguf(name: str, block: GgufBlock) -> StoredFormat:
    part = Part(name="blocks", bits=8 * block.bytes, columns=block.weights)
    return StoredFormat(
        name=f"gguf_{name}",
        element=block.element,
        scaling=block.scaling,
        block=(1, block.weights),
        scale_format="fp16",
        multiplies=block.element if block.scaling == "none" else None,
        library="llama.cpp, GGUF",
        source=_GGUF_SOURCE,
        parts=(part,),
        multiple_of=block.weights,
    )


def _integers(match: re.Match[str]) -> StoredFormat:
    """Return an integer format by its name, such as ``int4_sym_g32`` or ``int8_affine_row``."""
    element, how, over = match[1], match[2], match[3]
    block = {"tensor": _WHOLE, "row": (1, 0)}.get(over, (1, int(match[4] or 0)))
    bits = integer_bits(element)
    scale = Part(name="scales", bits=16, rows=block[0], columns=block[1])
    parts = [Part(name="codes", bits=bits), scale]
    if how == "affine":
        parts.append(Part(name="zero points", bits=8, rows=block[0], columns=block[1]))
    return StoredFormat(
        name=match[0],
        element=element if how == "sym" else "u" + element,
        scaling="absmax" if how == "sym" else "affine",
        block=block,
        scale_format="fp16",
        library="fp16 scales" + (" and int8 zero points" if how == "affine" else ""),
        source="Nagel et al., A White Paper on Neural Network Quantization, arXiv:2106.08295, section 2",
        parts=tuple(parts),
    )


def _text(name: str) -> str:
    return (resources.files(__package__) / "data" / name).read_text(encoding="utf-8")


def formats_of_text(text: str, *, where_from: str) -> dict[str, StoredFormat]:
    """Return the stored formats that a TOML text describes.

    Parameters
    ----------
    text : str
        A table for each format: with `parts` a `StoredFormat`, else a float of `scalars_of_text`.
    where_from : str
        What to call the text in messages.

    Raises
    ------
    SpecError
        If it is no TOML or no description of a format.
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"{where_from}: {error}") from None
    found = {}
    for name, table in tables.items():
        if not isinstance(table, dict) or "parts" not in table:
            found[name] = stored_scalar(scalar_of_table(name, table, where=where_from))
            continue
        try:
            found[name] = msgspec.convert({"name": name} | table, StoredFormat)
        except msgspec.ValidationError as error:
            raise SpecError(f"{where_from}, number format {name}: {error}") from None
    return found


@lru_cache(maxsize=1)
def stored_formats() -> Mapping[str, StoredFormat]:
    """Return every way to store a matrix by its name.

    Integers in groups of any size have names of their own (`stored_format`).
    """
    blocks = formats_of_text(_text("blocks.toml"), where_from="blocks.toml")
    gguf = msgspec.convert(tomllib.loads(_text("gguf.toml")), dict[str, GgufBlock])
    scalars = {name: stored_scalar(entry) for name, entry in scalar_formats().items()}
    ggml = {f"gguf_{name}": _gguf(name, block) for name, block in gguf.items()}
    return MappingProxyType(scalars | blocks | ggml)


def stored_format(
    name: str, own: Mapping[str, StoredFormat] = MappingProxyType({})
) -> StoredFormat:
    """Return a way to store a matrix by its name.

    Parameters
    ----------
    name : str
        A name of `stored_formats`, or integers ``int4_sym_g32``: 2 to 8 bits, ``sym`` with a fp16
        scale or ``affine`` with an int8 zero point beside it, over the ``tensor``, each ``row``
        or groups of a row.
    own : mapping of str to StoredFormat
        Further formats of the user.

    Raises
    ------
    SpecError
        If there is none of this name.
    """
    known = {**stored_formats(), **own}
    if name in known:
        return known[name]
    match = _SYMMETRIC.fullmatch(name)
    if match is None:
        raise SpecError(not_found_message(what="number format", name=name, known=known))
    return _integers(match)


def codebooks() -> Mapping[str, Any]:
    """Return the tables of formats that are lists of numbers, by name."""
    return tomllib.loads(_text("codebooks.toml"))
