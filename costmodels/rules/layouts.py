"""Layouts of attention: sizes that must agree, and those that are modelled."""

from costmodels.attention.layouts import ATTENTION_QUERY_SIZE, LAYOUTS
from costmodels.errors import NotModelledError, SpecError
from costmodels.leaves import Sections
from costmodels.serving.caches import CACHE_ELEMENTS
from costmodels.specs.layouts import Compressive, Dense, Dilated, DilatedHeads, Layout, type_of
from costmodels.specs.model import Model
from costmodels.specs.workload import Optimizer, WorkloadKind


def _check_branches(layout: Dilated | DilatedHeads) -> None:
    lengths, rates = layout.segment_lengths, layout.dilation_rates
    if len(lengths) != len(rates):
        raise SpecError(
            f"model.layouts ({type_of(layout)}, {len(lengths)} segment_lengths): must have as many "
            f"dilation_rates ({len(rates)})"
        )


def _check_dilations(model: Model, layout: DilatedHeads) -> None:
    """Raise unless keys are chosen in one way, and every dilation has as many heads."""
    keys, shares = layout.keys_per_query, len(layout.dilation_rates)
    if layout.segment_lengths:
        _check_branches(layout)
        if keys:
            raise SpecError(
                f"model.layouts (dilated-heads, keys_per_query {keys}): segment_lengths choose the "
                "keys already; leave one of them out"
            )
    elif not keys:
        raise SpecError(
            "model.layouts (dilated-heads, keys_per_query 0): must be at least 1 without "
            "segment_lengths"
        )
    elif layout.every_residue:
        raise SpecError("model.layouts (dilated-heads, every_residue true): needs segment_lengths")
    for field in ("num_attention_heads", "num_key_value_heads"):
        heads = getattr(model, field)
        if heads % shares:
            raise NotModelledError(
                f"model.layouts (dilated-heads, {shares} dilation_rates): model.{field} ({heads}) "
                "must be a multiple; other shares of heads are not modelled in a model's layers, see "
                "shardwise attention"
            )


def _check_compression(layout: Compressive) -> None:
    segment = layout.segment_length
    if segment % layout.compression_rate:
        raise SpecError(
            f"model.layouts (compressive, compression_rate {layout.compression_rate}): must divide "
            f"segment_length ({segment})"
        )
    if layout.memory_tokens % segment:
        raise SpecError(
            f"model.layouts (compressive, memory_tokens {layout.memory_tokens}): must be a multiple "
            f"of segment_length ({segment})"
        )


def check_layout(model: Model, layout: Layout) -> None:
    """Raise unless the sizes of a layout agree.

    Raises
    ------
    SpecError
        Naming the layout, its value and what would be valid.
    NotModelledError
        If heads are shared out in a way that has no model yet.
    """
    if isinstance(layout, Dilated):
        _check_branches(layout)
    if isinstance(layout, DilatedHeads):
        _check_dilations(model, layout)
    if isinstance(layout, Compressive):
        _check_compression(layout)


CACHED = tuple(name for name in CACHE_ELEMENTS.variants if name in ATTENTION_QUERY_SIZE.variants)
"""The layouts whose memory in inference is modelled."""


def _check_cached(model: Model) -> None:
    """Raise unless it is known what every layer caches."""
    for layout in model.layouts:
        tag = type_of(layout)
        if tag not in CACHED:
            raise NotModelledError(
                f"model.layouts ({tag}): what {tag} attention caches in inference is not modelled; "
                f"modelled: {', '.join(CACHED)}"
            )
        if isinstance(layout, Dense) and not layout.causal:
            raise SpecError(
                "model.layouts (dense, causal = false): a layer that attends to the future keeps "
                "no cache; inference needs causal = true"
            )


_BY_SHAPE = (Optimizer.ADAFACTOR, Optimizer.MUON, Optimizer.ADAM_8BIT)
"""Optimizers whose state follows from the shape of each tensor."""


def check_layouts(sections: Sections) -> None:
    """Raise unless every layout of a model is modelled for the workload.

    Raises
    ------
    SpecError
        If a layer that attends to the future is to keep a cache.
    NotModelledError
        Naming the layout, and those that are modelled.
    """
    model = sections.model
    if sections.workload.kind is not WorkloadKind.TRAINING:
        _check_cached(model)
        return
    for layout in model.layouts:
        tag = type_of(layout)
        if isinstance(layout, Compressive) and sections.workload.optimizer in _BY_SHAPE:
            raise NotModelledError(
                f"workload.optimizer ({sections.workload.optimizer.value}): its state of a compressor "
                "(model.layouts, compressive) is not modelled; use adam, sgd-momentum or sgd"
            )
        if tag not in LAYOUTS:
            raise NotModelledError(
                f"model.layouts ({tag}): work, memory and time of {tag} attention are not modelled "
                f"yet, parameters are (shardwise show model); modelled: {', '.join(LAYOUTS)}"
            )
