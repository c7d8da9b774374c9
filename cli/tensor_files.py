"""Tensors from files: .npy, and .safetensors, whose header says where each one lies."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from costmodels.errors import SpecError, not_found_message
from costmodels.number_formats.encoding import decode
from costmodels.number_formats.scalars import scalar_formats

_FORMATS = {
    "F64": "fp64",
    "F32": "fp32",
    "F16": "fp16",
    "BF16": "bf16",
    "F8_E4M3": "fp8_e4m3fn",
    "F8_E5M2": "fp8_e5m2",
}
_LONGEST_HEADER, _MOST_ELEMENTS = 1 << 27, 1 << 30


def read_tensor(text: str) -> NDArray[np.float32]:
    """Return the matrix that a file holds.

    Parameters
    ----------
    text : str
        ``FILE.npy``, ``FILE.safetensors``, or ``FILE.safetensors:TENSOR`` where there are several.

    Returns
    -------
    ndarray of float32, shape (N, K)
        More than two dimensions count as rows, one as a single row.

    Raises
    ------
    SpecError
        If the file cannot be read, or holds no such tensor of finite numbers.
    """
    path, _, name = text.partition(".safetensors:")
    file = Path(f"{path}.safetensors") if name else Path(text)
    try:
        if file.suffix == ".npy":
            found = np.load(file, allow_pickle=False)
        elif file.suffix == ".safetensors":
            found = _safetensors(file, name)
        else:
            raise SpecError(f"{file}: expected a file that ends with .npy or .safetensors")
    except (OSError, ValueError, EOFError) as error:
        raise SpecError(f"{file}: cannot be read: {error}") from None
    return _matrix(found, text)


def _matrix(found: Any, text: str) -> NDArray[np.float32]:
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "fiu" or found.size == 0:
        raise SpecError(f"{text}: holds no numbers")
    matrix = found.astype(np.float32).reshape(-1, found.shape[-1] if found.ndim else 1)
    if not np.isfinite(matrix).all():
        raise SpecError(f"{text}: holds numbers that are infinite or none")
    return matrix


def _safetensors(file: Path, name: str) -> NDArray[np.float64]:
    with file.open("rb") as opened:
        size = int.from_bytes(opened.read(8), "little")
        if not 2 <= size <= _LONGEST_HEADER:
            raise SpecError(f"{file}: is no safetensors file")
        try:
            header = json.loads(opened.read(size))
        except ValueError:
            raise SpecError(f"{file}: is no safetensors file") from None
        tensors = {
            key: entry
            for key, entry in header.items()
            if isinstance(entry, dict) and "data_offsets" in entry
        }
        if not name and len(tensors) == 1:
            name = next(iter(tensors))
        if name not in tensors:
            if not name:
                names = ", ".join(sorted(tensors)[:8]) + (" ..." if len(tensors) > 8 else "")
                raise SpecError(f"{file}: holds several tensors; name one, FILE:TENSOR: {names}")
            what = f"tensor of {file}"
            raise SpecError(not_found_message(what=what, name=name, known=tensors))
        return _tensor(opened, tensors[name], 8 + size, f"{file}:{name}")


def _tensor(opened: Any, entry: dict[str, Any], start: int, said: str) -> NDArray[np.float64]:
    kind = entry.get("dtype")
    if kind not in _FORMATS:
        raise SpecError(f"{said}: holds {kind}; expected one of {', '.join(_FORMATS)}")
    source = scalar_formats()[_FORMATS[kind]]
    shape = [int(side) for side in entry["shape"]]
    count = int(np.prod(shape))
    first, last = (int(offset) for offset in entry["data_offsets"])
    width = source.bits // 8
    if count > _MOST_ELEMENTS or last - first != count * width:
        raise SpecError(f"{said}: has {last - first} bytes for {count} numbers of {width}")
    opened.seek(start + first)
    raw = opened.read(last - first)
    if len(raw) != last - first:
        raise SpecError(f"{said}: the file ends before it")
    return decode(np.frombuffer(raw, dtype=f"<u{width}"), source).reshape(shape)
