"""What a step and a run cost: GPU-hours, dollars and energy.

Accelerators are taken to draw their full power through the step: an upper bound, stated as such.
"""

from costmodels.columns import Column, as_float, ceil_div
from costmodels.quantities import Basis, Scope, quantity

_UPPER = "upper bound: full power through the whole step"


@quantity(
    "J",
    Scope.TOTAL,
    basis=Basis.ASSUMED,
    group="cost",
    formula="step_s * accelerator_count * (accelerator_power_w + host_power_w)"
    " * power_usage_effectiveness",
    source=_UPPER,
)
def step_energy_j(
    step_s: Column,
    accelerator_count: Column,
    accelerator_power_w: Column,
    host_power_w: Column,
    power_usage_effectiveness: Column,
) -> Column:
    """Return the energy of a step, cooling and losses of the site included [J]."""
    power_w = accelerator_count * (accelerator_power_w + host_power_w)
    return step_s * power_w * power_usage_effectiveness


@quantity(
    "step",
    Scope.TOTAL,
    group="cost",
    basis=Basis.EXACT,
    formula="ceil_div(total_tokens, global_batch_size * sequence_length)",
    source="by definition",
)
def run_steps(total_tokens: Column, global_batch_size: Column, sequence_length: Column) -> Column:
    """Return the steps of the run [step].

    Examples
    --------
    >>> run_steps(15_600_000_000_000, 2048, 8192)
    929833
    """
    return ceil_div(total_tokens, global_batch_size * sequence_length)


@quantity(
    "s",
    Scope.TOTAL,
    basis=Basis.ASSUMED,
    group="cost",
    formula="1.0 * run_steps * step_s",
    source="no failures, evaluations or checkpoints",
)
def run_s(run_steps: Column, step_s: Column) -> Column:
    """Return the time of the run [s]."""
    return as_float(run_steps) * step_s


@quantity(
    "s",
    Scope.TOTAL,
    basis=Basis.ASSUMED,
    group="cost",
    formula="run_s * accelerator_count",
    source="by definition; 3600 of them are a GPU-hour",
)
def run_gpu_s(run_s: Column, accelerator_count: Column) -> Column:
    """Return the time of the run summed over its GPUs [s]."""
    return run_s * accelerator_count


@quantity(
    "J",
    Scope.TOTAL,
    basis=Basis.ASSUMED,
    group="cost",
    formula="1.0 * run_steps * step_energy_j",
    source=_UPPER,
)
def run_energy_j(run_steps: Column, step_energy_j: Column) -> Column:
    """Return the energy of the run [J]."""
    return as_float(run_steps) * step_energy_j


@quantity(
    "USD",
    Scope.TOTAL,
    basis=Basis.ASSUMED,
    group="cost",
    formula="step_s * accelerator_count * accelerator_price_usd_per_s",
    source="rent of the accelerators",
)
def step_usd(
    step_s: Column, accelerator_count: Column, accelerator_price_usd_per_s: Column
) -> Column:
    """Return the rent of a step [USD]."""
    return step_s * accelerator_count * accelerator_price_usd_per_s


@quantity(
    "USD",
    Scope.TOTAL,
    basis=Basis.ASSUMED,
    group="cost",
    formula="step_usd / (1.0 * global_batch_size * sequence_length) * 1000000.0",
    source="rent of the accelerators",
)
def million_tokens_usd(
    step_usd: Column, global_batch_size: Column, sequence_length: Column
) -> Column:
    """Return the rent of a million tokens [USD]."""
    return step_usd / (1.0 * global_batch_size * sequence_length) * 1000000.0


@quantity(
    "USD",
    Scope.TOTAL,
    basis=Basis.ASSUMED,
    group="cost",
    formula="1.0 * run_steps * step_usd",
    source="rent of the accelerators",
)
def run_usd(run_steps: Column, step_usd: Column) -> Column:
    """Return the rent of the run [USD]."""
    return as_float(run_steps) * step_usd
