"""Activations on the host by the closed forms, against a decoder that really moves them, exactly.

In fp32, on a CPU, where the host is a second copy: when the forward of one of the first layers ends,
every storage that saved-tensor hooks saw is copied once and given up, and comes back when the
backward asks for it. Measured are what lies on the host between forward and backward, what autograd
keeps on the device then (with all that left and something else still holds), and what came back.
Gradients have the bits of a step without offload, or the program fails.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from costmodels.scenario import Scenario
from costmodels.specs.plan import Recompute, RecomputeMethod, RecomputeModule
from validation.cases import Case
from validation.saved_tensors import module_lists
from validation.small_models import MODELS, model_table, predicted, scenario_of

SUITE = "tensors-offloaded"

NAMES = (
    *("dense", "gated", "grouped queries", "mixture", "shared experts", "latent mixture"),
    *("mixture beside attention", "one further token"),
)
"""Models that are moved: a layer of every kind, layers that differ, one behind the chunk's own."""

DEEP = "five layers"
"""Name of a model whose layers are computed again in groups, or some of them."""

_BATCH, _LENGTH = 2, 8
_PLACES = (
    ("on the host", "chunk_offloaded_bytes", "host_bytes", "lies on the host until the backward"),
    ("on the device", "chunk_activation_bytes", "device_bytes", "stays on the accelerator"),
    ("came back", "chunk_offloaded_bytes", "returned_bytes", "comes back in the backward"),
)


_USUAL = (RecomputeModule.CORE_ATTN,)


class Setting(NamedTuple):
    """What a decoder computes again and how many of its layers send their tensors away."""

    layers: int
    recompute: Recompute = Recompute.NONE
    modules: tuple[RecomputeModule, ...] = _USUAL
    method: RecomputeMethod = RecomputeMethod.UNIFORM
    number: int | None = None

    @property
    def name(self) -> str:
        """Return how a case is named."""
        usual = self.modules == _USUAL
        what = self.recompute.value if usual else ", ".join(self.modules)
        which = "" if self.number is None else f", {self.method.value} {self.number}"
        return f"{self.layers} offloaded, recompute {what}{which}"


def offloaded_cases(models: Mapping[str, Mapping[str, Any]] | None = None) -> list[Case]:
    """Return what of each model leaves, stays and comes back, with every recomputation.

    Parameters
    ----------
    models : mapping of str to mapping, optional
        Tables of models by name; those of `NAMES` and a deeper one if left out.

    Returns
    -------
    list of Case
        Needs torch.
    """
    chosen = models or {name: MODELS[name] for name in NAMES} | {
        DEEP: model_table(gated=True, num_hidden_layers=5)
    }
    return [
        case
        for name, table in chosen.items()
        for setting in _settings(table)
        for case in _cases(name, table, setting)
    ]


def _settings(table: Mapping[str, Any]) -> Iterator[Setting]:
    """Yield each recomputation, and all modules together, with one layer offloaded and with all.

    Of models of more than three layers some are computed again, or two at once, too.
    """
    model = scenario_of(table).model
    *_, every = module_lists(model)
    ways = [*((recompute, _USUAL) for recompute in Recompute), (Recompute.SELECTIVE, every)]
    for recompute, modules in ways:
        for layers in (1, model.num_hidden_layers):
            yield Setting(layers, recompute, modules)
    if model.num_hidden_layers > _SHALLOW:
        for method in RecomputeMethod:
            for layers in range(1, model.num_hidden_layers + 1):
                yield Setting(layers, Recompute.FULL, method=method, number=2)


_SHALLOW = 3


def _cases(name: str, table: Mapping[str, Any], setting: Setting) -> Iterator[Case]:
    from validation.torch_programs import counting, offloading

    scenario = offloaded_scenario(table, setting)
    said = predicted(scenario, ("chunk_offloaded_bytes", "chunk_activation_bytes"))
    block = setting.method is RecomputeMethod.BLOCK
    repeated = offloading.Repeated(
        setting.recompute,
        setting.modules,
        first_layers=setting.number if block else None,
        group_size=1 if block else setting.number or 1,
    )
    moved = offloading.offloaded_step(scenario.model, setting.layers, _BATCH, _LENGTH, repeated)
    for place, quantity, measured, claim in _PLACES:
        yield Case(
            suite=SUITE,
            name=f"{name}: {setting.name}, {place}",
            claim=f"{quantity} is what {claim}",
            prediction=said[quantity][0][0],
            measurement=getattr(moved, measured),
            unit="byte",
            tolerance_fraction=0,
            tolerance_reason="both count the same integers",
            method=f"storages of a decoder that moves them, {counting.torch_version()}",
            source="validation/torch_programs/offloading.py, blocks.py",
        )


def offloaded_scenario(table: Mapping[str, Any], setting: Setting) -> Scenario:
    """Return the scenario of a small model whose first layers keep their tensors on the host."""
    return scenario_of(
        table,
        plan={
            "saved_tensors": "torch-eager-cpu",
            "recompute": setting.recompute.value,
            "recompute_modules": list(setting.modules),
            "recompute_method": setting.method.value,
            **({} if setting.number is None else {"recompute_num_layers": setting.number}),
            "offload_activations_num_layers": setting.layers,
            "micro_batch_size": _BATCH,
        },
        workload={"sequence_length": _LENGTH},
        cluster={"host_bandwidth_bytes_per_s": 1e10},
    )
