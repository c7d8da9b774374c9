"""Small models of every kind of layer with drawn sizes, and the shapes of their batches."""

from typing import Any

from hypothesis import strategies as st

from validation.small_models import model_table

SMALL = st.integers(1, 24)
KINDS = ("dense", "gated", "grouped queries", "mixture", "latent")
LAID_OUT = (
    *("sliding", "chunked", "dilated", "dilated-heads", "infini", "linear", "compressive"),
    *("gated-delta", "lightning"),
)


@st.composite
def tables(draw: st.DrawFn, kind: str) -> dict[str, Any]:
    """Return the table of a model of a kind, its sizes drawn."""
    heads = draw(st.integers(1, 6))
    changes: dict[str, Any] = {
        "hidden_size": draw(SMALL),
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "head_size": draw(st.integers(1, 9)),
        "intermediate_size": draw(SMALL),
        "vocabulary_size": draw(SMALL),
        "gated": kind == "gated" or (kind != "dense" and draw(st.booleans())),
        "num_hidden_layers": 1,
    }
    options = {
        "norm": st.sampled_from(("rmsnorm", "layernorm", "layernorm-no-bias")),
        "positions": st.sampled_from(("rotary", "learned", "none")),
        "norms_per_layer": st.sampled_from((2, 4)),
        "attention_bias": st.booleans(),
        "attention_output_bias": st.booleans(),
        "ffn_bias": st.booleans(),
        "tied_embeddings": st.booleans(),
    }
    changes |= {name: draw(strategy) for name, strategy in options.items()}
    if kind == "latent" or kind in LAID_OUT:
        changes["layouts"] = [draw(latent_layouts() if kind == "latent" else layouts_of(kind))]
    else:
        changes |= draw(softmax_options())
    if kind == "dilated-heads":
        changes["num_attention_heads"] *= len(changes["layouts"][0]["dilation_rates"])
        changes["num_key_value_heads"] = changes["num_attention_heads"]
        heads = changes["num_attention_heads"]
    if kind in ("grouped queries", "sliding", "dilated-heads", "infini", "linear", "compressive"):
        changes["num_attention_heads"] = heads * draw(st.integers(2, 4))
    if kind == "mixture":
        changes["mixture"] = draw(mixtures())
    return model_table(**changes)


def layouts_of(kind: str) -> st.SearchStrategy[dict[str, Any]]:
    """Return layouts of a type, windows and segments longer and shorter than sequences."""
    tokens = st.integers(1, 15)
    lists = st.integers(1, 3).flatmap(
        lambda count: st.fixed_dictionaries(
            {
                "segment_lengths": st.lists(tokens, min_size=count, max_size=count),
                "dilation_rates": st.lists(st.integers(1, 5), min_size=count, max_size=count),
            }
        )
    )
    delta = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 5)).map(
        lambda sizes: {
            "key_heads": sizes[0],
            "value_heads": sizes[0] * sizes[1],
            "key_head_size": sizes[2],
            "value_head_size": 6 - sizes[2],
            "convolution_width": 1 + sizes[1],
        }
    )
    truths = st.booleans()
    flags = ("delta_rule", "first_read", "last_update", "decayed")
    found: dict[str, st.SearchStrategy[dict[str, Any]]] = {
        "sliding": st.fixed_dictionaries({"window": tokens, "sink_tokens": st.integers(0, 4)}),
        "dilated-heads": dilations(),
        "linear": st.fixed_dictionaries(
            {"scan_length": st.integers(0, 15), "normalized": st.booleans()}
        ),
        "compressive": compressions(),
        "chunked": tokens.map(lambda size: {"chunk_length": size}),
        "dilated": lists,
        "infini": st.fixed_dictionaries({"segment_length": tokens, **dict.fromkeys(flags, truths)}),
        "gated-delta": delta,
        "lightning": tokens.map(lambda size: {"block_length": size}),
    }
    return found[kind].map(lambda fields: {"type": kind, **fields})


@st.composite
def dilations(draw: st.DrawFn) -> dict[str, Any]:
    """Return a dilation for each share of the heads, its keys near the query or in segments."""
    rates = draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))
    if draw(st.booleans()):
        return {"dilation_rates": rates, "keys_per_query": draw(st.integers(1, 5))}
    size = st.integers(1, 15)
    lengths = draw(st.lists(size, min_size=len(rates), max_size=len(rates)))
    return {
        "dilation_rates": rates,
        "segment_lengths": lengths,
        "every_residue": draw(st.booleans()),
    }


def compressions() -> st.SearchStrategy[dict[str, Any]]:
    """Return memories, perhaps without a plain one."""
    sizes = st.tuples(*[st.integers(1, 3)] * 3, st.integers(0, 2))
    return sizes.map(
        lambda drawn: {
            "segment_length": drawn[0] * drawn[1],
            "memory_tokens": drawn[3] * drawn[0] * drawn[1],
            "compressed_tokens": drawn[2],
            "compression_rate": drawn[0],
        }
    )


def latent_layouts() -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {
            "type": st.just("latent"),
            "query_rank": st.integers(0, 12),
            "key_value_rank": st.integers(1, 12),
            "unrotated_size": st.integers(1, 9),
            "rotated_size": st.integers(1, 9),
            "value_size": st.integers(1, 9),
        }
    )


def softmax_options() -> st.SearchStrategy[dict[str, Any]]:
    norms = ("none", "head", "full", "unscaled")
    return st.fixed_dictionaries(
        {
            "layouts": st.sampled_from(
                [[{"type": "dense", "causal": flag}] for flag in (True, False)]
            ),
            "query_key_norm": st.sampled_from(norms),
            "attention_sinks": st.booleans(),
            "attention_output_gate": st.booleans(),
        }
    )


@st.composite
def mixtures(draw: st.DrawFn) -> dict[str, Any]:
    experts = draw(st.integers(2, 7))
    shared = draw(st.integers(0, 12))
    return {
        "expert_count": experts,
        "experts_per_token": draw(st.integers(1, experts)),
        "expert_intermediate_size": draw(SMALL),
        "shared_intermediate_size": shared,
        "shared_gate": shared > 0 and draw(st.booleans()),
        "router_bias": draw(st.booleans()),
    }


shapes = st.tuples(st.integers(1, 3), st.integers(1, 12))
