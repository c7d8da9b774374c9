"""Where weights, states and activations lie, and which tensors a layer keeps."""

from costmodels.columns import Column
from costmodels.errors import NotModelledError
from costmodels.leaves import Sections
from costmodels.rules.declaration import rule
from costmodels.specs.layouts import type_of
from costmodels.specs.plan import SavedTensors


@rule(
    "plan.cast_on_gather",
    "makes weights of sharded main weights: it needs plan.zero_stage=3 (not "
    "{zero_stage}) and precision.main_weights, as precision=bf16-mixed has",
)
def cast_has_shards(
    cast_on_gather: Column, zero_stage: Column, main_weight_element_bytes: Column
) -> Column:
    """Return whether what is cast as it is gathered is sharded, and kept as main weights."""
    return (cast_on_gather == 0) + (zero_stage >= 3) * (main_weight_element_bytes > 0) > 0


@rule(
    "plan.cast_on_gather",
    "gathers from main weights on the host with plan.offload_optimizer=true, which "
    "is not modelled; leave one of them out",
    modelled=False,
)
def cast_is_on_accelerator(cast_on_gather: Column, offload_optimizer: Column) -> Column:
    """Return whether main weights that are gathered lie on the accelerator."""
    return (cast_on_gather == 0) + (offload_optimizer == 0) > 0


@rule(
    "plan.offload_optimizer",
    "needs the bandwidth between an accelerator and its host, which the cluster's preset does not "
    "state: set cluster.host_bandwidth_bytes_per_s",
)
def offload_has_link(
    kind_is_training: Column, offload_optimizer: Column, stated_host_bytes_per_s: Column
) -> Column:
    """Return whether states on the host have a link whose bandwidth is known."""
    stays = (kind_is_training == 0) + (offload_optimizer == 0)
    return stays + (stated_host_bytes_per_s > 0) > 0


@rule(
    "plan.offload_activations_num_layers",
    "needs the bandwidth between an accelerator and its host, which the cluster's preset does not "
    "state: set cluster.host_bandwidth_bytes_per_s",
)
def offloaded_activations_have_link(
    kind_is_training: Column,
    offload_activations_num_layers: Column,
    stated_host_bytes_per_s: Column,
) -> Column:
    """Return whether activations on the host have a link whose bandwidth is known."""
    stays = (kind_is_training == 0) + (offload_activations_num_layers == 0)
    return stays + (stated_host_bytes_per_s > 0) > 0


@rule(
    "plan.offload_activations_num_layers",
    "is not modelled with a plan.schedule that splits backwards: the weight gradient, later, needs "
    "activations again, and whether they wait on the accelerator or come back twice is not known; "
    "choose gpipe, 1f1b, interleaved-1f1b or looped-bfs",
    modelled=False,
)
def offloaded_activations_come_back_once(
    kind_is_training: Column,
    offload_activations_num_layers: Column,
    schedule_splits_backward: Column,
) -> Column:
    """Return whether the backward that takes activations from the host is one action."""
    stays = (kind_is_training == 0) + (offload_activations_num_layers == 0)
    return stays + (schedule_splits_backward == 0) > 0


@rule(
    "plan.saved_tensors",
    "torch-eager-cpu keeps the scores of plan.attention_kernel=naive, torch-cuda "
    "and transformer-engine what plan.attention_kernel=flash keeps; megatron lists both",
)
def saved_tensors_have_kernel(
    saved_tensors_is_megatron: Column,
    saved_tensors_is_torch_eager_cpu: Column,
    attention_kernel_is_naive: Column,
) -> Column:
    """Return whether the kernel of attention is the one whose tensors a convention lists."""
    return (
        saved_tensors_is_megatron + (saved_tensors_is_torch_eager_cpu == attention_kernel_is_naive)
        > 0
    )


@rule(
    "plan.saved_tensors",
    "what plain modules keep on a CPU is modelled for activations of 4 bytes only "
    "(not {activation_element_bytes}): set precision.activations=fp32, or use megatron",
    modelled=False,
)
def saved_tensors_have_format(
    saved_tensors_is_torch_eager_cpu: Column, activation_element_bytes: Column
) -> Column:
    """Return whether plain modules on a CPU compute in fp32, in which their list is proved."""
    return (saved_tensors_is_torch_eager_cpu == 0) + (activation_element_bytes == 4) > 0


@rule(
    "plan.saved_tensors",
    "masks of model.dropout are modelled for megatron and transformer-engine only",
    modelled=False,
)
def saved_tensors_have_dropout(
    saved_tensors_is_torch_eager_cpu: Column, saved_tensors_is_torch_cuda: Column, dropout: Column
) -> Column:
    """Return whether a model with dropout has a list of tensors that knows its masks."""
    plain_torch = saved_tensors_is_torch_eager_cpu + saved_tensors_is_torch_cuda
    return plain_torch * dropout == 0


_TORCH_LAYOUTS = ("dense", "latent")


def check_saved_tensors(sections: Sections) -> None:
    """Raise unless it is known what every layout keeps by the stated convention.

    Raises
    ------
    NotModelledError
        Naming the convention and the layout.
    """
    listed = sections.plan.saved_tensors
    if listed in (SavedTensors.MEGATRON, SavedTensors.TRANSFORMER_ENGINE):
        return
    for layout in sections.model.layouts:
        if type_of(layout) not in _TORCH_LAYOUTS:
            raise NotModelledError(
                f"plan.saved_tensors ({listed.value}): what torch keeps of {type_of(layout)} "
                f"attention (model.layouts) is not modelled yet; use megatron"
            )
