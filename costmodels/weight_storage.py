"""Whole models in a number format: which tensor in which format, and the bytes of each."""

import tomllib
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from costmodels.errors import SpecError, not_found_message
from costmodels.gguf_files import FILE_TYPES, gguf_blocks
from costmodels.model_tensors import Role, Tensor, model_tensors
from costmodels.number_formats import layouts
from costmodels.number_formats.layouts import StoredFormat, stored_format
from costmodels.specs.model import Model

_MATRICES = (Role.ATTENTION, Role.FFN, Role.EXPERTS)
_GGUF = "gguf-"


class WeightRecipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the weights of a model are stored.

    Attributes
    ----------
    name : str
        Name.
    matrices, others : str
        Formats of the matrices of layers, and of all other tensors.
    embedding, attention, ffn, experts, router, head, vectors : str or None
        Format of one role, where it differs.
    file_type : str or None
        File type of GGUF, which chooses a format for each tensor by itself.
    importance : bool
        Whether the quantizer of GGUF has an importance matrix.
    description, source : str
        One line for people; where it is stated.
    """

    name: str
    description: str
    source: str
    matrices: str = "bf16"
    others: str = "bf16"
    embedding: str | None = None
    attention: str | None = None
    ffn: str | None = None
    experts: str | None = None
    router: str | None = None
    head: str | None = None
    vectors: str | None = None
    file_type: str | None = None
    importance: bool = False

    def format_of(self, role: Role) -> str:
        """Return the name of the format of a role."""
        own: str | None = getattr(self, role.value)
        if own is not None:
            return own
        return self.matrices if role in _MATRICES else self.others


class StoredTensor(NamedTuple):
    """A tensor in its format.

    Attributes
    ----------
    tensor : Tensor
        The tensor.
    stored : StoredFormat
        Its format.
    stored_bytes : int
        What it takes [byte].
    """

    tensor: Tensor
    stored: StoredFormat
    stored_bytes: int


@lru_cache(maxsize=1)
def weight_recipes() -> Mapping[str, WeightRecipe]:
    """Return every recipe by its name, the file types of GGUF among them."""
    file = resources.files(layouts.__package__) / "data" / "weights.toml"
    tables = tomllib.loads(file.read_text(encoding="utf-8"))
    found = {
        name: msgspec.convert({"name": name} | table, WeightRecipe)
        for name, table in tables.items()
    }
    for file_type in FILE_TYPES:
        # The smallest types are refused without an importance matrix, and IQ3_XXS is published so.
        importance = file_type in _WITH_IMPORTANCE
        found[_GGUF + file_type] = WeightRecipe(
            name=_GGUF + file_type,
            file_type=file_type,
            importance=importance,
            description=f"GGUF {file_type}, "
            + ("with" if importance else "without")
            + " importance matrix",
            source="github.com/ggml-org/llama.cpp: src/llama-quant.cpp",
        )
    return MappingProxyType(found)


_WITH_IMPORTANCE = frozenset({"IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ3_XXS"})


def weight_recipe(
    name: str, own: Mapping[str, StoredFormat] = MappingProxyType({})
) -> WeightRecipe:
    """Return how weights are stored, by a recipe's name or that of a format.

    Parameters
    ----------
    name : str
        A name of `weight_recipes`; or a format of matrices, the other tensors in bf16.
    own : mapping of str to StoredFormat
        Further formats of the user.

    Raises
    ------
    SpecError
        If there is neither.
    """
    known = weight_recipes()
    if name in known:
        return known[name]
    try:
        stored = stored_format(name, own)
    except SpecError:
        names = [*known, *layouts.stored_formats(), *own]
        message = not_found_message(what="storage of weights", name=name, known=names)
        raise SpecError(message) from None
    return WeightRecipe(
        name=name,
        matrices=name,
        description=f"matrices of layers in {name}, the rest in bf16",
        source=stored.source,
    )


def stored_tensors(
    model: Model,
    recipe: WeightRecipe,
    own: Mapping[str, StoredFormat] = MappingProxyType({}),
) -> tuple[StoredTensor, ...]:
    """Return every tensor of a model in its format.

    Parameters
    ----------
    model : Model
        The model.
    recipe : WeightRecipe
        How its weights are stored.
    own : mapping of str to StoredFormat
        Further formats of the user.

    Raises
    ------
    SpecError
        If a matrix cannot be stored in its format.
    """
    tensors = model_tensors(model)
    if recipe.file_type is None:
        names = tuple(recipe.format_of(tensor.role) for tensor in tensors)
    else:
        names = gguf_blocks(model, tensors, recipe.file_type, importance=recipe.importance)
    formats = {name: stored_format(name, own) for name in set(names)}
    return tuple(
        _stored(tensor, formats[name]) for tensor, name in zip(tensors, names, strict=True)
    )


def _stored(tensor: Tensor, stored: StoredFormat) -> StoredTensor:
    if not stored.storable:
        raise SpecError(f"{stored.name}: tensors are not kept in it")
    if not stored.fits(tensor.columns):
        raise SpecError(
            f"{stored.name}: needs rows of a multiple of {stored.multiple_of} weights, and "
            f"{tensor.name} has {tensor.columns:,}"
        )
    size = int(stored.tensor_bytes(tensor.rows, tensor.columns, tensor.matrix_count))
    return StoredTensor(tensor, stored, size)


def bytes_by_role(tensors: tuple[StoredTensor, ...]) -> dict[Role, int]:
    """Return the bytes of stored tensors by what they are for [byte]."""
    found = dict.fromkeys(Role, 0)
    for entry in tensors:
        found[entry.tensor.role] += entry.stored_bytes
    return found


def bits_per_weight(tensors: tuple[StoredTensor, ...]) -> float:
    """Return the stored bits of all tensors over their weights [bit]."""
    weights = sum(entry.tensor.elements_count for entry in tensors)
    return 8 * sum(entry.stored_bytes for entry in tensors) / weights
