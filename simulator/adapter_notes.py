"""What an answer says of adapters beside its numbers."""

import numpy as np

from costmodels.analysis import evaluate
from costmodels.specs.precision import Projection
from simulator.facts import Facts
from simulator.publishing import scalar


def trained(facts: Facts) -> str:
    """Return which part of a model its adapters are, and what is counted of the rest."""
    adapters = facts.scenario.precision.adapters
    if adapters is None:
        return ""
    found = evaluate(facts.columns, ("trained_parameters", "total_parameters"))
    own, whole = (int(scalar(found[name])) for name in ("trained_parameters", "total_parameters"))
    return (
        f"precision.adapters (rank {adapters.rank} on {', '.join(adapters.targets)}): {own:,} parameters "
        f"are trained beside {whole:,} frozen ones, {own / whole:.2%}; frozen matrices have no weight "
        "gradient, 4 N FLOP a token in place of 6 N, and gradients flow to the embedding's output"
    )


def other_targets(facts: Facts) -> str:
    """Return which other projections have adapters of the same sizes."""
    adapters = facts.scenario.precision.adapters
    if adapters is None:
        return ""
    gated = facts.scenario.model.gated
    members = [target for target in Projection if target is not Projection.GATE or gated]
    rows = np.arange(1, 2 ** len(members))
    chosen = {f"adapts_{target.value}": rows >> place & 1 for place, target in enumerate(members)}
    columns = facts.columns._replace(values=facts.columns.values | chosen)
    values = evaluate(columns, _OF_ADAPTERS)
    own = sum(1 << members.index(target) for target in adapters.targets) - 1
    same = np.ones(len(rows), dtype=bool)
    for kinds in values.values():
        for kind in kinds:
            column = np.broadcast_to(kind, rows.shape)
            same &= column == column[own]
    names = [
        "-".join(target.value for place, target in enumerate(members) if row >> place & 1)
        for row in rows[same].tolist()
        if row != own + 1
    ]
    if not names:
        return ""
    return (
        f"precision.adapters.targets: {' or '.join(names)} would move nothing: their adapters are as "
        "large, and keep as much"
    )


_OF_ADAPTERS = (
    "layer_adapter_parameters",
    "layer_adapter_bytes",
    "layer_activation_bytes",
    "adapter_state_bytes",
)
