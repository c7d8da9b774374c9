"""Which fields have no effect on an answer, or none for some of their values, and why.

A note of the form ``FIELDS have no effect: REASON`` holds for every value of the fields; one of the
form ``FIELDS: VALUES would move nothing: REASON`` for the values that it names.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from itertools import permutations

import msgspec

from costmodels.analysis import evaluate
from costmodels.columns import ceiling
from costmodels.compilation import trained_depth
from costmodels.formats import FORMATS, format_named
from costmodels.leaves import declared_type, leaves, wide_format
from costmodels.pipelining.schedules import ScheduleName
from costmodels.specs.base import declaration
from costmodels.specs.layouts import type_of
from costmodels.specs.model import Norm, Positions, QueryKeyNorm
from costmodels.specs.plan import GradientBuckets, Plan, RankAxis, Recompute, RecomputeMethod
from costmodels.specs.precision import STORED_ROLES, Precision
from costmodels.specs.workload import Optimizer
from costmodels.stages import balanced_layers, part_count
from simulator.adapter_notes import other_targets
from simulator.bucket_notes import equal_buckets
from simulator.facts import HOST, LINKS, OVERLAPS, ROOFLINE, Facts
from simulator.sensitivity import PLACEMENT, STEP, ranges, unmoved


def without_effect(fields: list[str], reason: str) -> str:
    """Return a note that no value of some fields has an effect, empty without fields."""
    if not fields:
        return ""
    return f"{listed(fields)} {'have' if len(fields) > 1 else 'has'} no effect: {reason}"


_MARKS = (" have no effect: ", " has no effect: ", " would move nothing")
_FIELD = re.compile(r"\b(?:model|cluster|plan|precision|workload)(?:\.[a-z_0-9]+)+")


def is_inert(note: str) -> bool:
    """Return whether a note is of fields without effect, or of values that would move nothing."""
    return any(mark in note for mark in _MARKS)


def inert_fields(notes: Iterable[str]) -> list[str]:
    """Return the fields of an answer's notes that have no effect or could have none, each once.

    Parameters
    ----------
    notes : iterable of str
        Notes of an answer, of which others are passed over.

    Examples
    --------
    >>> inert_fields(["plan.zero_stage and plan.dropout have no effect: none", "fits"])
    ['plan.zero_stage', 'plan.dropout']
    """
    heads = (note.partition(": ")[0] for note in notes if is_inert(note))
    return list(dict.fromkeys(name for head in heads for name in _FIELD.findall(head)))


def listed(words: list[str]) -> str:
    """Return words as a list in a sentence."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def counted(number: int, one: str, many: str = "") -> str:
    """Return a number and what it counts, in the singular where it is one.

    Examples
    --------
    >>> counted(1, "step"), counted(2000, "step"), counted(0, "microbatch", "microbatches")
    ('1 step', '2,000 steps', '0 microbatches')
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def _labels(facts: Facts) -> str:
    fields = ["model.name", "model.source", "model.notes"]
    others = ["cluster.name", "cluster.accelerator.name", "precision.name"]
    return without_effect([*fields, *others], "they are labels")


def _links(facts: Facts) -> str:
    crossing = facts.crossing()
    if not crossing:
        fields = ["cluster.scale_up", "cluster.network", "cluster.accelerators_per_node"]
        return without_effect([*fields, "plan.rank_order"], "one accelerator sends nothing")
    if not any(crossing):
        return without_effect(["cluster.network"], "no group crosses nodes")
    return ""


def _hidden_links(facts: Facts) -> str:
    crossing = facts.crossing()
    tiers = ("scale_up",) * bool(crossing) + ("network",) * any(crossing)
    names = [name for name in LINKS if name.startswith(tiers)]
    return _flat_inputs(
        facts, names, "what the links carry hides behind compute, or waits for slower links"
    )


def _products(facts: Facts) -> str:
    return _flat_inputs(facts, list(ROOFLINE), "another limit of the roofline decides")


def _flat_inputs(facts: Facts, names: list[str], reason: str) -> str:
    """Return a note on the inputs that move no time where they are raised or lowered a little."""
    by_values: dict[str, list[str]] = {}
    for name in names:
        words = _flat_words(
            name, float(facts.columns.values[name][0]), stays=facts.insensitive[name]
        )
        if words:
            by_values.setdefault(words, []).append(leaves()[name].path)
    said = [f"{listed(paths)}: {words}" for words, paths in by_values.items()]
    return "; ".join(f"{clause} would move nothing: {reason}" for clause in said)


def _flat_words(name: str, value: float, *, stays: tuple[bool, bool]) -> str:
    """Return the values of an input that move nothing.

    More bandwidth, less latency and less oversubscription help less and less: where a step of them
    moves nothing, no further one does. A fabric cannot carry more than all nodes send.
    """
    lowered, raised = stays
    more_helps = not name.endswith(("latency_s", "oversubscription_ratio"))
    if name.endswith("oversubscription_ratio") and value == 1:
        lowered = False
    words = []
    if lowered:
        lower = f"{value / STEP:.12g} to {value:.12g}"
        words.append(f"from {lower}" if more_helps else "a smaller value")
    if raised:
        higher = f"{value:.12g} to {value * STEP:.12g}"
        words.append("a larger value" if more_helps else f"from {higher}")
    return " or ".join(words)


def _node_size(facts: Facts) -> str:
    """Return which other sizes of a node leave as many ranks of every group in a node."""
    if not facts.crossing():
        return ""
    cluster = facts.scenario.cluster
    size = cluster.accelerators_per_node
    largest = min(_SIZES_TOLD * size, _MOST_SIZES)
    sizes = [other for other in range(1, largest + 1) if other != size]
    variants = [{"accelerators_per_node": other} for other in sizes]
    same = unmoved(facts.columns, variants, PLACEMENT)
    words = []
    for first, last in ranges([n for n, is_same in zip(sizes, same, strict=True) if is_same]):
        # In a node as large as the cluster, and in any larger one, is every group whole.
        if last == largest and cluster.accelerator_count <= largest:
            words.append("a larger value" if first == size + 1 else f"from {first} to {_most()}")
        else:
            words.append(f"{first}" if first == last else f"from {first} to {last}")
    if not words:
        return ""
    return (
        f"cluster.accelerators_per_node: {' or '.join(words)} would move nothing: as many ranks "
        "of each group are in a node"
    )


def _most() -> int:
    """Return the most accelerators that a node may have."""
    meta = declaration(declared_type("cluster.accelerators_per_node"))
    return int(meta.le) if meta is not None and meta.le is not None else _MOST_SIZES


_SIZES_TOLD = 4


_MOST_SIZES = 512


def _order(facts: Facts) -> str:
    """Return which other orders of the axes put ranks into nodes alike."""
    axes = facts.sizes()
    if not axes:
        return ""
    own = facts.scenario.plan.rank_order
    orders = [order for order in permutations(RankAxis) if order != own]
    variants = [
        {f"{axis.value}_position": place for place, axis in enumerate(order)} for order in orders
    ]
    same = unmoved(facts.columns, variants, PLACEMENT)
    if all(same):
        if len(axes) == 1:
            reason = "only one axis has more than one rank"
        else:
            reason = "every order puts as many ranks of each group in a node"
        return without_effect(["plan.rank_order"], reason)
    alike = [order for order, is_same in zip(orders, same, strict=True) if is_same]
    words = dict.fromkeys("-".join(axis.value for axis in order if axis in axes) for order in alike)
    return (
        f"plan.rank_order: {' or '.join(words)} would move nothing, wherever axes of one rank "
        "stand: as many ranks of each group are in a node"
    )


def _positions(facts: Facts) -> str:
    model = facts.scenario.model
    if model.positions is Positions.LEARNED:
        return ""
    fields = ["model.max_position_embeddings", "model.reserved_positions"]
    note = without_effect(fields, _NO_TABLE[model.positions])
    if model.positions is not Positions.ROTARY:
        other = Positions.NONE if model.positions is Positions.ALIBI else Positions.ALIBI
        note += (
            f"; model.positions: {other.value} would move nothing: ALiBi is a bias that the kernel "
            "of attention computes, at no cost that is counted"
        )
    if facts.scenario.workload.sequence_length > model.max_position_embeddings:
        note += (
            f"; the sequence is longer than the {model.max_position_embeddings:,} tokens that the "
            "model was made for"
        )
    return note


_NO_TABLE = {
    Positions.ROTARY: "rotary positions hold no parameters",
    Positions.ALIBI: "the bias of ALiBi holds no parameters",
    Positions.NONE: "a model without positions has no table of them",
}


def _norms(facts: Facts) -> str:
    """Return which other kinds of norm have as many parameters, and as much traffic."""
    model = facts.scenario.model
    said = []
    weight_only = (Norm.RMSNORM, Norm.LAYERNORM_NO_BIAS)
    if model.norm in weight_only:
        other = next(norm for norm in weight_only if norm is not model.norm)
        said.append(f"model.norm: {other.value} would move nothing: it has a weight only, too")
    shared = (QueryKeyNorm.HEAD, QueryKeyNorm.FULL)
    if model.query_key_norm in shared and model.num_attention_heads == 1:
        alike = next(norm for norm in shared if norm is not model.query_key_norm)
        said.append(f"model.query_key_norm: {alike.value} would move nothing: there is one head")
    return "; ".join(said)


def _expert_width(facts: Facts) -> str:
    """Return what the width of experts decides alone, or does not decide."""
    mixture = facts.scenario.model.mixture
    if mixture is None:
        return ""
    own, width = mixture.expert_intermediate_size, facts.scenario.model.intermediate_size
    said = []
    if own is not None and not mixture.dense_layers:
        reason = "every layer has experts, which have model.mixture.expert_intermediate_size"
        said.append(without_effect(["model.intermediate_size"], reason))
    if own in (None, width):
        other = str(width) if own is None else "leaving it out"
        said.append(
            f"model.mixture.expert_intermediate_size: {other} would move nothing: left out, it is "
            "model.intermediate_size"
        )
    return "; ".join(said)


def _dense_layers(facts: Facts) -> str:
    mixture = facts.scenario.model.mixture
    if mixture is None or not mixture.dense_layers:
        return ""
    return (
        "model.mixture.dense_layers: as many others of the same layout on the same virtual stages "
        "would move nothing: layers of a stage only add up"
    )


def _one_replica(facts: Facts) -> str:
    if facts.copies > 1:
        return ""
    fields = [
        "plan.zero_stage",
        "plan.overlap_gradient_reduction",
        "plan.overlap_parameter_gather",
    ]
    if not sends_gradients(facts):
        fields.append("precision.gradient_reduction")
    return without_effect(fields, "there is one replica")


def sends_gradients(facts: Facts) -> bool:
    """Return whether gradients leave a GPU."""
    model, plan = facts.scenario.model, facts.scenario.plan
    copied = model.tied_embeddings or model.multi_token_prediction_layers > 0
    copies = copied and plan.pipeline_parallel_size > 1
    norms = plan.sequence_parallel or model.query_key_norm is QueryKeyNorm.HEAD
    return facts.copies > 1 or copies or (norms and plan.tensor_parallel_size > 1)


def _buckets(facts: Facts) -> str:
    plan = facts.scenario.plan
    if plan.gradient_buckets is GradientBuckets.TORCH_DDP:
        return _whole_buckets(facts)
    if not plan.gradient_bucket_parameters:
        return _one_bucket(facts)
    if plan.gradient_buckets is not GradientBuckets.IN_PLACE:
        return ""
    if facts.copies == 1:
        return without_effect(["plan.gradient_bucket_parameters"], "there is one replica")
    counts = evaluate(facts.columns, ("chunk_bucket_count", "chunk_expert_bucket_count"))
    if max(chunk[0] for name in counts for stage in counts[name] for chunk in stage) > 1:
        return ""
    return (
        "plan.gradient_bucket_parameters: a larger number would move nothing: a bucket holds all "
        "gradients of a chunk"
    )


def _one_bucket(facts: Facts) -> str:
    """Return that it does not matter where the one bucket of a chunk lies."""
    plan = facts.scenario.plan
    reason = "a chunk's gradients are reduced in one call, where they are"
    if plan.gradient_buckets is GradientBuckets.FSDP_UNITS:
        said = "there is one replica"
        return "" if facts.copies > 1 else without_effect(["plan.gradient_buckets"], said)
    if facts.copies == 1:
        return without_effect(["plan.gradient_buckets"], reason)
    copied = plan.gradient_buckets is GradientBuckets.COPIED
    other = GradientBuckets.IN_PLACE if copied else GradientBuckets.COPIED
    return f"plan.gradient_buckets: {other} would move nothing: {reason}"


def _whole_buckets(facts: Facts) -> str:
    """Return what would not move buckets of whole tensors."""
    if facts.copies > 1:
        return equal_buckets(facts)
    plan = facts.scenario.plan
    fields = ["plan.gradient_bucket_parameters"]
    fields += [] if plan.gradient_bucket_parameters else ["plan.gradient_buckets"]
    return without_effect(fields, "there is one replica")


def _gather(facts: Facts) -> str:
    if facts.copies > 1 and facts.scenario.plan.zero_stage == 0:
        return without_effect(
            ["plan.overlap_parameter_gather"], "without ZeRO no weights are gathered"
        )
    return ""


def _beside(facts: Facts) -> str:
    if not all(facts.insensitive["parallel_residual"]):
        return ""
    return without_effect(
        ["model.parallel_residual"],
        "no outputs are summed over ranks, and what a layer keeps is not there at the peak",
    )


def _overlaps(facts: Facts) -> str:
    """Return which switches of overlap change nothing although there is something to overlap."""
    plan = facts.scenario.plan
    if facts.copies == 1:
        return ""
    switches = [name for name in OVERLAPS if plan.zero_stage > 0 or "gather" not in name]
    fields = [f"plan.{name}" for name in switches if all(facts.insensitive[name])]
    return without_effect(
        fields, "the time in which it could hide is taken, or it is short enough not to matter"
    )


def _replicas(facts: Facts) -> str:
    stated = facts.scenario.plan.data_parallel_size is not None
    other = "leaving it out" if stated else str(facts.replicas)
    return (
        f"plan.data_parallel_size: {other} would move nothing: it follows from the number of "
        "accelerators"
    )


_EXTENTS = {
    "sliding": "window",
    "chunked": "chunk_length",
    "infini": "segment_length",
    "compressive": "segment_length",
}
"""Of layouts that attend as dense ones do up to a length, the field that states it."""


def _short(facts: Facts) -> str:
    """Return which layers are as dense ones because sequences are no longer than their window."""
    size = facts.scenario.workload.sequence_length
    found = []
    for layout in dict.fromkeys(facts.scenario.model.layouts):
        field = _EXTENTS.get(type_of(layout), "")
        extent = getattr(layout, field, 0)
        if extent >= size:
            found.append(f"{type_of(layout)} ({field} {extent:,})")
    if not found:
        return ""
    return (
        f"at {size:,} tokens {', '.join(found)} layers see all tokens before, as dense ones do: a "
        "longer extent decides nothing"
    )


def _layers(facts: Facts) -> str:
    plan = facts.scenario.plan
    stages = part_count(plan)
    if stages == 1:
        return without_effect(["plan.layers_per_stage"], "one stage holds every layer")
    model = facts.scenario.model
    balanced = balanced_layers(model.num_hidden_layers, stages, trained_depth(facts.scenario))
    other = "-".join(map(str, balanced))
    if plan.layers_per_stage is not None:
        if tuple(plan.layers_per_stage) != balanced:
            return ""
        other = "leaving it out"
    return (
        f"plan.layers_per_stage: {other} would move nothing: so layers are balanced, embedding "
        "and head counting as one layer each"
    )


def _context_method(facts: Facts) -> str:
    if facts.scenario.plan.context_parallel_size > 1:
        return ""
    return without_effect(["plan.context_parallel_method"], "one rank holds each sequence")


def _expert_split(facts: Facts) -> str:
    """Return which other number of ranks that split an expert says the same."""
    plan = facts.scenario.plan
    stated, usual = plan.expert_tensor_parallel_size, plan.tensor_parallel_size
    if facts.scenario.model.mixture is None or stated not in (None, usual):
        return ""
    other = str(usual) if stated is None else "leaving it out"
    return (
        f"plan.expert_tensor_parallel_size: {other} would move nothing: left out, it is "
        "plan.tensor_parallel_size"
    )


def _sharding_group(facts: Facts) -> str:
    """Return which other sharding group says the same."""
    plan, size = facts.scenario.plan, int(facts.values["reduction_size"])
    if plan.zero_stage == 0 or plan.sharding_group_size not in (None, size):
        return ""
    other = str(size) if plan.sharding_group_size is None else "leaving it out"
    return (
        f"plan.sharding_group_size: {other} would move nothing: left out, it is all ranks that "
        "hold the same weights"
    )


def _capacity(facts: Facts) -> str:
    """Return which other capacities give each expert as many rows."""
    mixture, factor = facts.scenario.model.mixture, facts.scenario.plan.expert_capacity_factor
    if mixture is None:
        return ""
    rows = int(facts.values["sharded_tokens"]) * mixture.experts_per_token
    share = rows / mixture.expert_count
    if factor is None:
        words = "1.0" if share == int(share) else ""
    else:
        capacity = ceiling(share * factor)
        words = f"from {(capacity - 1) / share:.12g} to {capacity / share:.12g}"
        words += " or leaving it out" if capacity == share else ""
    if not words:
        return ""
    return (
        f"plan.expert_capacity_factor: {words} would move nothing: every expert gets as many rows"
    )


def _recomputed(facts: Facts) -> str:
    """Return which values of the fields of full recomputation change nothing."""
    plan = facts.scenario.plan
    fields = ["plan.recompute_method", "plan.recompute_num_layers"]
    if plan.recompute is not Recompute.FULL:
        return without_effect(fields, "layers are not recomputed as a whole")
    if facts.most_chunk_layers == 1:
        return without_effect(fields, "a chunk has one layer")
    said = [_other_groups(plan, facts.most_chunk_layers)]
    if plan.recompute_num_layers is None:
        other = next(method for method in RecomputeMethod if method is not plan.recompute_method)
        said.append(
            f"plan.recompute_method: {other.value} would move nothing: each layer is computed again "
            "by itself"
        )
    return "; ".join(filter(None, said))


def _modules(facts: Facts) -> str:
    """Return that modules are named for selective recomputation alone."""
    if facts.scenario.plan.recompute is Recompute.SELECTIVE:
        return ""
    return without_effect(["plan.recompute_modules"], "recomputation is not selective")


def _other_groups(plan: Plan, chunk: int) -> str:
    """Return which other groups of recomputed layers are the same ones."""
    size, most = plan.recompute_num_layers, f"from {chunk} to {_MOST_LAYERS}"
    uniform = plan.recompute_method is RecomputeMethod.UNIFORM
    if uniform and size in (None, 1):
        other = "1" if size is None else "leaving it out"
        return f"plan.recompute_num_layers: {other} would move nothing: a group is one layer"
    if size is not None and size < chunk:
        return ""
    values = most if uniform or size is None else f"{most} or leaving it out"
    return f"plan.recompute_num_layers: {values} would move nothing: no chunk has more layers"


_MOST_LAYERS = 2**16


def _limit(facts: Facts) -> str:
    """Return that only one schedule asks how many microbatches a rank may hold."""
    if facts.scenario.plan.schedule is ScheduleName.ZB_AUTO:
        return ""
    return without_effect(["plan.held_limit"], "only zb-auto searches an order within it")


def _same_order(facts: Facts) -> str:
    """Return which schedules do what the plan's does, with one chunk on each rank."""
    plan = facts.scenario.plan
    same = {ScheduleName.GPIPE, ScheduleName.LOOPED_BFS}
    reason = "with one chunk they do the same but for the order in which backwards go"
    if facts.microbatches == 1:
        same.add(ScheduleName.ONE_F_ONE_B)
        reason = "with one microbatch they do the same"
    if _halves_follow(facts) and (facts.microbatches == 1 or plan.schedule not in same):
        same = same if facts.microbatches == 1 else set()
        same |= {ScheduleName.ONE_F_ONE_B, ScheduleName.ZB_H1, ScheduleName.ZB_H2}
        same.add(ScheduleName.ZB_AUTO)
        reason = (
            "with one pipeline rank, and what must hide behind a backward hidden, they do the same"
        )
    if plan.virtual_stages > 1 or plan.schedule not in same:
        return ""
    alike = [name.value for name in ScheduleName if name in same - {plan.schedule}]
    return f"plan.schedule: {listed(alike)} would move nothing: {reason}"


def _halves_follow(facts: Facts) -> bool:
    """Return whether a step of one pipeline rank is as long with halves of backwards as with wholes.

    It is where even the weight gradients hide all of the reduction but its last part.
    """
    plan = facts.scenario.plan
    if plan.pipeline_parallel_size > 1 or plan.offload_activations_num_layers:
        return False
    names = ("reduction_s", "last_reduction_s", "chunk_weight_gradient_s")
    reduction, last, weights = evaluate(facts.columns, names).values()
    return bool(reduction[0][0] - weights[0][0][0] <= last[0][0])


def _offload(facts: Facts) -> str:
    keeps = facts.scenario.precision.main_weights is not None
    keeps = keeps or facts.scenario.workload.optimizer is not Optimizer.SGD
    plan = facts.scenario.plan
    sends = plan.offload_activations_num_layers or (keeps and plan.offload_optimizer)
    link = [] if sends else ["cluster.host_bandwidth_bytes_per_s"]
    if not keeps:
        return without_effect(["plan.offload_optimizer", *link], "the optimizer keeps no states")
    if link:
        return without_effect(link, "nothing lies on the host")
    return _flat_inputs(facts, [HOST], "what goes to the host and back hides behind other work")


def _offloaded_layers(facts: Facts) -> str:
    """Return which other numbers of layers send the same tensors to the host."""
    plan = facts.scenario.plan
    number = plan.offload_activations_num_layers
    uniform = plan.recompute_method is RecomputeMethod.UNIFORM
    whole = plan.recompute is Recompute.FULL and uniform
    size = (plan.recompute_num_layers or 1) if whole else 1
    first, last = (number - 1) // size * size + 1, -(-number // size) * size
    layers = facts.scenario.model.num_hidden_layers
    balanced = balanced_layers(layers, part_count(plan), trained_depth(facts.scenario))
    reason = f"groups of {size} layers send the input of one"
    if last >= max(plan.layers_per_stage or balanced):
        last, reason = _MOST_LAYERS, "no chunk has more layers"
    if not number or first == last:
        return ""
    name = "plan.offload_activations_num_layers"
    return f"{name}: from {first} to {last} would move nothing: {reason}"


def _moments(facts: Facts) -> str:
    if facts.scenario.workload.optimizer is Optimizer.SGD:
        return without_effect(["precision.moments"], "plain SGD keeps no moments")
    if facts.scenario.workload.optimizer is Optimizer.ADAM_8BIT:
        reason = "Adam in 8 bits keeps bytes with scales in fp32, and small tensors in fp32"
        return without_effect(["precision.moments"], reason)
    return ""


def _peaks(facts: Facts) -> str:
    precision = facts.scenario.precision
    peaks = facts.scenario.cluster.accelerator.peak_flop_per_s
    used = {format_named(precision.compute).peak_name, wide_format(precision)}
    unused = [f"cluster.accelerator.peak_flop_per_s.{name}" for name in peaks if name not in used]
    return without_effect(unused, f"products are in {' and '.join(sorted(used))}")


def _peaks_of(precision: Precision, peaks: Mapping[str, float]) -> tuple[float | None, ...]:
    """Return the peaks of narrow and of wide products, None where the accelerator has none."""
    names = (format_named(precision.compute).peak_name, wide_format(precision))
    return tuple(peaks.get(name) for name in names)


def _may_compute(precision: Precision, name: str) -> bool:
    return format_named(name).stored or precision.activations == "fp32"


def _compute(facts: Facts) -> str:
    precision = facts.scenario.precision
    peaks = facts.scenario.cluster.accelerator.peak_flop_per_s
    used = _peaks_of(precision, peaks)
    others = (
        msgspec.structs.replace(precision, compute=name)
        for name, entry in FORMATS.items()
        if entry.fills("compute") and name != precision.compute and _may_compute(precision, name)
    )
    equal = [other.compute for other in others if _peaks_of(other, peaks) == used]
    if not equal:
        return ""
    return (
        f"precision.compute: {' or '.join(equal)} would move nothing: the accelerator's peak is "
        "the same"
    )


def _widths(facts: Facts) -> str:
    """Return for each role which other formats take as many bytes."""
    precision = facts.scenario.precision
    without = (Optimizer.SGD, Optimizer.ADAM_8BIT)
    idle = {"moments"} if facts.scenario.workload.optimizer in without else set()
    if not sends_gradients(facts):
        idle.add("gradient_reduction")
    roles: dict[str, list[str]] = {}
    for role in STORED_ROLES:
        name = getattr(precision, role)
        if name is not None and role not in idle:
            roles.setdefault(name, []).append(f"precision.{role}")
    said = []
    for name, fields in roles.items():
        size = FORMATS[name].tensor_bytes(1)
        twins = [
            other
            for other, entry in FORMATS.items()
            if other != name
            and all(entry.fills(field.removeprefix("precision.")) for field in fields)
            and entry.tensor_bytes(1) == size
        ]
        if twins:
            said.append(f"{listed(fields)}: {' or '.join(twins)} would move nothing: it is as wide")
    return "; ".join(said)


def _stored(facts: Facts) -> str:
    """Return that the format of weights has no effect where all are stored in another."""
    precision = facts.scenario.precision
    plan = facts.scenario.plan
    copied = plan.gradient_bucket_parameters and plan.gradient_buckets is GradientBuckets.COPIED
    buckets = copied or plan.gradient_buckets is GradientBuckets.TORCH_DDP
    if precision.stored_weights is None or buckets:
        return ""
    reason = f"weights are stored as {precision.stored_weights}"
    return without_effect(["precision.weights"], reason)


def _cache(facts: Facts) -> str:
    fields = ["precision.kv_cache", "precision.kv_cache_group_size"]
    fields += [
        "precision.kv_cache_scale_bytes",
        "plan.kv_cache_block_length",
        "plan.decompress_kv_cache",
    ]
    return without_effect(fields, "training keeps no cache of keys and values")


def _tokens(facts: Facts) -> str:
    workload = facts.scenario.workload
    if workload.total_tokens is None:
        return ""
    step = workload.global_batch_size * workload.sequence_length
    steps = -(-workload.total_tokens // step)
    return (
        f"workload.total_tokens: from {(steps - 1) * step + 1} to {steps * step} would move "
        f"nothing: a run is {counted(steps, 'whole step')}"
    )


INERT: tuple[Callable[[Facts], str], ...] = (
    _replicas,
    _layers,
    _recomputed,
    _modules,
    _links,
    _hidden_links,
    _products,
    _node_size,
    _order,
    _positions,
    _norms,
    _expert_width,
    _dense_layers,
    _one_replica,
    _buckets,
    _gather,
    _overlaps,
    _beside,
    _context_method,
    _expert_split,
    _sharding_group,
    _capacity,
    _limit,
    _same_order,
    _offload,
    _offloaded_layers,
    _moments,
    _peaks,
    _compute,
    _widths,
    _stored,
    other_targets,
    _cache,
    _tokens,
    _short,
    _labels,
)
"""What to say of fields without effect, in a fixed order; empty where they have one."""

OF_MEMORY = (
    *(_replicas, _layers, _positions, _norms, _expert_width, _expert_split, _dense_layers),
    *(_short, _labels),
)
"""Those of them that hold of memory alone too, of inference as of training."""
