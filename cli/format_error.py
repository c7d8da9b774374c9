"""Error of formats on a distribution or on a tensor, for people and programs."""

import math
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from cli.format_comparison import names, own_formats
from cli.tables import console, print_table, table_of
from cli.tensor_files import read_tensor
from costmodels.errors import SpecError
from costmodels.number_formats.error import DISTRIBUTIONS, known_sqnr_db
from costmodels.number_formats.layouts import StoredFormat, stored_format, stored_formats
from costmodels.number_formats.propagation import chain_sqnr_db, output_sqnr_db
from costmodels.number_formats.quantizers import is_quantizable, quantized, sqnr_db

_SHAPE = (4096, 4096)
_LARGEST = 2**24


class FormatError(msgspec.Struct, frozen=True, kw_only=True):
    """A format's size and error.

    Attributes
    ----------
    name, library : str
        Format, and who stores it so.
    bits_per_weight, ideal_bits_per_weight : float
        As stored, and as the numbers need [bit].
    sqnr_db : dict of str to float or None
        Ratio of signal to noise for each distribution; None where nobody knows [dB].
    basis : str
        exact, measured or unknown.
    tensor_sqnr_db : float or None
        Ratio of the given tensor; None without one, or where codes are found by search [dB].
    output_sqnr_db, chain_sqnr_db : float or None
        Ratio of a product's output with the stated inputs, and behind the stated layers; None where
        nobody asks or knows [dB].
    """

    name: str
    library: str
    bits_per_weight: float
    ideal_bits_per_weight: float
    sqnr_db: dict[str, float | None]
    basis: str
    tensor_sqnr_db: float | None
    output_sqnr_db: float | None = None
    chain_sqnr_db: float | None = None


class FormatErrors(msgspec.Struct, frozen=True, kw_only=True):
    """Formats on some weights, the best first.

    Attributes
    ----------
    on : str
        Distribution or file.
    rows, columns : int
        Shape [count].
    deviation, kurtosis, largest : float or None
        Of a given tensor: root mean square, fourth moment over its square (3 for Gaussian numbers),
        largest magnitude over the root mean square.
    inputs : str or None
        Format of the inputs of products, Gaussian numbers; None leaves them exact.
    layers : int or None
        Layers of a chain [count].
    formats : tuple of FormatError
        The formats.
    """

    on: str
    rows: int
    columns: int
    deviation: float | None
    kurtosis: float | None
    largest: float | None
    inputs: str | None
    layers: int | None
    formats: tuple[FormatError, ...]


class Chain(NamedTuple):
    """What the weights meet: inputs in a format, and so many layers one behind the other."""

    inputs: str | None = None
    layers: int | None = None


def errors(
    on: str,
    *,
    formats: str | None,
    shape: str | None,
    file: Path | None,
    chain: Chain = Chain(),  # noqa: B008 - it is frozen
) -> FormatErrors:
    """Return size and error of formats.

    Parameters
    ----------
    on : str
        A distribution, or a file's tensor.
    formats : str or None
        Names with commas between; None for all whose error is known.
    shape : str or None
        ``NxK``, for a distribution.
    file : Path or None
        File that describes more formats.
    chain : Chain
        Inputs and layers that errors are followed through.

    Raises
    ------
    SpecError
        If anything of it is unknown or cannot be read.
    """
    own = own_formats(file)
    matrix = None
    if on in DISTRIBUTIONS:
        rows, columns = _sides(shape)
    elif shape is not None:
        raise SpecError("--shape: the tensor of a file has its own")
    elif "." not in on:
        raise SpecError(
            f"{on}: expected {', '.join(DISTRIBUTIONS)}, or a .npy or .safetensors file"
        )
    else:
        matrix = read_tensor(on)
        rows, columns = matrix.shape
    chosen = [stored_format(name, own) for name in names(formats)] or _all(own, columns)
    power = None if matrix is None else float(np.mean(np.square(matrix, dtype=np.float64)))
    found = [_error(stored, rows, columns, matrix, power) for stored in chosen]
    by = on if on in DISTRIBUTIONS else "gaussian"
    inputs_db = _inputs_db(chain.inputs, own, columns)
    found = [_followed(entry, by, inputs_db, chain) for entry in found]
    return FormatErrors(
        on=on,
        rows=rows,
        columns=columns,
        deviation=None if power is None else power**0.5,
        kurtosis=_kurtosis(matrix, power),
        largest=None if matrix is None or not power else float(np.abs(matrix).max() / power**0.5),
        inputs=chain.inputs,
        layers=chain.layers,
        formats=tuple(sorted(found, key=lambda entry: _place(entry, by))),
    )


def _inputs_db(name: str | None, own: dict[str, StoredFormat], columns: int) -> float:
    """Return the ratio of inputs in a format, a row for each token; infinite without one [dB]."""
    if name is None:
        return math.inf
    ratio = known_sqnr_db(stored_format(name, own), "gaussian", _SHAPE[0], columns).sqnr_db
    if ratio is None:
        raise SpecError(f"--inputs ({name}): its error is not known")
    return ratio


def _followed(entry: FormatError, by: str, inputs_db: float, chain: Chain) -> FormatError:
    """Return a format's error with that of outputs, where somebody asks for them."""
    own = entry.sqnr_db[by] if entry.tensor_sqnr_db is None else entry.tensor_sqnr_db
    if own is None or chain == Chain():
        return entry
    output = output_sqnr_db([own, inputs_db])
    return msgspec.structs.replace(
        entry,
        output_sqnr_db=output if chain.inputs else None,
        chain_sqnr_db=chain_sqnr_db(output, chain.layers) if chain.layers else None,
    )


def _sides(shape: str | None) -> tuple[int, int]:
    if shape is None:
        return _SHAPE
    parts = shape.split("x")
    if len(parts) != 2 or not all(
        part.isdecimal() and 1 <= int(part) <= _LARGEST for part in parts
    ):
        raise SpecError(f"--shape ({shape[:60]}): expected two whole numbers, such as 4096x4096")
    return int(parts[0]), int(parts[1])


def _all(own: dict[str, StoredFormat], columns: int) -> list[StoredFormat]:
    known = {**stored_formats(), **own}.values()
    return [
        stored
        for stored in known
        if stored.storable
        and stored.name not in ("e8m0", "gguf_q8_1", "gguf_q8_k")
        and stored.fits(columns)
        and known_sqnr_db(stored).basis != "unknown"
    ]


def _kurtosis(matrix: np.ndarray | None, power: float | None) -> float | None:
    if matrix is None or not power:
        return None
    return float(np.mean(np.power(matrix.astype(np.float64), 4)) / power**2)


def _place(entry: FormatError, distribution: str) -> tuple[float, float]:
    ratio = entry.tensor_sqnr_db
    if ratio is None:
        ratio = entry.sqnr_db[distribution]
    return (-(ratio if ratio is not None else -1000.0), entry.bits_per_weight)


def _error(
    stored: StoredFormat,
    rows: int,
    columns: int,
    matrix: np.ndarray | None,
    power: float | None,
) -> FormatError:
    if not stored.fits(columns):
        raise SpecError(
            f"{stored.name}: needs rows of a multiple of {stored.multiple_of} weights, not {columns}"
        )
    known = {name: known_sqnr_db(stored, name, rows, columns) for name in DISTRIBUTIONS}
    own = None
    if matrix is not None and power and is_quantizable(stored):
        own = sqnr_db(matrix, quantized(matrix, stored))
    return FormatError(
        name=stored.name,
        library=stored.library,
        bits_per_weight=stored.bits_per_weight(rows, columns),
        ideal_bits_per_weight=stored.ideal_bits(rows, columns) / (rows * columns),
        sqnr_db={name: ratio.sqnr_db for name, ratio in known.items()},
        basis=known["gaussian"].basis,
        tensor_sqnr_db=own,
    )


def show_errors(found: FormatErrors) -> None:
    """Print size and error of formats, the best first."""
    out = console()
    out.print(f"{found.on}: {found.rows:,} x {found.columns:,} weights")
    if found.deviation is not None:
        shape = "" if found.kurtosis is None else f", kurtosis {found.kurtosis:.2f} (Gaussian: 3)"
        most = "" if found.largest is None else f", largest {found.largest:.1f} times that"
        out.print(f"root mean square {found.deviation:.4g}{shape}{most}")
    own = ("on the tensor",) if found.deviation is not None else ()
    table = table_of(
        "Bits and ratio of signal to quantization noise, the best first",
        *("format", "bits/weight", "ideal", *own, *DISTRIBUTIONS, *_asked(found), "basis"),
    )
    for entry in found.formats:
        table.add_row(
            entry.name,
            f"{entry.bits_per_weight:.4f}",
            f"{entry.ideal_bits_per_weight:.4f}",
            *([_ratio(entry.tensor_sqnr_db)] if own else []),
            *(_ratio(entry.sqnr_db[name]) for name in DISTRIBUTIONS),
            *([_ratio(entry.output_sqnr_db)] if found.inputs else []),
            *([_ratio(entry.chain_sqnr_db)] if found.layers else []),
            entry.basis,
        )
    print_table(out, table)


def _asked(found: FormatErrors) -> list[str]:
    """Return the headings of what errors were followed through."""
    headings = [f"with {found.inputs} inputs"] if found.inputs else []
    return [*headings, f"behind {found.layers} layers"] if found.layers else headings


def _ratio(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f} dB"
