"""Claims on tensor, sequence, pipeline and 3D parallelism, decided by numbers."""

from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from costmodels.analysis import evaluate
from costmodels.collectives import (
    ring_all_gather_bytes,
    ring_all_reduce_bytes,
    ring_reduce_scatter_bytes,
)
from costmodels.compilation import compile_columns
from costmodels.errors import SpecError
from costmodels.linear import load_ratio, product_flop
from costmodels.pipelining.schedules import SCHEDULES, ScheduleName
from costmodels.scenario import Scenario, scenario_from_table
from simulator.metrics import PipelineMetrics, pipeline_metrics
from simulator.pipeline import simulate_pipeline
from simulator.program import ActionWork, PipelineProgram, StepEnd
from simulator.resources import FREE_LINK
from simulator.whatif import estimate
from validation.cases import Case
from validation.claim_cases import claim_case
from validation.torch_programs.records import ALL_GATHER, ALL_REDUCE, REDUCE_SCATTER

_SIMULATED = "the event simulator, which plays actions and does not know the formula"
_KORTHIKANTI = "Korthikanti et al. 2022, arXiv:2205.05198, table 2"
_COUNTED = "bytes counted at each rank of a ring over gloo, four processes"
_RING_ELEMENTS = 4096
_PAPER_DIGITS = "the paper's formula, up to rounding of floating-point numbers"


_case = partial(claim_case, reason="both are counts")


def tensor_cases() -> Iterator[Case]:
    """Yield what splitting a matrix by columns and by rows gives, sends and leaves whole."""
    generator = np.random.default_rng(1)
    inputs, weights = generator.integers(-9, 9, (16, 24)), generator.integers(-9, 9, (24, 48))
    whole = inputs @ weights
    columns = np.concatenate([inputs @ part for part in np.split(weights, 4, axis=1)], axis=1)
    split_inputs = np.split(inputs, 4, axis=1)
    products = [
        part @ own for part, own in zip(split_inputs, np.split(weights, 4, axis=0), strict=True)
    ]
    rows = np.sum(products, axis=0)
    method = "products of integer matrices in numpy, exact"
    source = "Shoeybi et al. 2019, arXiv:1909.08053, section 3"
    for name, found in (("columns concatenated", columns), ("rows added", rows)):
        yield _case(
            f"{name} equal the whole product",
            "every element of the combined parts is that of X W",
            whole.size,
            int((found == whole).sum()),
            "count",
            ("TP-1",),
            method=method,
            source=source,
        )
    yield _case(
        "samples that a rank sees under a split by rows",
        "rows split the inner dimension, not the samples",
        len(inputs),
        min(len(part) for part in split_inputs),
        "count",
        ("TP-3",),
        method="shapes of numpy's parts",
        source=source,
    )
    parts = [len(part) for part in np.array_split(np.arange(12), 8)]
    yield _case(
        "busiest rank of 12 heads on 8",
        "more heads than ranks is not enough: they must divide",
        load_ratio(12, 8),
        max(parts) * 8 / 12,
        "ratio",
        ("TP-2",),
        method="numpy.array_split",
        source="numpy",
        tolerance=1e-12,
        reason="a quotient of small integers in floating point",
    )
    yield from _split_cases()
    yield from _order_cases()
    yield from _activation_cases()


def _split_cases() -> Iterator[Case]:
    """Yield work and bytes of both splits; needs torch."""
    inputs, weights = np.empty((64, 128)), np.empty((128, 128))
    by_columns = [(inputs, part) for part in np.split(weights, 4, axis=1)]
    by_rows = list(zip(np.split(inputs, 4, axis=1), np.split(weights, 4, axis=0), strict=True))
    for name, parts in (("columns", by_columns), ("rows", by_rows)):
        yield _case(
            f"work of a rank that has some {name}",
            "both splits do the same work",
            product_flop(64, 128, 32),
            max(2 * left.shape[0] * left.shape[1] * right.shape[1] for left, right in parts),
            "FLOP",
            ("TP-4",),
            method="two FLOP for each multiply-add of the shapes of numpy's parts",
            source="Shoeybi et al. 2019, arXiv:1909.08053, section 3",
        )
    sent = _ring_bytes()
    yield _case(
        "bytes of adding over bytes of concatenating",
        "an all-reduce sends twice what an all-gather of the same tensor does",
        ring_all_reduce_bytes(_RING_ELEMENTS, 4) / ring_all_gather_bytes(_RING_ELEMENTS, 4),
        sent[ALL_REDUCE] / sent[ALL_GATHER],
        "ratio",
        ("TP-4",),
        method=_COUNTED,
        source="validation/torch_programs/wire.py",
    )


def _ring_bytes() -> dict[str, int]:
    """Return what a rank of four sends in rings over gloo, by collective."""
    from validation.torch_programs import processes, wire

    kinds = (ALL_REDUCE, ALL_GATHER, REDUCE_SCATTER)
    messages = [(kind, _RING_ELEMENTS, "uint8") for kind in kinds]
    first = processes.run(partial(wire.ring_bytes, messages), 4)[0]
    return dict(zip(kinds, first, strict=True))


def _gelu(values: np.ndarray) -> np.ndarray:
    inner = np.sqrt(2 / np.pi) * (values + 0.044715 * values**3)
    return np.asarray(0.5 * values * (1 + np.tanh(inner)))


def _order_cases() -> Iterator[Case]:
    generator = np.random.default_rng(2)
    inputs = generator.normal(size=(16, 64))
    first, second = generator.normal(size=(64, 128)), generator.normal(size=(128, 64))
    truth = _gelu(inputs @ first) @ second
    by_columns = sum(
        _gelu(inputs @ a) @ b
        for a, b in zip(np.split(first, 4, axis=1), np.split(second, 4, axis=0), strict=True)
    )
    partial_sums = [
        _gelu(x @ a)
        for x, a in zip(np.split(inputs, 4, axis=1), np.split(first, 4, axis=0), strict=True)
    ]
    by_rows = np.sum(partial_sums, axis=0)
    method = "two layers with GELU between them, in numpy"
    source = "Shoeybi et al. 2019, arXiv:1909.08053, section 3, equations 1 to 3"
    yield _case(
        "columns, then rows: elements that are right",
        "with the first matrix by columns nothing is exchanged before the activation function",
        truth.size,
        int(np.isclose(by_columns, truth, rtol=1e-9, atol=1e-9).sum()),
        "count",
        ("TP-5",),
        method=method,
        source=source,
    )
    yield _case(
        "rows first, nothing exchanged: elements that are right",
        "an activation function of a partial sum is wrong, so rows cannot come first",
        0,
        int(np.isclose(by_rows @ second, truth, rtol=1e-9, atol=1e-9).sum()),
        "count",
        ("TP-5",),
        method=method,
        source=source,
    )


def _gpt3(gpus: int = 64, batch: int = 64, **plan: Any) -> Scenario:
    return scenario_from_table(
        {
            "model": "gpt-3-175b",
            "cluster": f"a100-80gb-sxm:{gpus}",
            "precision": "fp16-mixed",
            "plan": plan,
            "workload": {"global_batch_size": batch, "sequence_length": 2048},
        }
    )


def _value(scenario: Scenario, name: str) -> float:
    value = evaluate(compile_columns(scenario), [name])[name]
    while isinstance(value, tuple):
        value = value[0]
    return float(value[0])


def _layer_sbh(**plan: Any) -> float:
    """Return a layer's stored activations in units of s b h bytes."""
    scenario = _gpt3(pipeline_parallel_size=8, attention_kernel="naive", **plan)
    return _value(scenario, "layer_stored_bytes") / (2048 * 12288)


def _activation_cases() -> Iterator[Case]:
    """Yield what stays whole under tensor parallelism, and what sequence parallelism splits."""
    scores = 5 * 96 * 2048 / 12288
    for ranks in (2, 4, 8):
        for sequence_parallel in (False, True):
            whole = 0 if sequence_parallel else 10
            expected = whole + (34 - whole + scores) / ranks
            yield _case(
                f"layer of GPT-3 on {ranks} ranks"
                + (", sequence parallel" if sequence_parallel else ""),
                "10 of 34 s b h bytes outside the scores stay whole unless the sequence is split",
                _layer_sbh(tensor_parallel_size=ranks, sequence_parallel=sequence_parallel),
                expected,
                "sbh byte",
                ("SP-1",) if sequence_parallel else ("TP-6",),
                method="the published formula",
                source=_KORTHIKANTI,
                tolerance=1e-12,
                reason=_PAPER_DIGITS,
            )


def sequence_cases() -> Iterator[Case]:
    """Yield what sequence parallelism saves, sends and recomputes."""
    before = _layer_sbh(tensor_parallel_size=8)
    for recompute, published, text in (
        ("none", 23.0 / 14.25, "alone"),
        ("selective", 23.0 / 4.25, "with selective recomputation"),
    ):
        after = _layer_sbh(tensor_parallel_size=8, sequence_parallel=True, recompute=recompute)
        yield _case(
            f"what sequence parallelism saves {text}",
            "five times needs selective recomputation too",
            before / after,
            published,
            "ratio",
            ("SP-2",),
            method="the published formula with a = 96, s = 2048, h = 12288, t = 8",
            source=_KORTHIKANTI,
            tolerance=1e-12,
            reason=_PAPER_DIGITS,
        )
    sent = _ring_bytes()
    yield _case(
        "bytes of all-gather and reduce-scatter over those of one all-reduce",
        "splitting the sequence sends no more for a pair of layers",
        (ring_all_gather_bytes(_RING_ELEMENTS, 4) + ring_reduce_scatter_bytes(_RING_ELEMENTS, 4))
        / ring_all_reduce_bytes(_RING_ELEMENTS, 4),
        (sent[ALL_GATHER] + sent[REDUCE_SCATTER]) / sent[ALL_REDUCE],
        "ratio",
        ("SP-3",),
        method=_COUNTED,
        source="validation/torch_programs/wire.py",
    )
    base: dict[str, Any] = {
        "tensor_parallel_size": 8,
        "pipeline_parallel_size": 8,
        "attention_kernel": "naive",
    }
    plain = _value(_gpt3(**base), "hardware_flop")
    selective = _value(_gpt3(**base, recompute="selective"), "hardware_flop")
    yield _case(
        "work that selective recomputation adds",
        "recomputing attention alone costs about s / (18 h) of a step",
        selective / plain - 1,
        2048 / (18 * 12288),
        "fraction",
        ("SP-4",),
        method="the published approximation, which leaves out head and scores",
        source="Korthikanti et al. 2022, arXiv:2205.05198, section 5",
        tolerance=0.05,
        reason="the approximation leaves out terms of s / (6 h) and V / (12 h L), 3 % here",
    )


_NOTHING = StepEnd(
    reduction_s=0.0,
    reduction_last_s=0.0,
    overlaps_backward=False,
    reduction_bytes=0,
    optimizer_s=0.0,
    gather_s=0.0,
    gather_bytes=0,
)


def played(
    schedule: str, ranks: int, microbatches: int, activation_bytes: int = 1
) -> PipelineMetrics:
    """Return what the simulator finds of equal stages with free links.

    Parameters
    ----------
    schedule : str
        Name.
    ranks, microbatches : int
        Stages, one on each rank, and microbatches of a step [count].
    activation_bytes : int
        Held for each microbatch in flight [byte].
    """
    order = SCHEDULES[ScheduleName(schedule)].order(
        pipeline_parallel_size=ranks, virtual_stages=1, microbatch_count=microbatches
    )
    pairs = [(a, b) for a, b in product(range(ranks), repeat=2) if a != b]
    program = PipelineProgram(
        order=order,
        forward=[ActionWork(duration_s=1.0, flop=0, hand_over_bytes=0, sent_bytes={})] * ranks,
        backward=[ActionWork(duration_s=2.0, flop=0, hand_over_bytes=0, sent_bytes={})] * ranks,
        activation_bytes=[activation_bytes] * ranks,
        static_bytes=[0] * ranks,
        step_ends=[_NOTHING] * ranks,
        links=dict.fromkeys(pairs, FREE_LINK),
    )
    return pipeline_metrics(simulate_pipeline(program))


def pipeline_cases() -> Iterator[Case]:
    """Yield idle shares and microbatches in flight, closed form against simulation."""
    source = "Narayanan et al. 2021, arXiv:2104.04473, section 2.2"
    shares = {
        (4, 1): ("PP-1", "PP-3"),
        (4, 4): ("PP-1", "PP-3"),
        (4, 8): ("PP-3", "PP-4", "PP-8"),
        (8, 8): ("PP-3", "PP-4", "PP-8"),
        (8, 32): ("PP-3", "PP-4"),
    }
    for (ranks, microbatches), claims in shares.items():
        for schedule in ("gpipe", "1f1b"):
            yield _case(
                f"idle share of {schedule}, {ranks} GPUs, {microbatches} microbatches",
                "equal stages idle (p - 1) / (m + p - 1) of the time",
                1 - microbatches / (microbatches + ranks - 1),
                played(schedule, ranks, microbatches).idle_fraction,
                "fraction",
                claims,
                method=_SIMULATED,
                source=source,
                tolerance=1e-12,
                reason="sums of floating-point durations",
            )
    yield from _held_cases()
    yield _case(
        "idle share of 1F1B over GPipe's, 4 GPUs, 8 microbatches",
        "with flushes, PipeDream's order frees memory and no time",
        1.0,
        played("1f1b", 4, 8).idle_fraction / played("gpipe", 4, 8).idle_fraction,
        "ratio",
        ("PP-7",),
        method=_SIMULATED,
        source="Narayanan et al. 2021, arXiv:2006.09503",
        tolerance=1e-12,
        reason="a quotient of floating-point sums",
    )
    yield from _fitting_cases()


def _held_cases() -> Iterator[Case]:
    for schedule, claims in (("gpipe", ("PP-5",)), ("1f1b", ("PP-5", "PP-6"))):
        for microbatches in (4, 16):
            metrics = played(schedule, 4, microbatches)
            for rank in range(4):
                predicted = SCHEDULES[ScheduleName(schedule)].in_flight_count(
                    pipeline_parallel_size=4,
                    virtual_stages=1,
                    microbatch_count=microbatches,
                    stage_index=rank,
                )
                yield _case(
                    f"{schedule}, {microbatches} microbatches: held on rank {rank} of 4",
                    "GPipe holds every microbatch, 1F1B as many as stages that follow",
                    int(predicted),
                    metrics.peak_bytes[rank],
                    "count",
                    claims,
                    method="allocations of the event simulator, one byte a microbatch",
                    source="Narayanan et al. 2021, arXiv:2104.04473, section 2.2",
                )


def _fitting_cases() -> Iterator[Case]:
    hidden, layers, vocabulary, positions = 12288, 96, 50257, 2048
    layer, ends = 12 * hidden**2, (vocabulary + positions) * hidden
    by_hand = {
        "pipeline": layers // 8 * layer + ends,
        "tensor": (layers * layer + vocabulary * hidden) / 8 + positions * hidden,
    }
    plans: dict[str, dict[str, Any]] = {
        "pipeline": {"pipeline_parallel_size": 8, "layers_per_stage": [layers // 8] * 8},
        "tensor": {"tensor_parallel_size": 8},
    }
    for axis, expected in by_hand.items():
        columns = compile_columns(_gpt3(**plans[axis]))
        held = evaluate(columns, ["stage_parameters"])["stage_parameters"]
        yield _case(
            f"weights of GPT-3 on the fullest GPU, {axis} parallel over 8",
            "tensor parallelism divides weights as pipeline parallelism does",
            max(float(stage[0]) for stage in held),
            expected,
            "parameter",
            ("PP-2", "3D-7"),
            method="12 h^2 for each layer and h for each row of the embeddings, by hand",
            source="Narayanan et al. 2021, arXiv:2104.04473, section 3",
            tolerance=2e-3,
            reason="by hand without biases, norms and the padding of the vocabulary",
        )


def three_dimensional_cases() -> Iterator[Case]:
    """Yield what each axis sends, and what the axes do together."""
    yield _case(
        "GPUs of the smallest plan with two ranks on each axis",
        "3D parallelism needs eight",
        2 * 2 * 2,
        next(gpus for gpus in range(1, 17) if _is_legal(gpus)),
        "count",
        ("3D-1",),
        method="the first number of accelerators that such a plan is accepted on",
        source="Narayanan et al. 2021, arXiv:2104.04473, section 3",
    )
    scenario = _gpt3(gpus=1024, batch=1536, tensor_parallel_size=8, pipeline_parallel_size=8)
    sent = estimate(scenario, ignore_memory=True).communication
    tensor, data, pipeline = (sent[f"{axis}_bytes"][3] for axis in ("tensor", "data", "pipeline"))
    tokens, hidden, layers, microbatches = 2048, 12288, 12, 96
    block = 2 * tokens * hidden
    yield _case(
        "GPT-3 on 8 x 8 x 16: sent for tensor parallelism",
        "four all-reduces a layer and microbatch, far more than other axes send",
        tensor,
        microbatches * layers * 4 * 2 * 7 / 8 * block,
        "byte",
        ("3D-2",),
        method="four all-reduces of b s h for each layer and microbatch, by hand",
        source="Narayanan et al. 2021, arXiv:2104.04473, section 3.2",
    )
    yield _case(
        "GPT-3 on 8 x 8 x 16: sent for pipeline parallelism",
        "an activation and a gradient for each microbatch",
        pipeline,
        microbatches * 2 * block,
        "byte",
        ("3D-3",),
        method="two messages of b s h for each microbatch, by hand",
        source="Narayanan et al. 2021, arXiv:2104.04473, section 3.2",
    )
    yield _case(
        "GPT-3 on 8 x 8 x 16: sent for data parallelism",
        "gradients of a GPU are those of the model over tensor and pipeline ranks",
        data,
        2 * 15 / 16 * 2 * layers * (12 * hidden**2 + 13 * hidden) / 8,
        "byte",
        ("3D-5", "3D-6"),
        method="an all-reduce of a middle stage's weights in 16 bits, by hand",
        source="Narayanan et al. 2021, arXiv:2104.04473, section 3.3",
        tolerance=1e-3,
        reason="biases and norms are copied on tensor-parallel ranks",
    )
    for ranks in (1, 2, 4, 8):
        plan = {"tensor_parallel_size": ranks, "pipeline_parallel_size": 8}
        found = estimate(_gpt3(gpus=64, batch=64, **plan), ignore_memory=True).pipeline
        yield _case(
            f"64 GPUs, 8 stages, batch 64, {ranks} tensor-parallel ranks: bubble",
            "fewer replicas have more microbatches each, and so idle less",
            found["ideal_idle_fraction"],
            played("1f1b", 8, 8 * ranks).idle_fraction,
            "fraction",
            ("3D-4",),
            method=_SIMULATED,
            source="Narayanan et al. 2021, arXiv:2104.04473, section 3.3.1",
            tolerance=1e-12,
            reason="sums of floating-point durations",
        )


def _is_legal(gpus: int) -> bool:
    try:
        scenario_from_table(
            {
                "model": "llama-3.1-8b",
                "cluster": f"h100-sxm:{gpus}",
                "plan": {
                    "tensor_parallel_size": 2,
                    "pipeline_parallel_size": 2,
                    "data_parallel_size": 2,
                },
                "workload": {"global_batch_size": 16, "sequence_length": 8192},
            }
        )
    except SpecError:
        return False
    return True
