"""Which sizes would end buckets of whole tensors at the same ones."""

from costmodels.analysis import evaluate
from costmodels.gradient_order import arriving_parameters, caps_parameters, equal_caps
from costmodels.leaves import declared_type
from costmodels.specs.base import declaration
from simulator.facts import Facts


def equal_buckets(facts: Facts) -> str:
    """Return which other sizes would end buckets of whole tensors at the same ones."""
    plan, model = facts.scenario.plan, facts.scenario.model
    values = evaluate(
        facts.columns,
        ("chunk_layers", "chunk_holds_embedding", "chunk_holds_head", "weight_element_bytes"),
    )
    element_bytes = int(values.pop("weight_element_bytes")[0])
    caps = caps_parameters(plan.gradient_bucket_parameters, element_bytes)
    held = {
        tuple(int(number[0]) for number in chunk)
        for stage in zip(*values.values(), strict=True)
        for chunk in zip(*stage, strict=True)
    }
    ranges = [
        equal_caps(
            arriving_parameters(
                model,
                layer_count=layers,
                holds_embedding=bool(first),
                holds_head=bool(last),
                tensor_parallel_size=plan.tensor_parallel_size,
            ),
            caps,
        )
        for layers, first, last in held
    ]
    meta = declaration(declared_type("plan.gradient_bucket_parameters"))
    stated = () if meta is None or meta.le is None else (int(meta.le),)
    least = max(entry[0] for entry in ranges)
    most = min(*stated, *(entry[1] for entry in ranges))
    if least >= most:
        return ""
    return (
        f"plan.gradient_bucket_parameters: from {least} to {most} would move nothing: buckets would "
        "end at the same tensors"
    )
