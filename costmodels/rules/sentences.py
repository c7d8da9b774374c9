"""The sentence that a refusal gives: the field, its value, and what would be valid."""

import numpy as np

from costmodels.analysis import evaluate
from costmodels.columns import largest
from costmodels.compilation import Columns
from costmodels.leaves import Sections, field_value
from costmodels.quantities import parameters_of
from costmodels.rules.declaration import Rule


def shown(name: str, columns: Columns) -> str:
    """Return the value of a quantity in the first row, of kinds of layers the largest, as text."""
    value = evaluate(columns, (name,))[name]
    if isinstance(value, tuple):
        value = largest(value)
    return str(np.asarray(value).reshape(-1)[0])


def sentence(rule: Rule, sections: Sections, columns: Columns) -> str:
    """Return what is wrong with a field, and what would be valid."""
    named = [name for name in parameters_of(rule.function) if f"{{{name}}}" in rule.requirement]
    inputs = {name: shown(name, columns) for name in named}
    value = field_value(sections, rule.field)
    text = getattr(value, "value", value)
    if isinstance(value, tuple):
        text = [getattr(member, "value", member) for member in value]
    return f"{rule.field} ({text}): {rule.requirement.format(**inputs)}"
