"""Collectives and messages of real programs, against the closed forms of communication.

Every program trains a small decoder on a few processes and records each call: how many, of what
size, over which ranks. Bytes on the wire are counted on messages: recorded collectives run again
as rings. Nothing that is measured comes from a closed form.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import pairwise, product
from types import MappingProxyType
from typing import Any, NamedTuple

from costmodels.analysis import evaluate
from costmodels.collectives import (
    ring_all_gather_bytes,
    ring_all_reduce_bytes,
    ring_reduce_scatter_bytes,
)
from costmodels.compilation import compile_columns
from costmodels.scenario import Scenario, scenario_from_table
from validation.cases import Case
from validation.collective_runs import (
    COMBINED_RUNS,
    DATA_RUNS,
    FURTHER_RUNS,
    HYBRID_RUNS,
    KEPT,
    LATENT_RUNS,
    ONCE,
    PIPELINE_RUNS,
    SCATTERED_RUNS,
    TENSOR_RUNS,
    UNEVEN_RUNS,
    Run,
    observe,
)
from validation.small_models import CAST_RECIPE
from validation.torch_programs.records import (
    ALL_GATHER,
    ALL_REDUCE,
    BACKWARD,
    COPIED,
    FORWARD,
    GATHERED,
    LOSS,
    REDUCE_SCATTER,
    REDUCTION,
    REGATHER,
    REPLICATED,
    SEND,
    TIED,
    UPDATE,
    Call,
    Observed,
)
from validation.torch_programs.sizes import Sizes

COLLECTIVES, WIRE = "collectives-intercepted", "wire-counted"

_COUNTED = "both count the same integers"
_INTERCEPTED = "calls of torch's dispatcher on gloo, recorded in a step of training"
_REPLAYED = "bytes of messages sent when the recorded collectives run again as rings"


class Prediction:
    """What the closed forms say of a run.

    Parameters
    ----------
    run : Run, mapping or Scenario
        The program, whose description they take, or the scenario that describes one.

    Attributes
    ----------
    scenario : Scenario
        That description.
    """

    def __init__(self, run: Run | Mapping[str, Any] | Scenario) -> None:
        table = _scenario_table(run) if isinstance(run, Run) else run
        self.scenario = table if isinstance(table, Scenario) else scenario_from_table(table)
        self._columns = compile_columns(self.scenario)

    def __call__(self, quantity: str, rank: int = 0) -> int:
        """Return a quantity of the pipeline rank, summed over its chunks or kinds of layer."""
        values = evaluate(self._columns, [quantity, "class_stage_count"])
        value = values[quantity]
        if not isinstance(value, tuple):
            return int(value[0])
        counts = [int(count[0]) for count in values["class_stage_count"]]
        if len(value) == len(counts):
            places = [place for place, count in enumerate(counts) for _ in range(count)]
            return _summed(value[places[rank]])
        return _summed(value)


def _summed(value: Any) -> int:
    """Return the sum over the members of nested tuples of columns."""
    return sum(map(_summed, value)) if isinstance(value, tuple) else int(value[0])


def _scenario_table(run: Run) -> dict[str, Any]:
    """Return the scenario that describes a run."""
    plan = dict(run.plan)
    model_ranks = plan.get("tensor_parallel_size", 1) * plan.get("pipeline_parallel_size", 1)
    replicas = run.ranks // model_ranks
    return {
        "model": run.sizes.description()
        | {
            "name": "small decoder",
            "norm": "rmsnorm",
            "attention_bias": False,
            "attention_output_bias": False,
            "ffn_bias": False,
            "positions": "none",
            "max_position_embeddings": run.work.sequence_length,
        },
        "cluster": f"cpu:{run.ranks}",
        "precision": dict(CAST_RECIPE) if plan.get("cast_on_gather") else "fp32",
        "plan": {
            key: list(value) if isinstance(value, tuple) else value for key, value in plan.items()
        }
        | {"micro_batch_size": run.work.micro_batch_size},
        "workload": {
            "global_batch_size": replicas * run.work.micro_batch_size * run.work.microbatch_count,
            "sequence_length": run.work.sequence_length,
        },
    }


class _Finding(NamedTuple):
    """One number of a run, before it is a case."""

    what: str
    claim: str
    prediction: int
    measured: Callable[[Observed], int]
    unit: str = "count"
    method: str = _INTERCEPTED


def _cases(run: Run, findings: Iterable[_Finding], ranks: Iterable[int] = ()) -> list[Case]:
    """Return a case for each finding; ranks that are not named apart must agree."""
    chosen = list(ranks) or range(run.ranks)
    suffix = f", rank {chosen[0]}" if len(chosen) == 1 else ""
    cases = []
    for finding in findings:
        measured = [finding.measured(observe(run)[rank]) for rank in chosen]
        # Ranks that differ cannot all be as predicted: one that is not is shown.
        wrong = [value for value in measured if value != finding.prediction]
        case = Case(
            suite=COLLECTIVES,
            name=f"{run.name}: {finding.what}{suffix}",
            claim=finding.claim,
            prediction=finding.prediction,
            measurement=wrong[0] if wrong else finding.prediction,
            unit=finding.unit,
            tolerance_fraction=0,
            tolerance_reason=_COUNTED,
            method=finding.method,
            source=f"validation/torch_programs, {run.program}",
        )
        cases.append(case)
    return cases


def _labelled(observed: Observed, *labels: str) -> list[Call]:
    return [call for call in observed.calls if call.label in labels]


def _count(*labels: str) -> Callable[[Observed], int]:
    return lambda observed: len(_labelled(observed, *labels))


def _wire(*labels: str) -> Callable[[Observed], int]:
    return lambda observed: sum(observed.sent_bytes.get(label, 0) for label in labels)


def _payload(kind: str, *labels: str) -> Callable[[Observed], int]:
    """Return the bytes of whole messages of a kind: before they are scattered, once gathered."""
    return lambda observed: sum(
        call.message_bytes for call in _labelled(observed, *labels) if call.kind == kind
    )


def _only(values: Iterable[int]) -> int:
    """Return the value that all have; -1 if they differ."""
    distinct = set(values)
    return distinct.pop() if len(distinct) == 1 else -1


def _message(*labels: str) -> Callable[[Observed], int]:
    return lambda observed: _only(call.message_bytes for call in _labelled(observed, *labels))


def _group_size(observed: Observed) -> int:
    calls = [call for call in observed.calls if call.peer < 0 and call.label != COPIED]
    return _only(len(call.ranks) for call in calls)


def _kind_calls(kind: str) -> Callable[[Observed], int]:
    return lambda observed: sum(call.kind == kind for call in observed.calls)


def _kind_payload(kind: str) -> Callable[[Observed], int]:
    return lambda observed: sum(call.message_bytes for call in observed.calls if call.kind == kind)


def _tensor_cases(run: Run) -> list[Case]:
    """Return calls, message and bytes of tensor and sequence parallelism."""
    of, m = Prediction(run), run.work.microbatch_count
    forward = of("forward_all_reduces") + of("forward_ring_passes")
    backward = of("backward_all_reduces") + of("backward_ring_passes")
    early = of("chunk_layers") if run.option == "full-early-stop" else 0
    pass_bytes = of("hidden_all_reduce_bytes")
    if dict(run.plan)["sequence_parallel"]:
        pass_bytes = of("hidden_all_gather_bytes")
    shorter = early * pass_bytes
    stops = ", less the last reduction of each recomputed layer: torch stops before it"
    note = stops if early else ""
    findings = [
        _Finding("group", "their group is the tensor-parallel ranks", run.ranks, _group_size),
        _Finding("forward calls", "the forward has so many", m * forward, _count(FORWARD)),
        _Finding(
            "backward calls",
            f"the backward has so many{note}",
            m * (backward - early),
            _count(BACKWARD),
        ),
        _Finding("regathers", "inputs are gathered again", m * of("regathers"), _count(REGATHER)),
        _Finding(
            "message",
            "each carries the activation of a microbatch",
            of("hidden_message_bytes"),
            _message(FORWARD, BACKWARD, REGATHER),
            "byte",
        ),
        _Finding(
            "loss",
            "the vocabulary-parallel loss sends so much",
            m * of("loss_all_reduce_bytes"),
            _wire(LOSS),
            "byte",
            _REPLAYED,
        ),
        _Finding(
            "sent in the forward",
            "the forward and the loss send so much",
            m * (of("chunk_forward_tensor_bytes") + of("chunk_forward_sequence_bytes")),
            _wire(FORWARD, LOSS),
            "byte",
            _REPLAYED,
        ),
        _Finding(
            "sent in the backward",
            f"the backward sends so much{note}",
            m * (of("chunk_backward_tensor_bytes") + of("chunk_backward_sequence_bytes") - shorter),
            _wire(BACKWARD, REGATHER),
            "byte",
            _REPLAYED,
        ),
        _Finding(
            "sent in a step",
            f"a step sends so much{note}",
            of("tensor_bytes") + of("sequence_bytes") - m * shorter,
            _wire(FORWARD, LOSS, BACKWARD, REGATHER, REPLICATED, COPIED),
            "byte",
            _REPLAYED,
        ),
        _Finding(
            "calls for copies",
            "gradients of heads that ranks have copies of are summed in so many calls",
            of("shared_all_reduce_calls"),
            _count(COPIED),
        ),
        _Finding(
            "copied gradients",
            "they are so many, of keys and values",
            of("shared_message_bytes"),
            _payload(ALL_REDUCE, COPIED),
            "byte",
        ),
        _Finding(
            "calls for replicated gradients",
            "with sequence parallelism a step sums the gradients of what every rank holds, at once",
            of("replicated_all_reduce_calls"),
            _count(REPLICATED),
        ),
        _Finding(
            "replicated gradients",
            "they are so many",
            of("replicated_message_bytes"),
            _payload(ALL_REDUCE, REPLICATED),
            "byte",
        ),
    ]
    return _cases(run, findings)


_APART_CALLS: Mapping[str, tuple[tuple[str, str], ...]] = {
    ALL_REDUCE: (
        ("hidden_all_reduce_calls", "hidden_message_bytes"),
        ("loss_all_reduce_calls", "loss_message_bytes"),
        ("prediction_input_all_reduce_calls", "prediction_input_message_bytes"),
        ("replicated_all_reduce_calls", "replicated_message_bytes"),
    ),
    ALL_GATHER: (
        ("sequence_all_gather_calls", "hidden_message_bytes"),
        ("prediction_all_gather_calls", "hidden_message_bytes"),
        ("prediction_input_all_gather_calls", "prediction_input_message_bytes"),
    ),
    REDUCE_SCATTER: (
        ("sequence_reduce_scatter_calls", "hidden_message_bytes"),
        ("prediction_input_reduce_scatter_calls", "prediction_input_message_bytes"),
    ),
}
"""Calls of each collective of tensor parallelism, and the message of each, beside those below."""

_COMPRESSED: Mapping[str, tuple[str, str, str]] = {
    ALL_REDUCE: (
        "compressed_all_reduce_calls",
        "compressed_reduce_passes",
        "compressed_message_bytes",
    ),
    ALL_GATHER: (
        "compressed_all_gather_calls",
        "compressed_scatter_passes",
        "compressed_gather_message_bytes",
    ),
    REDUCE_SCATTER: (
        "compressed_reduce_scatter_calls",
        "compressed_scatter_passes",
        "compressed_message_bytes",
    ),
}
"""Calls of compressed vectors, of unlike sizes: calls, passes, and the messages of a pass."""


def _apart_cases(run: Run) -> list[Case]:
    """Return calls, payload and bytes of tensor parallelism of each collective apart."""
    of, m = Prediction(run), run.work.microbatch_count
    findings = [
        finding
        for kind, rows in _APART_CALLS.items()
        for finding in (
            _Finding(
                f"{kind} calls",
                "a step has so many, of layers, heads, losses and projections",
                sum(of(calls) for calls, _ in rows) + of(_COMPRESSED[kind][0]),
                _kind_calls(kind),
            ),
            _Finding(
                f"{kind} payload",
                "they carry so much",
                sum(of(calls) * of(message) for calls, message in rows)
                + of(_COMPRESSED[kind][1]) * of(_COMPRESSED[kind][2]),
                _kind_payload(kind),
                "byte",
            ),
        )
    ]
    for way, labels in (("forward", (FORWARD, LOSS)), ("backward", (BACKWARD, REGATHER))):
        names = (f"chunk_{way}_tensor_bytes", f"chunk_{way}_sequence_bytes")
        findings.append(
            _Finding(
                f"sent in the {way}",
                f"the {way} sends so much",
                m * sum(of(name) for name in names),
                _wire(*labels),
                "byte",
                _REPLAYED,
            )
        )
    return _cases(run, findings)


def _data_cases(run: Run) -> list[Case]:
    """Return message and bytes of data parallelism, where ranks divide the weights."""
    of, m = Prediction(run), run.work.microbatch_count
    gradients = of("chunk_parameters") * of("reduction_element_bytes")
    weights = of("chunk_parameters") * of("weight_element_bytes")
    regathers, scatters = m * (run.option != KEPT), 1 if run.option == ONCE else m
    less = (m - regathers) * of("chunk_gather_bytes")
    less += (m - scatters) * of("chunk_gradient_bytes")
    note = f"; less with {run.option}" if run.option in (KEPT, ONCE) else ""
    parts = {
        "ddp": (("gradients", ALL_REDUCE, gradients, (BACKWARD,), of("reduction_bytes")),),
        "flat": (
            (
                "gradients",
                REDUCE_SCATTER,
                gradients * (m if of("zero_stage") == 2 else 1),
                (REDUCTION,),
                m * of("chunk_backward_data_bytes") + of("reduction_bytes"),
            ),
            ("updated weights", ALL_GATHER, weights, (UPDATE,), of("update_gather_bytes")),
        ),
        "fsdp2": (
            (
                "weights of the forward",
                ALL_GATHER,
                m * weights,
                (FORWARD,),
                m * of("chunk_forward_data_bytes"),
            ),
            (
                "weights of the backward",
                ALL_GATHER,
                regathers * weights,
                (BACKWARD,),
                regathers * of("chunk_gather_bytes"),
            ),
            (
                "gradients",
                REDUCE_SCATTER,
                scatters * gradients,
                (BACKWARD,),
                scatters * of("chunk_gradient_bytes"),
            ),
        ),
    }[run.program]
    findings = [
        _Finding(
            f"{what}, payload",
            f"so much of {what} goes through {kind} calls in a step",
            payload,
            _payload(kind, *labels),
            "byte",
        )
        for what, kind, payload, labels, _ in parts
    ]
    sent = {labels: 0 for _, _, _, labels, _ in parts}
    for _, _, _, labels, wire in parts:
        sent[labels] += wire
    findings += [
        _Finding(
            f"sent, {' and '.join(labels)}",
            "rings send so much of it",
            wire,
            _wire(*labels),
            "byte",
            _REPLAYED,
        )
        for labels, wire in sent.items()
    ]
    every = {label for labels in sent for label in labels}
    if run.program == "flat":
        findings += _bucket_findings(of)
    if run.program == "fsdp2":
        findings += _unit_findings(of, regathers=regathers, scatters=scatters)
    findings += [
        _Finding("group", "their group is the replicas", of("data_parallel_size"), _group_size),
        _Finding(
            "sent in a step",
            f"a step sends so much to other replicas{note}",
            of("data_bytes") - (less if note else 0),
            _wire(*sorted(every)),
            "byte",
            _REPLAYED,
        ),
    ]
    return _cases(run, findings)


def _unit_findings(of: Prediction, *, regathers: int, scatters: int) -> list[_Finding]:
    """Return calls of FSDP's units, and how many of them have another payload than their unit."""
    m = of("microbatch_count")
    gathers, reductions = of("weight_all_gather_calls"), of("gradient_reduce_scatter_calls")
    units = [of("embedding_gpu_parameters"), *_layers(of), of("head_gpu_parameters")]
    if of("tied_embeddings"):
        units = [units[0] + units[-1], *units[1:-1]]
    kinds = (
        ("weights of the forward", ALL_GATHER, FORWARD, gathers // 2, m, "weight"),
        (
            "weights of the backward",
            ALL_GATHER,
            BACKWARD,
            gathers // 2 // m * regathers,
            regathers,
            "weight",
        ),
        ("gradients", REDUCE_SCATTER, BACKWARD, reductions // m * scatters, scatters, "reduction"),
    )
    found = []
    for what, kind, label, calls, passes, role in kinds:
        own = [of(f"{role}_element_bytes") * unit for unit in units] * passes
        found += [
            _Finding(
                f"{what}, calls",
                "one for each unit: embedding, each layer, head; tied ends are one",
                calls,
                lambda observed, kind=kind, label=label: len(_of_kind(observed, kind, label)),  # type: ignore[misc]
            ),
            _Finding(
                f"{what}, calls of another payload",
                "each carries one unit",
                0,
                lambda observed, kind=kind, label=label, own=own: _differing(  # type: ignore[misc]
                    own, [call.message_bytes for call in _of_kind(observed, kind, label)]
                ),
            ),
        ]
    return found


def _layers(of: Prediction) -> list[int]:
    return [of("layer_gpu_parameters")] * of("chunk_layers")


def _of_kind(observed: Observed, kind: str, label: str) -> list[Call]:
    return [call for call in _labelled(observed, label) if call.kind == kind]


def _differing(wanted: Iterable[int], found: Iterable[int]) -> int:
    """Return how many numbers of two collections have no equal in the other [count]."""
    first, second = Counter(wanted), Counter(found)
    return ((first - second) + (second - first)).total()


def _bucket_findings(of: Prediction) -> list[_Finding]:
    """Return calls that reduce gradients, and the payload of the last of them."""
    labels = (REDUCTION,)
    return [
        _Finding(
            "gradients, calls",
            "a call for each bucket of gradients, and for each backward where they are sharded",
            of("gradient_reduce_scatter_calls"),
            _count(*labels),
        ),
        _Finding(
            "gradients, last payload",
            "the last bucket has what others left",
            of("chunk_last_bucket_parameters") * of("reduction_element_bytes"),
            lambda observed: _labelled(observed, *labels)[-1].message_bytes,
            "byte",
        ),
    ]


def _hybrid_cases(run: Run) -> list[Case]:
    """Return groups, payload and bytes of FSDP2 on a mesh of two dimensions."""
    of, m = Prediction(run), run.work.microbatch_count
    kinds = (
        (
            ALL_GATHER,
            2 * of("chunk_weight_message_bytes"),
            "sharding_size",
            "weight_all_gather_calls",
        ),
        (
            REDUCE_SCATTER,
            of("chunk_gradient_message_bytes"),
            "sharding_size",
            "gradient_reduce_scatter_calls",
        ),
        (ALL_REDUCE, of("replica_message_bytes"), "replication_size", "replica_all_reduce_calls"),
    )
    findings = [
        finding
        for kind, payload, size, calls in kinds
        for finding in (
            _Finding(f"{kind}, calls", "one for each unit", of(calls), _kind_calls(kind)),
            _Finding(
                f"{kind}, payload",
                "so much goes through such calls in a step",
                m * payload,
                _payload(kind, FORWARD, BACKWARD),
                "byte",
            ),
            _Finding(
                f"{kind}, group",
                "states are sharded in groups, and shards summed over them",
                of(size),
                lambda observed, kind=kind: _only(  # type: ignore[misc]
                    len(call.ranks) for call in observed.calls if call.kind == kind
                ),
            ),
        )
    ]
    findings.append(
        _Finding(
            "sent in a step",
            "a step sends so much to other replicas",
            of("data_bytes"),
            _wire(FORWARD, BACKWARD),
            "byte",
            _REPLAYED,
        )
    )
    return _cases(run, findings)


def _combined_cases(run: Run) -> list[Case]:
    """Return group, message and bytes of both axes where tensor parallelism is inside ZeRO 1."""
    of = Prediction(run)
    inside, across = (FORWARD, LOSS, BACKWARD, REGATHER), (REDUCTION, UPDATE)
    gradients = of("chunk_parameters") * of("reduction_element_bytes")
    findings = [
        _Finding(
            "tensor-parallel group",
            "activations stay with the tensor-parallel ranks",
            of("tensor_parallel_size"),
            lambda observed: _only(len(call.ranks) for call in _labelled(observed, *inside)),
        ),
        _Finding(
            "distance of replicas",
            "members of a data-parallel group are so many ranks apart",
            of("data_stride"),
            lambda observed: _only(
                second - first
                for call in _labelled(observed, *across)
                for first, second in pairwise(call.ranks)
            ),
        ),
        _Finding(
            "gradients, payload",
            "a rank reduces the gradients of its part of every matrix",
            gradients,
            _payload(REDUCE_SCATTER, REDUCTION),
            "byte",
        ),
        _Finding(
            "sent between tensor-parallel ranks",
            "a step sends so much, gradients of the norms included",
            of("tensor_bytes") + of("sequence_bytes"),
            _wire(*inside, REPLICATED),
            "byte",
            _REPLAYED,
        ),
        _Finding(
            "sent between replicas",
            "a step sends so much to other replicas",
            of("data_bytes"),
            _wire(*across),
            "byte",
            _REPLAYED,
        ),
    ]
    return _cases(run, findings)


def _uneven_cases(run: Run) -> list[Case]:
    """Return the same where ranks do not divide the weights: the padding is a term of its own."""
    of, m = Prediction(run), run.work.microbatch_count
    elements, size, element_bytes = of("chunk_parameters"), run.ranks, of("weight_element_bytes")
    if run.program == "fsdp2":
        padded = elements + sum(_row_padding(run.sizes, size))
        claim = "FSDP2 gathers weights, dimension 0 of each padded to a multiple of the ranks"
        labels, kind, passes = (FORWARD,), ALL_GATHER, m
    else:
        padded = size * -(-elements // size)
        claim = "a flat vector is padded to whole elements for each rank"
        labels, kind, passes = (UPDATE,), ALL_GATHER, 1
    wire = element_bytes * ring_all_gather_bytes(padded, size)
    findings = [
        _Finding(
            "padded payload",
            claim,
            passes * padded * element_bytes,
            _payload(kind, *labels),
            "byte",
        ),
        _Finding(
            "sent with padding",
            f"{claim}; the closed form of communication pads to whole bytes only",
            passes * wire,
            _wire(*labels),
            "byte",
            _REPLAYED,
        ),
    ]
    return _cases(run, findings)


def _row_padding(sizes: Sizes, ranks: int) -> list[int]:
    """Return the elements that pad dimension 0 of each weight to a multiple of the ranks."""
    s = sizes
    projected = (s.num_attention_heads + 2 * s.num_key_value_heads) * s.head_size
    layer = [
        (s.hidden_size, 1),
        (projected, s.hidden_size),
        (s.hidden_size, s.num_attention_heads * s.head_size),
        (s.hidden_size, 1),
        ((1 + s.gated) * s.intermediate_size, s.hidden_size),
        (s.hidden_size, s.intermediate_size),
    ]
    ends = [(s.vocabulary_size, s.hidden_size)] * (2 - s.tied_embeddings) + [(s.hidden_size, 1)]
    return [-rows % ranks * width for rows, width in layer * s.num_hidden_layers + ends]


def _pipeline_cases(run: Run) -> list[Case]:
    """Return messages and bytes of each rank of a pipeline."""
    of, m = Prediction(run), run.work.microbatch_count
    cases = []
    for rank in range(run.ranks):
        tied = of("tied_embedding_bytes", rank)
        findings = [
            _Finding("sends", "a rank sends so often", m * of("chunk_hops", rank), _sends),
            _Finding(
                "message",
                "each send carries an activation or its gradient",
                of("hop_bytes"),
                lambda observed: _only(
                    call.given_bytes for call in observed.calls if call.kind == SEND
                ),
                "byte",
            ),
            _Finding(
                "sent in a step",
                "a rank sends so much to other stages, copies of a tied embedding included",
                of("pipeline_bytes", rank),
                _wire("", TIED),
                "byte",
                _REPLAYED,
            ),
            _Finding(
                "tied embedding",
                "the first and the last rank add the gradients of a tied embedding",
                tied,
                _wire(TIED),
                "byte",
                _REPLAYED,
            ),
        ]
        if tied:
            findings.append(_Finding("tied group", "they are two", 2, _group_size))
        cases += _cases(run, findings, [rank])
    return cases


def _scattered_cases(run: Run) -> list[Case]:
    """Return messages, gathers and bytes of stages that hand over parts."""
    of, m = Prediction(run), run.work.microbatch_count
    tensor = of("tensor_parallel_size")
    cases = []
    for rank in range(run.ranks):
        stage = rank // tensor
        findings = [
            _Finding("sends", "a rank sends so often", m * of("chunk_hops", stage), _sends),
            _Finding(
                "message",
                "each send carries its part of an activation or of its gradient",
                of("hop_bytes"),
                lambda observed: _only(
                    call.given_bytes for call in observed.calls if call.kind == SEND
                ),
                "byte",
            ),
            _Finding(
                "gathers",
                "a rank gathers what it receives",
                of("handover_all_gather_calls", stage),
                _count(GATHERED),
            ),
            _Finding(
                "gathered message",
                "gathered, it is a whole activation",
                of("hidden_message_bytes"),
                _message(GATHERED),
                "byte",
            ),
            _Finding(
                "sent to other stages",
                "a rank sends so much to other stages in a step",
                of("pipeline_bytes", stage),
                _wire(""),
                "byte",
                _REPLAYED,
            ),
            _Finding(
                "sent between tensor-parallel ranks",
                "a rank sends so much inside its stage in a step, what it gathers included",
                of("tensor_bytes", stage),
                _wire(FORWARD, LOSS, BACKWARD, GATHERED),
                "byte",
                _REPLAYED,
            ),
            _Finding(
                "group",
                "its collectives are those of its stage",
                tensor,
                _group_size,
            ),
        ]
        cases += _cases(run, findings, [rank])
    return cases


def _sends(observed: Observed) -> int:
    return sum(call.kind == SEND for call in observed.calls)


_KINDS: Mapping[str, tuple[Sequence[Run], Callable[[Run], list[Case]]]] = MappingProxyType(
    {
        "tensor and sequence parallel": (TENSOR_RUNS, _tensor_cases),
        "further tokens": (FURTHER_RUNS, _apart_cases),
        "latent attention": (LATENT_RUNS, _apart_cases),
        "data parallel": (DATA_RUNS, _data_cases),
        "rows that do not divide": (UNEVEN_RUNS, _uneven_cases),
        "hybrid sharding": (HYBRID_RUNS, _hybrid_cases),
        "several axes at once": (COMBINED_RUNS, _combined_cases),
        "pipeline parallel": (PIPELINE_RUNS, _pipeline_cases),
        "hand-overs in parts": (SCATTERED_RUNS, _scattered_cases),
    }
)
KINDS = tuple(_KINDS)
"""Programs by what is parallel in them."""


def kind_cases(kind: str, most: int | None = None) -> list[Case]:
    """Return calls, payload, group and bytes on the wire of the programs of a kind.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    most : int, optional
        Programs that run, the first ones; left out, all of them [count].
    """
    runs, cases_of = _KINDS[kind]
    return [case for run in runs[:most] for case in cases_of(run)]


def collective_cases() -> list[Case]:
    """Return calls, payload, group and bytes on the wire of every program.

    Returns
    -------
    list of Case
        Of every kind. Needs torch; takes about a minute.
    """
    return [case for kind in KINDS for case in kind_cases(kind)]


RING_SIZES = (2, 3, 4, 5, 8)
"""Ranks of the rings [count]."""

RING_ELEMENTS = (1, 7, 24, 1000, 1001)
"""Elements of their messages [count]."""

_RING_FORMS = {
    ALL_REDUCE: ring_all_reduce_bytes,
    ALL_GATHER: ring_all_gather_bytes,
    REDUCE_SCATTER: ring_reduce_scatter_bytes,
}
_ELEMENT_BYTES = {"uint8": 1, "float32": 4}


def wire_cases() -> list[Case]:
    """Return the bytes that a rank sends in rings over messages, against the closed forms.

    Returns
    -------
    list of Case
        Messages of bytes, and of elements of four bytes, which a ring does not split: there the
        closed form counts elements. Needs torch.
    """
    from validation.torch_programs import processes, wire

    messages = list(product(_RING_FORMS, RING_ELEMENTS, _ELEMENT_BYTES))
    cases = []
    for ranks in RING_SIZES:
        sent = processes.run(partial(wire.ring_bytes, messages), ranks)
        for place, (kind, elements, dtype) in enumerate(messages):
            measured = _only(rank[place] for rank in sent)
            case = Case(
                suite=WIRE,
                name=f"{kind} of {elements} {dtype} over {ranks} ranks",
                claim="each rank of a ring sends what the closed form says, padding included",
                prediction=_ELEMENT_BYTES[dtype] * int(_RING_FORMS[kind](elements, ranks)),
                measurement=measured,
                unit="byte",
                tolerance_fraction=0,
                tolerance_reason=_COUNTED,
                method="bytes of messages between neighbours of a ring over gloo, whose result is "
                "that of torch's own collective",
                source="validation/torch_programs/wire.py",
            )
            cases.append(case)
    return cases
