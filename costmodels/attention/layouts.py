"""Quantities that each attention layout computes in its own way."""

from types import MappingProxyType

from costmodels.attention import dense
from costmodels.quantities import ALGORITHM, KIND, Basis, Quantity, Scope

_DAO = "Dao et al. 2022, arXiv:2205.14135, section 3; Dao 2023, arXiv:2307.08691, section 3.1"

ATTENDED_PAIRS = Quantity(
    name="attended_pairs",
    symbol="P",
    unit="pair",
    scope=Scope.LAYER,
    axes=(KIND,),
    definition="Pairs of query and key that are not masked, for one head and sequence.",
    basis=Basis.EXACT,
    formula=ALGORITHM,
    source="by definition: s (s + 1) / 2 for dense causal attention, s^2 without a mask",
    variants=MappingProxyType({"dense": dense.attended_pairs}),
    selector="layout",
)

EXECUTED_PAIRS = Quantity(
    name="executed_pairs",
    unit="pair",
    scope=Scope.LAYER,
    axes=(KIND,),
    basis=Basis.ASSUMED,
    definition="Pairs of query and key whose score is computed, for one head and sequence.",
    formula=ALGORITHM,
    source=_DAO,
    variants=MappingProxyType({"dense": dense.executed_pairs}),
    selector="layout",
)

LAYOUTS = MappingProxyType({"dense": "every key, or every key that is not in the future"})
"""The layouts that are modelled, by the `type` of their description."""
