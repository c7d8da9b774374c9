"""From a `config.json` to the description of a model, and to a recipe if it is quantized."""

from difflib import get_close_matches
from typing import Any

import msgspec

from costmodels.errors import NotModelledError, SpecError
from costmodels.huggingface.decoders import FULL, Fields
from costmodels.huggingface.families import DEFAULTS, FAMILIES
from costmodels.huggingface.keys import HARMLESS, QUANTIZATION, STRUCTURAL
from costmodels.huggingface.quantization import read_quantization
from costmodels.huggingface.reader import Reader, parse_document, shown
from costmodels.presets import preset_table
from costmodels.rules import check_model
from costmodels.specs.layouts import Dense, Latent
from costmodels.specs.model import Model
from costmodels.specs.precision import Precision, Quantization
from costmodels.specs.tables import build

UNQUANTIZED_RECIPE = "bf16-mixed"
"""Recipe of the roles that a quantization section says nothing of."""

_NAMED_NOTES = 100
_QUOTES = "'\""
_WRAPPED = ("text_config", "llm_config", "language_config")
_SHARED = ("tie_word_embeddings",)
"""Keys of a wrapper that its text model uses where it has none of its own."""
_QUANTIZED = ("quantization_config", "compression_config", "quantization")
_MODALITIES = ("vision_config", "audio_config", "speech_config", "video_config")
_WRAPPER_KEYS = frozenset(
    {
        *("image_token_id", "image_token_index", "video_token_id", "video_token_index"),
        *("audio_token_id", "audio_token_index", "boi_token_id", "boi_token_index"),
        *("eoi_token_id", "eoi_token_index", "vision_start_token_id", "vision_end_token_id"),
        *("mm_tokens_per_image", "image_seq_length", "spatial_merge_size", "projector_hidden_act"),
        *("multimodal_projector_bias", "vision_feature_layer", "language_model_only"),
        *("media_placeholder_token_id", "vision_feature_select_strategy", "ignore_index"),
        *("is_encoder_decoder", "vision_feature_dim", "processor_class"),
    }
)


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    """What a `config.json` says.

    Attributes
    ----------
    model : Model
        The description; its notes tell what was left out.
    precision : Precision or None
        The recipe of a quantized checkpoint.
    unknown_keys : tuple of str
        Keys that are not known, and were not used.
    """

    model: Model
    precision: Precision | None
    unknown_keys: tuple[str, ...]


def import_config(
    text: str, *, name: str, where: str = "config.json", strict: bool = False
) -> Imported:
    """Return the model that a `config.json` of the Hugging Face hub describes.

    Parameters
    ----------
    text : str
        The file.
    name : str
        Label of the model.
    where : str
        Name of the file, for messages.
    strict : bool
        Whether an unknown key is an error.

    Raises
    ------
    SpecError
        If the file is broken, a key is missing or wrong, or an unknown key is refused.
    NotModelledError
        If the family, or something that a key says, is not known.
    """
    document = parse_document(text, where)
    keys, family, notes = _text_model(document, where)
    if family not in FAMILIES:
        near = get_close_matches(_plain(family), FAMILIES, n=1, cutoff=0.6)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise NotModelledError(
            f"{where}: model_type '{_plain(family).strip(_QUOTES)}' is no known family: "
            f"{hint}known: {', '.join(FAMILIES)}"
        )
    keys.defaults = DEFAULTS.get(family, {})
    fields = FAMILIES[family](keys)
    section = _quantization_section(document, keys, where)
    quantization = None if section is None else read_quantization(section)
    unknown = _unknown_keys(keys, family, fields)
    if document is not keys.contents:
        unknown += _wrapper_unknown(document)
    if section is not None:
        unknown += tuple(
            f"{section.where.rpartition(': ')[2]}.{key}"
            for key in section.unread()
            if key not in QUANTIZATION
        )
    unknown = tuple(map(_plain, unknown))
    if strict and unknown:
        raise SpecError(
            f"{where}: key {unknown[0]} is unknown, and --strict refuses what is not used"
            + (f" (and {len(unknown) - 1} more)" if unknown[1:] else "")
        )
    notes += keys.notes + ([] if section is None else section.notes) + _unused(unknown, where)
    model = _built(
        fields
        | {
            "name": name,
            "notes": tuple(notes),
            "source": f"{where}, a config.json of model_type {family}",
        },
        where,
    )
    return Imported(
        model=model,
        precision=None if quantization is None else _recipe(quantization),
        unknown_keys=unknown,
    )


def _text_model(document: dict[str, Any], where: str) -> tuple[Reader, str, list[str]]:
    """Return the keys of the text model, its family, and what to say of a wrapper."""
    outer = Reader(document, where)
    family = outer.text("model_type")
    wrapped = next((key for key in _WRAPPED if isinstance(document.get(key), dict)), None)
    if wrapped is None:
        if family is None:
            raise SpecError(f"{where}: model_type is missing; it names the family of the model")
        return outer, family, []
    shared = {key: document[key] for key in _SHARED if document.get(key) is not None}
    own = {key: value for key, value in document[wrapped].items() if value is not None}
    inner = Reader(document[wrapped] | shared | own, f"{where}: {wrapped}")
    stated = inner.text("model_type") or family or ""
    others = [key for key in _MODALITIES if document.get(key) is not None]
    beside = f" ({', '.join(others)} left out)" if others else ""
    note = (
        f"{where} describes a multimodal model of type {_plain(family or 'none')}: only its text "
        f"model is taken{beside}"
    )
    return inner, stated, [note]


def _plain(text: str) -> str:
    """Return a key for people: as it is where it is short and printable."""
    return text if text.isascii() and text.isprintable() and len(text) <= 80 else shown(text)


def _quantization_section(document: dict[str, Any], keys: Reader, where: str) -> Reader | None:
    """Return the quantization section of the file or of its text model, None without."""
    for source, place in ((document, where), (keys, keys.where)):
        for key in _QUANTIZED:
            value = source.value(key) if isinstance(source, Reader) else source.get(key)
            if value is None or value == {}:
                continue
            if not isinstance(value, dict):
                raise SpecError(f"{place}: {key} ({shown(value)}): expected an object")
            return Reader(value, f"{place}: {key}")
    return None


def _unknown_keys(keys: Reader, family: str, fields: Fields) -> tuple[str, ...]:
    """Return the unknown keys; raise for one that is known to change the architecture."""
    unknown = []
    for key, value in keys.unread().items():
        if key in HARMLESS or key in _QUANTIZED:
            continue
        if key not in STRUCTURAL:
            unknown.append(key)
        elif key == "layer_types" and _all_full(value, fields):
            continue
        elif value is not None and value not in STRUCTURAL[key]:
            raise NotModelledError(
                f"{keys.where}: {key} ({shown(value)}): changes the architecture, and is not "
                f"modelled for the family {family}"
            )
    return tuple(unknown)


def _all_full(words: Any, fields: Fields) -> bool:
    """Return whether a list says of every layer what a family without such a list has."""
    full = isinstance(words, list) and all(word == FULL for word in words)
    layouts = fields.get("layouts", (Dense(),))
    return full and all(isinstance(layout, Dense | Latent) for layout in layouts)


def _wrapper_unknown(document: dict[str, Any]) -> tuple[str, ...]:
    known = HARMLESS | _WRAPPER_KEYS | set(_WRAPPED) | set(_MODALITIES) | set(_QUANTIZED)
    return tuple(key for key in document if key not in known | {"tie_word_embeddings"})


def _unused(unknown: tuple[str, ...], where: str) -> list[str]:
    notes = [f"key {key} of {where} is unknown and was not used" for key in unknown[:_NAMED_NOTES]]
    if unknown[_NAMED_NOTES:]:
        notes.append(
            f"{len(unknown) - _NAMED_NOTES} more keys of {where} are unknown and were not used"
        )
    return notes


def _built(fields: dict[str, Any], where: str) -> Model:
    mixture = fields.get("mixture")
    if mixture is not None and len(mixture.dense_layers) == fields["num_hidden_layers"]:
        fields = fields | {"mixture": None}
    try:
        model = Model(**fields)
        check_model(model)
    except SpecError as error:
        raise SpecError(f"{where}: {error}") from None
    heads, shared = model.num_attention_heads, model.num_key_value_heads
    if heads % shared:
        raise SpecError(
            f"{where}: num_attention_heads ({heads}): must be a multiple of the key and value "
            f"heads ({shared})"
        )
    return model


def _recipe(quantization: Quantization) -> Precision:
    table = preset_table("precision", UNQUANTIZED_RECIPE)
    changes = {"name": f"{quantization.method} weights", "quantization": quantization}
    return msgspec.structs.replace(build(Precision, table, "precision"), **changes)
