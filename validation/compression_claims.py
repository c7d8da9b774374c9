"""Claims on factorized matrices, adapters and experts, decided by arrays and published counts."""

from collections.abc import Iterator
from functools import partial, reduce

import numpy as np
from numpy.typing import NDArray

from costmodels.analysis import evaluate
from costmodels.compilation import compile_model
from costmodels.parameters.layers import router_parameters
from costmodels.presets import model_preset
from validation.cases import Case
from validation.claim_cases import claim_case

Numbers = NDArray[np.float64]


_case = partial(
    claim_case,
    method="arrays of a small program, or as printed",
    source="numpy.linalg, of the version that the report states",
    reason="counts are equal or they are not",
)


def factor_parameters(rows: int, columns: int, rank: int) -> int:
    """Return the numbers of a cut singular value decomposition, its values apart [count]."""
    return rank * (rows + columns + 1)


def _cut(matrix: Numbers, rank: int) -> tuple[Numbers, Numbers, Numbers]:
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    return left[:, :rank], values[:rank], right[:rank]


def low_rank_cases() -> Iterator[Case]:
    """Yield what factorized matrices and tensors hold, and what they lose."""
    matrix = np.random.default_rng(7).normal(size=(4, 4))
    for rank, claims in ((1, ("LOR-3",)), (2, ("LOR-3",)), (4, ("LOR-2",))):
        yield _case(
            f"numbers of a 4 x 4 matrix at rank {rank}",
            "a cut decomposition holds rank times both sides and one",
            factor_parameters(4, 4, rank),
            sum(part.size for part in _cut(matrix, rank)),
            "count",
            claims,
        )
    for rank in (1, 2, 3):
        left, values, right = _cut(matrix, rank)
        # Squared singular values are eigenvalues of the product with the transpose.
        dropped = np.linalg.eigvalsh(matrix.T @ matrix)[: 4 - rank].sum()
        yield _case(
            f"squared error of rank {rank}",
            "the error is the sum of the dropped squared singular values (Eckart and Young)",
            float(dropped),
            float(np.square(matrix - left * values @ right).sum()),
            "number",
            ("LOR-3",),
            tolerance=1e-9,
            reason="sixteen sums in double precision",
        )
    rows, columns = 96, 64
    wide = np.random.default_rng(8).normal(size=(rows, columns))
    sizes = [sum(part.size for part in _cut(wide, rank)) for rank in range(1, columns + 1)]
    yield _case(
        f"largest rank at which factors of a {rows} x {columns} matrix are smaller",
        "a decomposition saves below the product of the sides over their sum and one",
        (rows * columns - 1) // (rows + columns + 1),
        sum(size < wide.size for size in sizes),
        "count",
        ("LOR-2",),
    )
    yield from _tensor_cases()
    yield from _adapter_cases()


def _tensor_cases() -> Iterator[Case]:
    """Yield numbers of a convolution's tensor as Tucker and canonical factors."""
    sides, ranks, terms = (64, 32, 3, 3), (16, 8, 3, 3), 8
    draws = np.random.default_rng(9)
    core = draws.normal(size=ranks)
    factors = [draws.normal(size=shape) for shape in zip(sides, ranks, strict=True)]
    whole = np.einsum("abcd,ia,jb,kc,ld->ijkl", core, *factors, optimize=True)
    bases = [_leading(whole, mode, rank) for mode, rank in enumerate(ranks)]
    found = np.einsum("ijkl,ia,jb,kc,ld->abcd", whole, *bases, optimize=True)
    again = np.einsum("abcd,ia,jb,kc,ld->ijkl", found, *bases, optimize=True)
    held = found.size + sum(basis.size for basis in bases)
    inner = reduce(lambda product, rank: product * rank, ranks)
    tucker = inner + sum(side * rank for side, rank in zip(sides, ranks, strict=True))
    yield _case(
        "numbers of a 64 x 32 x 3 x 3 tensor as Tucker factors of rank 16, 8, 3, 3",
        "a tensor of low rank has fewer numbers as a core and a factor for each side",
        tucker,
        held,
        "count",
        ("LOR-1",),
    )
    near = np.isclose(whole, again, rtol=0, atol=1e-9 * np.abs(whole).max())
    yield _case(
        "numbers of the tensor that its Tucker factors give back",
        "a tensor of that rank is given back whole",
        64 * 32 * 3 * 3,
        int(near.sum()),
        "count",
        ("LOR-1",),
    )
    columns = [draws.normal(size=(side, terms)) for side in sides]
    yield _case(
        "numbers of the tensor as 8 canonical terms",
        "a term has one vector for each side",
        terms * sum(sides),
        sum(column.size for column in columns),
        "count",
        ("LOR-1",),
    )


def _leading(whole: Numbers, mode: int, rank: int) -> Numbers:
    unfolded = np.moveaxis(whole, mode, 0).reshape(whole.shape[mode], -1)
    return np.asarray(np.linalg.svd(unfolded, full_matrices=False)[0][:, :rank])


_ADAPTED = "alpaca-lora (github.com/tloen/alpaca-lora), printed: trainable params: 4194304"


def _adapter_cases() -> Iterator[Case]:
    rank, side = 8, 4096
    down, up = np.zeros((rank, side)), np.zeros((side, rank))
    yield _case(
        "numbers of an adapter of rank 8 beside a 4096 x 4096 matrix",
        "an adapter has rank times both sides",
        rank * 2 * side,
        down.size + up.size,
        "count",
        ("LOR-5",),
    )
    model = model_preset("llama-2-7b")
    own = model.num_hidden_layers * 2 * rank * 2 * model.hidden_size
    total = int(evaluate(compile_model(model), ["total_parameters"])["total_parameters"][0])
    yield _case(
        "trained parameters of LLaMA 7B with adapters of queries and values",
        "few parameters are trained",
        own,
        4_194_304,
        "parameter",
        ("LOR-5",),
        source=_ADAPTED,
    )
    yield _case(
        "all parameters of LLaMA 7B with these adapters",
        "the base stays",
        total + own,
        6_742_609_920,
        "parameter",
        ("LOR-5",),
        source=f"{_ADAPTED} || all params: 6742609920",
    )


_MIXTRAL = (
    "Mistral AI, Mixtral of experts, December 2023, https://mistral.ai/news/mixtral-of-experts"
)


def expert_cases() -> Iterator[Case]:
    """Yield what a token visits of a mixture, what chooses it, and what decode reads."""
    from validation.torch_programs.compression import one_token_through_experts

    hidden, width, experts, chosen = 32, 48, 8, 2
    visited = one_token_through_experts(hidden, width, experts, chosen)
    routed = int(router_parameters(hidden, experts, 1, 0))
    pairs = {
        ("experts that one token trains", "MOE-1"): (chosen, visited.experts),
        ("parameters that one token trains of a mixture", "MOE-1"): (
            routed + chosen * 3 * hidden * width,
            visited.parameters,
        ),
        ("parameters of gate and router together", "MOE-2"): (routed, visited.router_parameters),
    }
    for (name, claim), pair in pairs.items():
        yield _case(
            name,
            "one matrix scores the experts, and a token runs through the best of them only",
            *pair,
            "count",
            (claim,),
            source="torch, of the version that the report states",
        )
    names = ["total_parameters", "active_parameters"]
    found = evaluate(compile_model(model_preset("mixtral-8x7b")), names)
    total, active = (float(found[name][0]) for name in names)
    yield _case(
        "parameters of Mixtral 8x7B over those that a token visits",
        "FLOP go by active parameters: 3.6 times fewer than of a dense model as large",
        total / active,
        46.7 / 12.9,
        "ratio",
        ("MOE-3",),
        tolerance=0.005,
        reason="two numbers of three digits: half of the last is 0.11 % and 0.39 %",
        source=f"{_MIXTRAL}: 46.7B total, 12.9B per token",
    )
    draws = np.random.default_rng(11)
    for batch in (1, 8, 16):
        scores = draws.random(size=(20_000, batch, experts))
        best = np.argsort(scores, axis=-1)[..., :chosen].reshape(20_000, -1)
        read = np.mean([len(np.unique(row)) for row in best])
        yield _case(
            f"experts that a step of decode reads for {batch} tokens",
            "bytes go by the experts of the whole batch: soon all of them",
            experts * (1 - (1 - chosen / experts) ** batch),
            float(read),
            "count",
            ("MOE-3",),
            tolerance=0.005,
            reason="20,000 drawn batches leave 0.1 %",
            source="numpy, drawn with equal chances",
        )
