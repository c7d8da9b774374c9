"""Times of single operators and of whole training steps, on one process or on several at once."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch.distributed.pipelining import PipelineStage, Schedule1F1B
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from validation.operators import Reading, Training
from validation.torch_programs.decoder import Decoder, Whole
from validation.torch_programs.sizes import Sizes, Work
from validation.torch_programs.tensor_parallel import TensorParallel
from validation.torch_programs.training import batch, microbatches

_LEAST_S = 0.02
"""An operator is repeated until it has run so long, so that the clock's grain and calls vanish [s]."""


class Operator(NamedTuple):
    """An operator to be timed; fields as `Reading`, and what goes before it, not timed."""

    kind: str
    name: str
    flop: int
    moved_bytes: int
    run: Callable[[], object]
    before: Callable[[], object] | None = None


MATMULS = (
    (256, 512, 512),
    (512, 512, 2048),
    (512, 1024, 1024),
    (1024, 256, 1024),
    (1024, 1024, 2816),
    (2048, 512, 1536),
)
"""Rows, inputs and outputs of measured products [count]."""

ATTENTIONS = ((4, 8, 128, 64), (2, 8, 256, 64), (1, 16, 512, 64), (2, 4, 512, 32))
"""Sequences, heads, tokens and head size of measured attention [count]."""

TOKENS = ((512, 512, 2048), (1024, 256, 1024), (1024, 1024, 2816))
"""Tokens, hidden size and width of measured elementwise operators [count]."""

VOCABULARY = ((512, 4096), (1024, 8192))
"""Tokens and vocabulary of measured losses [count]."""

REDUCED_ELEMENTS = (1, 1_000, 16_000, 128_000, 1_000_000, 4_000_000)
"""Elements of measured all-reduces of fp32 [count]."""

_ELEMENT = 4


def _matmuls(device: str) -> Iterator[Operator]:
    for rows, inputs, outputs in MATMULS:
        left = torch.randn(rows, inputs, device=device)
        right = torch.randn(outputs, inputs, device=device)
        above = torch.randn(rows, outputs, device=device)

        def run(
            left: torch.Tensor = left, right: torch.Tensor = right, above: torch.Tensor = above
        ) -> None:
            functional.linear(left, right)
            above @ right
            above.T @ left

        yield Operator(
            "matmul",
            f"{rows} x {inputs} x {outputs}, forward and backward",
            3 * 2 * rows * inputs * outputs,
            3 * _ELEMENT * (rows * inputs + inputs * outputs + rows * outputs),
            run,
        )


def _attentions(device: str) -> Iterator[Operator]:
    for batch_size, heads, tokens, size in ATTENTIONS:
        shape = (batch_size, heads, tokens, size)
        parts = [torch.randn(shape, device=device, requires_grad=True) for _ in range(3)]
        above = torch.randn(shape, device=device)

        def run(parts: list[torch.Tensor] = parts, above: torch.Tensor = above) -> None:
            query, key, value = parts
            out = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
            torch.autograd.grad(out, parts, above)

        pairs = tokens * (tokens + 1) // 2
        # Two products forward, five backward: a flash kernel computes the scores again.
        flop = 7 * 2 * batch_size * heads * pairs * size
        yield Operator("attention", f"{shape}, causal, forward and backward", flop, 0, run)


def _elementwise(device: str) -> Iterator[Operator]:
    for tokens, hidden, width in TOKENS:
        residual, branch = (
            torch.randn(tokens, hidden, device=device, requires_grad=True) for _ in range(2)
        )
        gate, up = (torch.randn(tokens, width, device=device, requires_grad=True) for _ in range(2))
        weight = torch.ones(hidden, device=device, requires_grad=True)
        narrow = torch.randn(tokens, hidden, device=device)
        wide = torch.randn(tokens, width, device=device)

        def run(
            inputs: Sequence[torch.Tensor] = (residual, branch, weight, gate, up),
            above: Sequence[torch.Tensor] = (narrow, wide),
        ) -> None:
            residual, branch, weight, gate, up = inputs
            normed = functional.rms_norm(residual + branch, weight.shape, weight)
            torch.autograd.grad(normed, (residual, branch, weight), above[0])
            product = functional.silu(gate) * up
            torch.autograd.grad(product, (gate, up), above[1])

        # Forward 3 h for the addition, 2 h for the norm, 3 f for the gate; backward twice that.
        moved = 3 * _ELEMENT * tokens * (5 * hidden + 3 * width)
        yield Operator("elementwise", f"layer of {hidden}, {width}, {tokens} tokens", 0, moved, run)
    for tokens, vocabulary in VOCABULARY:
        logits = torch.randn(tokens, vocabulary, device=device, requires_grad=True)
        targets = torch.randint(vocabulary, (tokens,), device=device)

        def lose(logits: torch.Tensor = logits, targets: torch.Tensor = targets) -> None:
            torch.autograd.grad(functional.cross_entropy(logits, targets), logits)

        moved = 3 * 3 * _ELEMENT * tokens * vocabulary
        name = f"loss of {vocabulary} words, {tokens} tokens"
        yield Operator("elementwise", name, 0, moved, lose)


def _optimizers(device: str) -> Iterator[Operator]:
    weights = [torch.randn(1024, 1024, device=device, requires_grad=True) for _ in range(8)]
    for weight in weights:
        weight.grad = torch.randn_like(weight)
    adam = torch.optim.AdamW(weights, fused=True)
    elements = sum(weight.numel() for weight in weights)
    # Gradient read; two moments and the weight read and written.
    yield Operator(
        "optimizer", f"AdamW of {elements} weights", 0, 7 * _ELEMENT * elements, adam.step
    )


def _all_reduces(device: str) -> Iterator[Operator]:
    """Yield sums over ranks that come from a product each, as those of a step do: never together."""
    if dist.get_world_size() < 2:
        return
    matrix = torch.randn(512, 512, device=device)
    for elements in REDUCED_ELEMENTS:
        tensor = torch.zeros(elements, device=device)

        def run(tensor: torch.Tensor = tensor) -> None:
            dist.all_reduce(tensor)

        yield Operator(
            "all-reduce",
            f"{elements} elements",
            0,
            _ELEMENT * elements,
            run,
            before=lambda: matrix @ matrix,
        )


def _seconds(
    run: Callable[[], object],
    repeats: int,
    device: str,
    before: Callable[[], object] | None = None,
) -> float:
    if before is None:
        return _elapsed_s(lambda: [run() for _ in range(repeats)], device) / repeats
    spent_s = 0.0
    for _ in range(repeats):
        _elapsed_s(before, device)
        spent_s += _elapsed_s(run, device)
    return spent_s / repeats


def _elapsed_s(run: Callable[[], object], device: str) -> float:
    begin_s = time.perf_counter()
    run()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin_s


def _repeats(operator: Operator, device: str) -> int:
    """Return how often an operator runs in a round, the same number on every rank."""
    operator.run()
    once_s = _seconds(operator.run, 1, device, operator.before)
    wanted = torch.tensor([max(1.0, _LEAST_S / max(once_s, 1e-7))])
    dist.all_reduce(wanted, op=dist.ReduceOp.MAX)
    return min(int(wanted.item()), 1000)


def operator_readings(rounds: int, device: str = "cpu") -> list[Reading]:
    """Return the times of every operator, in rounds that go through all of them.

    Parameters
    ----------
    rounds : int
        How often each is timed, with the others between, so that a slow spell of the machine does
        not fall on one of them [count].
    device : str
        ``cpu`` or ``cuda``.

    Returns
    -------
    list of Reading
        Of this rank, while all ranks run the same.
    """
    makers = (_matmuls, _attentions, _elementwise, _optimizers, _all_reduces)
    operators = [operator for maker in makers for operator in maker(device)]
    repeats = [_repeats(operator, device) for operator in operators]
    seconds: list[list[float]] = [[] for _ in operators]
    for _ in range(rounds):
        for place, operator in enumerate(operators):
            dist.barrier()
            taken = _seconds(operator.run, repeats[place], device, operator.before)
            seconds[place].append(taken)
    return [
        Reading(*operator[:4], tuple(rounds_s))
        for operator, rounds_s in zip(operators, seconds, strict=True)
    ]


def step_seconds(
    trainings: Sequence[Training], rounds: int, device: str = "cpu"
) -> list[list[float]]:
    """Return the times of a training step of each run, in rounds that go through all of them.

    Parameters
    ----------
    trainings : sequence of Training
        Runs; all of an axis that fits the number of ranks.
    rounds : int
        Steps of each that are timed; one more goes before [count].
    device : str
        ``cpu`` or ``cuda``.

    Returns
    -------
    list of list of float
        For each run the time of each round [s].
    """
    steps = [_step(training, device) for training in trainings]
    for step in steps:
        step()
    found: list[list[float]] = [[] for _ in steps]
    for _ in range(rounds):
        for place, step in enumerate(steps):
            dist.barrier()
            found[place].append(_seconds(step, 1, device))
    return found


def _step(training: Training, device: str) -> Callable[[], None]:
    sizes, work, axis = training
    if axis == "pipeline":
        return _pipeline_step(sizes, work, device)
    replica = dist.get_rank() if axis == "data" else 0
    split = TensorParallel() if axis == "tensor" else Whole()
    decoder = Decoder(sizes, split, fused=True).to(device)
    model: torch.nn.Module = decoder
    if axis == "data":
        model = DistributedDataParallel(decoder)
    adam = torch.optim.AdamW(decoder.parameters(), fused=True)
    pairs = [
        (tokens.to(device), targets.to(device))
        for tokens, targets in microbatches(sizes, work, step=0, replica=replica)
    ]

    def step() -> None:
        for place, (tokens, targets) in enumerate(pairs):
            if isinstance(model, DistributedDataParallel):
                model.require_backward_grad_sync = place == len(pairs) - 1
            split.loss(model(tokens), targets.T).backward()
        adam.step()
        adam.zero_grad(set_to_none=True)

    return step


def _pipeline_step(sizes: Sizes, work: Work, device: str) -> Callable[[], None]:
    """Return a step of 1F1B over all ranks, layers dealt out evenly."""
    rank, ranks = dist.get_rank(), dist.get_world_size()
    own = sizes.num_hidden_layers // ranks
    chunk = Decoder(
        sizes,
        Whole(),
        layers=range(rank * own, (rank + 1) * own),
        holds_embedding=rank == 0,
        holds_head=rank == ranks - 1,
        fused=True,
    ).to(device)
    adam = torch.optim.AdamW(chunk.parameters(), fused=True)
    tokens, targets = (part.to(device) for part in batch(sizes, work, step=0))
    runner = Schedule1F1B(
        PipelineStage(chunk, rank, ranks, torch.device(device)),
        n_microbatches=work.microbatch_count,
        loss_fn=lambda logits, targets: Whole().loss(logits, targets.T),
    )

    def step() -> None:
        entering = (tokens,) if rank == 0 else ()
        runner.step(*entering, target=targets if rank == ranks - 1 else None)
        adam.step()
        adam.zero_grad(set_to_none=True)

    return step
