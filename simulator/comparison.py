"""What differs between two answers, and which terms of a sum the difference comes from."""

from collections.abc import Sequence

from costmodels.analysis import inputs_of
from simulator.answer import Answer, Difference, Group, Term

_COMPARED = (
    ("memory", "worst_stage_bytes"),
    ("memory", "headroom_bytes"),
    ("time", "step_s"),
    ("time", "simulated_step_s"),
    ("time", "tokens_per_s"),
    ("time", "tokens_per_s_per_gpu"),
    ("compute", "model_flop"),
    ("compute", "hardware_flop"),
    ("compute", "mfu_fraction"),
    ("pipeline", "idle_fraction"),
    ("communication", "sent_bytes"),
    ("cost", "step_usd"),
    ("cost", "million_tokens_usd"),
    ("cost", "run_s"),
    ("cost", "run_usd"),
    ("cost", "run_energy_j"),
)


def differences(before: Answer, after: Answer) -> tuple[Difference, ...]:
    """Return how the numbers that people compare first differ between two answers."""
    found = []
    for group, name in _COMPARED:
        old, new = _value(before, group, name), _value(after, group, name)
        if old is None and new is None:
            continue
        difference = None if old is None or new is None else new - old
        terms = () if difference is None else _terms(before, after, name)
        explained = sum(term.difference for term in terms)
        found.append(
            Difference(
                name=f"{group}.{name}",
                before=old,
                after=new,
                difference=difference,
                terms=terms,
                remainder=0.0 if difference is None or not terms else difference - explained,
            )
        )
    return tuple(found)


def _group(answer: Answer, group: str) -> Group:
    return getattr(answer, group)  # type: ignore[no-any-return]


def _value(answer: Answer, group: str, name: str) -> float | None:
    value: float | None = _group(answer, group).get(name)
    return value


def _terms(before: Answer, after: Answer, name: str) -> tuple[Term, ...]:
    if name == "step_s":
        return _sum_terms(before.time, after.time, inputs_of("step_s"))
    if name == "worst_stage_bytes":
        old, new = _worst(before), _worst(after)
        return _sum_terms(old, new, inputs_of("stage_bytes"))
    return ()


def _worst(answer: Answer) -> Group:
    """Return the memory of the stage that needs most, by component."""
    index = answer.memory["worst_stage_index"]
    return {
        name: value[index] if isinstance(value, list) else value
        for name, value in answer.memory.items()
    }


def _sum_terms(before: Group, after: Group, names: Sequence[str]) -> tuple[Term, ...]:
    return tuple(
        Term(
            name=name,
            before=before[name],
            after=after[name],
            difference=after[name] - before[name],
        )
        for name in names
    )
