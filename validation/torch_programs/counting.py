"""The work of a program as torch counts it, and the parameters of its modules."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, NamedTuple, Self

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from costmodels.specs.model import Model
from costmodels.specs.plan import Recompute, RecomputeModule
from validation.torch_programs.blocks import Block, Decoder, Head

_WEIGHTS, _SCORES = ("aten.mm", "aten.addmm"), ("aten.bmm",)
_PRODUCT = re.compile(r"mm|mv|dot|attention|conv|einsum|linear")


class Work(NamedTuple):
    """Work of a program, by the kind of product.

    Attributes
    ----------
    weights : int
        Of products with a weight: `mm` and `addmm` [FLOP].
    scores : int
        Of products of activations for each head: `bmm` [FLOP].
    """

    weights: int
    scores: int

    @property
    def total(self) -> int:
        """Return the work of all products [FLOP]."""
        return self.weights + self.scores


class Passes(NamedTuple):
    """Work of a program's two passes.

    Attributes
    ----------
    forward, backward : Work
        What each executes, recomputation in the backward.
    """

    forward: Work
    backward: Work


class _SeenProducts(TorchDispatchMode):
    """Notes the operators that look like products and that torch's counter has no formula for."""

    def __init__(self) -> None:
        super().__init__()
        self.uncounted: set[str] = set()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        packet = func.overloadpacket
        if _PRODUCT.search(packet.__name__) and packet not in flop_registry:
            self.uncounted.add(str(packet))
        return func(*args, **(kwargs or {}))


class WorkCounter:
    """Counts the work between its start and its end.

    Raises
    ------
    ValueError
        At the end, if a product ran that torch's counter takes for nothing, as fused attention on
        a CPU, or one that is neither of weights nor of heads.

    Notes
    -----
    Torch's counter breaks operators up before it looks for a formula; what it passes on is what
    ran, and that is looked at once more.
    """

    def __init__(self) -> None:
        self._seen = _SeenProducts()
        self._counter = FlopCounterMode(display=False)

    def __enter__(self) -> Self:
        """Start to count."""
        self._seen.__enter__()
        self._counter.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop, and check that everything was counted."""
        self._counter.__exit__(kind, error, trace)
        self._seen.__exit__(kind, error, trace)
        if kind is None:
            self._check()

    def _by_operator(self) -> dict[str, int]:
        counts = self._counter.get_flop_counts().get("Global", {})
        return {str(packet): int(flop) for packet, flop in counts.items()}

    def _check(self) -> None:
        unknown = set(self._by_operator()) - {*_WEIGHTS, *_SCORES}
        if self._seen.uncounted | unknown:
            names = ", ".join(sorted(self._seen.uncounted | unknown))
            raise ValueError(f"work of {names} is not counted: write it as a matrix product")

    @property
    def work(self) -> Work:
        """Return what was counted [FLOP]."""
        counts = self._by_operator()
        return Work(
            sum(counts.get(name, 0) for name in _WEIGHTS),
            sum(counts.get(name, 0) for name in _SCORES),
        )


@contextmanager
def one_thread() -> Iterator[None]:
    """Run small operators on one thread: more of them only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def passes(forward: Callable[[], torch.Tensor]) -> Passes:
    """Return the work of a program and of the backward of its sum."""
    with one_thread():
        with WorkCounter() as there:
            out = forward()
        with WorkCounter() as back:
            torch.autograd.backward(out.sum())
    return Passes(there.work, back.work)


def block_passes(
    model: Model, layer: int, batch: int, length: int, *, device: str = "cpu"
) -> Passes:
    """Return the work of one layer on (batch, length) tokens [FLOP].

    Parameters
    ----------
    model : Model
        Description of the model.
    layer : int
        Which of its layers [index].
    batch, length : int
        Sequences, and tokens of each [count].
    device : str
        Where it runs: on ``meta`` operators have shapes and no values, so that any size does.
    """
    with torch.device(device):
        block = Block(model, layer)
        hidden = torch.empty(batch, length, model.hidden_size, requires_grad=True)
    return passes(lambda: block(hidden))


def head_passes(model: Model, batch: int, length: int, *, device: str = "cpu") -> Passes:
    """Return the work of final norm and head on (batch, length) tokens [FLOP]."""
    with torch.device(device):
        head = Head(model)
        hidden = torch.empty(batch, length, model.hidden_size, requires_grad=True)
    return passes(lambda: head(hidden))


def decoder_passes(
    model: Model,
    batch: int,
    length: int,
    recompute: Recompute = Recompute.NONE,
    *,
    early_stop: bool = False,
    device: str = "cpu",
    modules: tuple[RecomputeModule, ...] = (RecomputeModule.CORE_ATTN,),
) -> Passes:
    """Return the work of a model and its loss on (batch, length) tokens [FLOP].

    Parameters
    ----------
    model : Model
        Description of the model.
    batch, length : int
        Sequences, and tokens of each [count].
    recompute : Recompute
        What the backward computes again.
    early_stop : bool
        Whether that ends at the last tensor that the backward needs.
    device : str
        Where it runs.
    modules : tuple of RecomputeModule
        Of selective recomputation.
    """
    with torch.device(device):
        decoder = Decoder(model, recompute, early_stop=early_stop, modules=modules)
        tokens = torch.zeros(batch, length, dtype=torch.int64)
    return passes(lambda: decoder(tokens, tokens))


def elements(module: nn.Module) -> int:
    """Return the elements of a module's parameters, a shared one counted once [parameter]."""
    return sum(parameter.numel() for parameter in module.parameters())


def block_elements(model: Model, layer: int) -> int:
    """Return the parameters of one layer as a module [parameter]."""
    with torch.device("meta"):
        return elements(Block(model, layer))


def decoder_elements(model: Model) -> int:
    """Return the parameters of a whole model as modules [parameter]."""
    with torch.device("meta"):
        return elements(Decoder(model))


def torch_version() -> str:
    """Return the version of torch, for the record of a case."""
    return f"torch {torch.__version__}"
