"""A step of inference by kind of layer: its work, what it moves, and its time by a roofline."""

from typing import Any

import msgspec
import numpy as np

from costmodels.analysis import evaluate
from costmodels.compilation import compile_columns
from costmodels.errors import NotModelledError
from costmodels.scenario import Scenario, scenario_hash
from costmodels.specs.workload import WorkloadKind
from costmodels.version import VERSION
from simulator.accounting import memory_account
from simulator.answer import SCHEMA_VERSION
from simulator.inert_fields import without_effect
from simulator.publishing import basis_of, scalar
from simulator.serving import OF_TRAINING


class LayerStep(msgspec.Struct, frozen=True, kw_only=True):
    """A step of inference of the layers of one kind, each of them on one GPU.

    Attributes
    ----------
    layout : str
        Who attends to whom.
    layer_count : int
        Layers of the kind [count].
    matmul_flop, attention_flop : int
        Work of its weights; of scores, values and states [FLOP].
    weight_bytes, state_bytes, operand_bytes : float
        What it reads of weights, moves of caches and states, and of activations [byte].
    layer_s : float
        Time of one layer [s].
    bound_by : str
        What takes longest: weights, states or activations (the memory's bandwidth), or work.
    """

    layout: str
    layer_count: int
    matmul_flop: int
    attention_flop: int
    weight_bytes: float
    state_bytes: float
    operand_bytes: float
    layer_s: float
    bound_by: str


class InferenceStep(msgspec.Struct, frozen=True, kw_only=True):
    """A step of decode or prefill of one replica.

    Attributes
    ----------
    schema_version, shardwise_version, scenario_hash
        As of an `Answer`.
    kind : str
        prefill or decode.
    fits : bool
        Whether what is kept fits; times are answered all the same.
    sequence_count, token_count : int
        Sequences of the step, and tokens that it computes [count].
    layers : tuple of LayerStep
        By kind of layer.
    head_flop : int
        Work of the head [FLOP].
    gpu_flop, gpu_bytes : float
        Of all layers and the head, on one GPU [FLOP], [byte].
    step_s : float
        Time of the step: of a token in decode, to the first token in prefill [s].
    tokens_per_s : float
        Tokens of a replica [token/s].
    replica_count : int
        Replicas, each as fast [count].
    basis : str
        The weakest basis of the times.
    notes : tuple of str
        What the times leave out.
    """

    schema_version: int
    shardwise_version: str
    scenario_hash: str
    kind: str
    fits: bool
    sequence_count: int
    token_count: int
    layers: tuple[LayerStep, ...]
    head_flop: int
    gpu_flop: float
    gpu_bytes: float
    step_s: float
    tokens_per_s: float
    replica_count: int
    basis: str
    notes: tuple[str, ...]


_KINDS = (
    "kind_layer_count",
    "serving_matmul_flop",
    "serving_attention_flop",
    "serving_weight_bytes",
    "serving_state_bytes",
    "serving_operand_bytes",
    "serving_layer_s",
)
_ONCE = (
    *("serving_sequence_count", "serving_tokens", "serving_head_flop", "serving_head_bytes"),
    *("serving_step_s", "serving_tokens_per_s", "data_parallel_size"),
    *("memory_bytes_per_s", "matmul_flop_per_s", "attention_flop_per_s"),
)


def inference_step(scenario: Scenario) -> InferenceStep:
    """Return the work and time of a step of inference.

    Parameters
    ----------
    scenario : Scenario
        Of decode or prefill.

    Raises
    ------
    NotModelledError
        If it is of training, or has more than one pipeline stage.
    """
    kind, stages = scenario.workload.kind, scenario.plan.pipeline_parallel_size
    if kind is WorkloadKind.TRAINING:
        raise NotModelledError(
            "workload.kind (training): a step of inference is of decode or prefill; set "
            "workload.kind, or ask shardwise estimate"
        )
    if stages > 1:
        raise NotModelledError(
            f"plan.pipeline_parallel_size ({stages}): time of inference over several stages is not "
            "modelled yet; use 1, memory is answered by shardwise memory"
        )
    columns = compile_columns(scenario)
    values = evaluate(columns, (*_KINDS, *_ONCE))
    once = {name: scalar(values[name]) for name in _ONCE}
    layers = tuple(
        _layer(layout, {name: scalar(values[name][place]) for name in _KINDS}, once)
        for place, layout in enumerate(columns.layouts)
    )
    flop = sum(each.layer_count * (each.matmul_flop + each.attention_flop) for each in layers)
    moved = sum(each.layer_count * _bytes_of(each) for each in layers)
    return InferenceStep(
        schema_version=SCHEMA_VERSION,
        shardwise_version=VERSION,
        scenario_hash=scenario_hash(scenario),
        kind=kind.value,
        fits=memory_account(scenario).fits,
        sequence_count=int(once["serving_sequence_count"]),
        token_count=int(once["serving_tokens"]),
        layers=layers,
        head_flop=int(once["serving_head_flop"]),
        gpu_flop=float(flop + once["serving_head_flop"]),
        gpu_bytes=float(moved + once["serving_head_bytes"]),
        step_s=float(once["serving_step_s"]),
        tokens_per_s=float(once["serving_tokens_per_s"]),
        replica_count=int(once["data_parallel_size"]),
        basis=str(basis_of(scenario, "serving_step_s").value),
        notes=(*scenario.model.notes, *_notes(scenario)),
    )


def _bytes_of(layer: LayerStep) -> float:
    return layer.weight_bytes + layer.state_bytes + layer.operand_bytes


def _layer(layout: str, values: dict[str, Any], once: dict[str, Any]) -> LayerStep:
    layer = LayerStep(
        layout=layout,
        layer_count=int(values["kind_layer_count"]),
        matmul_flop=int(values["serving_matmul_flop"]),
        attention_flop=int(values["serving_attention_flop"]),
        weight_bytes=float(values["serving_weight_bytes"]),
        state_bytes=float(values["serving_state_bytes"]),
        operand_bytes=float(values["serving_operand_bytes"]),
        layer_s=float(values["serving_layer_s"]),
        bound_by="",
    )
    rate = once["memory_bytes_per_s"]
    times = {
        "weights": layer.weight_bytes / rate,
        "states": layer.state_bytes / rate,
        "activations": layer.operand_bytes / rate,
        "work of weights": layer.matmul_flop / once["matmul_flop_per_s"],
        "work of attention": layer.attention_flop / once["attention_flop_per_s"],
    }
    longest = list(times)[int(np.argmax(list(times.values())))]
    return msgspec.structs.replace(layer, bound_by=longest)


_OF_COST = (
    "cluster.host_power_w",
    "cluster.host_bandwidth_bytes_per_s",
    "cluster.power_usage_effectiveness",
    "cluster.accelerator.power_w",
    "cluster.accelerator.price_usd_per_s",
)
_AT_MOST = {"chunked", "infini", "compressive", "dilated", "dilated-heads"}


def _notes(scenario: Scenario) -> list[str]:
    """Return what the times rest on and leave out."""
    layouts = {str(type(layout).__struct_config__.tag) for layout in scenario.model.layouts}
    said = [
        "times are a roofline: the longer of work at an attained peak and of bytes at an attained "
        "bandwidth, of weights, of attention, and of activations; no measurement of inference is "
        "compared with, so that their error is not known",
        "sampling, scheduling, starts of kernels and what an engine does beside are left out",
        without_effect(list(OF_TRAINING), "they are of training"),
        without_effect(list(_OF_COST), "cost and energy of inference are not answered"),
    ]
    if scenario.workload.kind is WorkloadKind.DECODE and layouts & _AT_MOST:
        names = ", ".join(sorted(layouts & _AT_MOST))
        said.append(
            f"{names} layers: the costliest token on the way to workload.sequence_length; what the "
            "end of a segment adds (an update of memory, compression) is left out"
        )
    if scenario.model.mixture is not None:
        said.append("experts are taken to be as likely each, and are read where some token visits")
    return said
