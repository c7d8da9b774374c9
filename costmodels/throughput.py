"""What a step time means: tokens a second, and the share of the peak that is used."""

from costmodels.columns import Column
from costmodels.quantities import Basis, Scope, quantity

_CHOWDHERY = "Chowdhery et al. 2022, arXiv:2204.02311, appendix B"


@quantity(
    "token/s",
    Scope.TOTAL,
    basis=Basis.ASSUMED,
    group="time",
    formula="1.0 * global_batch_size * sequence_length / step_s",
    source="by definition",
)
def tokens_per_s(global_batch_size: Column, sequence_length: Column, step_s: Column) -> Column:
    """Return the throughput in tokens [token/s]."""
    return 1.0 * global_batch_size * sequence_length / step_s


@quantity(
    "token/s",
    Scope.GPU,
    basis=Basis.ASSUMED,
    group="time",
    formula="tokens_per_s / accelerator_count",
    source="by definition",
)
def tokens_per_s_per_gpu(tokens_per_s: Column, accelerator_count: Column) -> Column:
    """Return the throughput of one GPU in tokens [token/s]."""
    return tokens_per_s / accelerator_count


@quantity(
    "FLOP/s",
    Scope.GPU,
    basis=Basis.ASSUMED,
    group="compute",
    formula="model_flop / step_s / accelerator_count",
    source=_CHOWDHERY,
)
def model_flop_per_s_per_gpu(
    model_flop: Column, step_s: Column, accelerator_count: Column
) -> Column:
    """Return the rate of model FLOP of one GPU [FLOP/s]."""
    return model_flop / step_s / accelerator_count


@quantity(
    "fraction",
    Scope.TOTAL,
    symbol="MFU",
    basis=Basis.ASSUMED,
    group="compute",
    formula="model_flop_per_s_per_gpu / peak_flop_per_s",
    source=_CHOWDHERY,
)
def mfu_fraction(model_flop_per_s_per_gpu: Column, peak_flop_per_s: Column) -> Column:
    """Return the model FLOP utilization: model FLOP over what the peak allows [fraction]."""
    return model_flop_per_s_per_gpu / peak_flop_per_s


@quantity(
    "fraction",
    Scope.TOTAL,
    symbol="HFU",
    basis=Basis.ASSUMED,
    group="compute",
    formula="hardware_flop / step_s / accelerator_count / peak_flop_per_s",
    source=_CHOWDHERY,
)
def hfu_fraction(
    hardware_flop: Column, step_s: Column, accelerator_count: Column, peak_flop_per_s: Column
) -> Column:
    """Return the hardware FLOP utilization: executed FLOP over what the peak allows [fraction]."""
    return hardware_flop / step_s / accelerator_count / peak_flop_per_s
