"""Work of a step by component and stage, beside published conventions."""

import msgspec

from costmodels.analysis import CATALOGUE
from costmodels.scenario import Scenario
from costmodels.work import COMPONENTS
from simulator.accounting.table import Table, identity
from simulator.serving import require_training


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """Work of one component in a step, on all GPUs of each stage [FLOP].

    Attributes
    ----------
    name : str
        Component.
    model_forward_flop, model_backward_flop : list of float
        What the model needs, by stage.
    hardware_forward_flop, hardware_backward_flop : list of float
        What is executed, nothing repeated, by stage.
    """

    name: str
    model_forward_flop: list[float]
    model_backward_flop: list[float]
    hardware_forward_flop: list[float]
    hardware_backward_flop: list[float]


class Convention(msgspec.Struct, frozen=True, kw_only=True):
    """A published way to count the work of a step, beside what Shardwise counts.

    Attributes
    ----------
    name, definition, source : str
        From the catalogue.
    flop : float
        Work of the step [FLOP].
    model_ratio, hardware_ratio : float
        Over model FLOP and over hardware FLOP [ratio].
    """

    name: str
    definition: str
    source: str
    flop: float
    model_ratio: float
    hardware_ratio: float


class WorkAccount(msgspec.Struct, frozen=True, kw_only=True):
    """Work of a step by component and stage, and the published conventions beside it.

    Attributes
    ----------
    schema_version, shardwise_version, scenario_hash
        As of an `Answer`.
    components : tuple of Work
        In the order of a layer.
    recompute_flop : list of float
        Forwards that the backward repeats, by stage [FLOP].
    stage_gpu_count : int
        GPUs of a stage [count].
    model_flop, hardware_flop : float
        What the model needs and what is executed, of the whole step [FLOP].
    conventions : tuple of Convention
        Model FLOP, hardware FLOP and the published conventions.
    """

    schema_version: int
    shardwise_version: str
    scenario_hash: str
    components: tuple[Work, ...]
    recompute_flop: list[float]
    stage_gpu_count: int
    model_flop: float
    hardware_flop: float
    conventions: tuple[Convention, ...]


_CONVENTIONS = (
    "model_flop",
    "hardware_flop",
    "full_attention_flop",
    "six_nd_flop",
    "six_active_nd_flop",
    "palm_flop",
    "palm_causal_flop",
    "megatron_flop",
    "megatron_recompute_flop",
)


def work_account(scenario: Scenario) -> WorkAccount:
    """Return the work of a step by component and stage, and published conventions beside it."""
    require_training(scenario)
    names = [name for component in COMPONENTS for name in _phases(component).values()]
    table = Table(scenario, names, _CONVENTIONS, ("stage_gpu_count",), ("stage_recompute_flop",))
    components = tuple(
        Work(
            name=component,
            **{field: table.numbers(name) for field, name in _phases(component).items()},
        )
        for component in COMPONENTS
    )
    model, hardware = table.one("model_flop"), table.one("hardware_flop")
    return WorkAccount(
        **identity(scenario),
        components=components,
        recompute_flop=table.numbers("stage_recompute_flop"),
        stage_gpu_count=table.one("stage_gpu_count"),
        model_flop=model,
        hardware_flop=hardware,
        conventions=tuple(
            Convention(
                name=name,
                definition=CATALOGUE[name].definition,
                source=CATALOGUE[name].source,
                flop=table.one(name),
                model_ratio=table.one(name) / model,
                hardware_ratio=table.one(name) / hardware,
            )
            for name in _CONVENTIONS
        ),
    )


def _phases(component: str) -> dict[str, str]:
    """Return the quantity of each number of a component's work."""
    return {
        "model_forward_flop": f"stage_model_{component}_forward_flop",
        "model_backward_flop": f"stage_model_{component}_backward_flop",
        "hardware_forward_flop": f"stage_{component}_forward_flop",
        "hardware_backward_flop": f"stage_{component}_backward_flop",
    }
