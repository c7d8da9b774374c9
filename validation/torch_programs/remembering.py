"""What order, age and gradients are to memories and to autoencoders: small torch programs."""

import torch

from validation.torch_programs.counting import one_thread
from validation.torch_programs.memory_layouts import Decay, mapped, retrieved, updated
from validation.torch_programs.recall import plain_memory

SEED = 1


def _drawn(stored: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(SEED)
    size = (1, 1, stored, width)
    keys, values = (torch.randn(size, dtype=torch.float64, generator=generator) for _ in range(2))
    return keys, values


def order_difference(stored: int, width: int) -> float:
    """Return by how much a memory by the linear rule differs when its tokens come in reverse [1].

    Parameters
    ----------
    stored, width : int
        Tokens, and width of keys and values.

    Returns
    -------
    float
        Largest difference over the largest element.
    """
    keys, values = _drawn(stored, width)
    forth = back = None
    with one_thread():
        for place in range(stored):
            own, other = slice(place, place + 1), slice(stored - 1 - place, stored - place)
            forth = updated(forth, keys[:, :, own], values[:, :, own], is_delta=False)
            back = updated(back, keys[:, :, other], values[:, :, other], is_delta=False)
    assert forth is not None  # noqa: S101 - tells the type checker
    assert back is not None  # noqa: S101
    return float((forth[0] - back[0]).abs().max() / forth[0].abs().max())


def recall_by_age(
    stored: int, width: int, *, is_delta: bool, unit_keys: bool = False
) -> tuple[float, float]:
    """Return how like the values of the oldest and of the newest quarter are to what is read back.

    Parameters
    ----------
    stored, width : int
        Tokens, and width of keys and values.
    is_delta : bool
        By the delta rule.
    unit_keys : bool
        Keys of length one without a map, and no normalizer, in place of ELU + 1 of a key.

    Returns
    -------
    tuple of float
        Mean cosine of the angle between a value and what its key reads: oldest, newest [1].
    """
    keys, values = _drawn(stored, width)
    with one_thread():
        if unit_keys:
            unit = torch.nn.functional.normalize(keys, dim=-1)
            read = plain_memory(unit, values, 1, is_delta=is_delta)
        else:
            read = _read_back(keys, values, is_delta=is_delta)
    # What all reads have in common, the mean of the values, says nothing of a key.
    likeness = torch.cosine_similarity(read - read.mean(dim=2, keepdim=True), values, dim=-1)[0, 0]
    quarter = stored // 4
    return float(likeness[:quarter].mean()), float(likeness[-quarter:].mean())


def _read_back(keys: torch.Tensor, values: torch.Tensor, *, is_delta: bool) -> torch.Tensor:
    state = None
    for place in range(keys.shape[2]):
        own = slice(place, place + 1)
        state = updated(state, keys[:, :, own], values[:, :, own], is_delta=is_delta)
    assert state is not None  # noqa: S101 - tells the type checker
    return retrieved(mapped(keys), state)


def weight_of_first(segments: int, decay: float) -> float:
    """Return with which weight a memory holds its first segment after some have come [1].

    Parameters
    ----------
    segments : int
        Of one token each, the first included [count].
    decay : float
        Factor of what is kept at each update; 1 as the paper has it.
    """
    keys, values = _drawn(segments, 4)
    values = torch.cat((values[:, :, :1], torch.zeros_like(values[:, :, 1:])), dim=2)
    state = None
    for place in range(segments):
        own = slice(place, place + 1)
        state = updated(
            state, keys[:, :, own], values[:, :, own], is_delta=False, decay=Decay(kept=decay)
        )
    assert state is not None  # noqa: S101 - tells the type checker
    alone = updated(None, keys[:, :, :1], values[:, :, :1], is_delta=False)
    return float((state[0] / alone[0]).mean())


def sampled_gradients(draws: int) -> tuple[float, float]:
    """Return the gradients of the sum of mu + exp(s) e over draws of e, by mu and by s [1].

    Returns
    -------
    tuple of float
        The first is the count of draws; the second, exp(s) times the sum of e, is divided by it.
    """
    noise = torch.randn(draws, dtype=torch.float64, generator=torch.Generator().manual_seed(SEED))
    mean = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    log = torch.tensor(-0.2, dtype=torch.float64, requires_grad=True)
    (mean + log.exp() * noise).sum().backward()
    expected = float(log.detach().exp() * noise.sum())
    assert mean.grad is not None  # noqa: S101 - tells the type checker
    assert log.grad is not None  # noqa: S101
    return float(mean.grad), float(log.grad) / expected


def equal_codes(inputs: int, *, sampled: bool) -> int:
    """Return how many inputs an encoder gives the same code twice [count].

    Parameters
    ----------
    inputs : int
        Encoded twice each [count].
    sampled : bool
        As a variational autoencoder draws its code; else as a plain one computes it.
    """
    generator = torch.Generator().manual_seed(SEED)
    weights = torch.randn(8, 4, generator=generator)
    numbers = torch.randn(inputs, 8, generator=generator)

    def code() -> torch.Tensor:
        plain = torch.tanh(numbers @ weights)
        return plain + 0.1 * torch.randn(plain.shape, generator=generator) if sampled else plain

    return int((code() == code()).all(dim=1).sum())


def compressed_reach(own: int, memory: int, compressed: int, rate: int) -> int:
    """Return the tokens that can move the last output of a layer with a compressed memory [count].

    Parameters
    ----------
    own, memory : int
        Tokens of the open segment, and of the memory before it [token].
    compressed, rate : int
        Slots of the compressed memory, each a learned mean of `rate` older tokens [count].
    """
    length = 2 * (own + memory + rate * compressed)
    generator = torch.Generator().manual_seed(SEED)
    states = torch.randn(length, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    weights = torch.rand(rate, dtype=torch.float64, generator=generator) + 0.1
    old = states[length - own - memory - rate * compressed : length - own - memory]
    slots = (old.reshape(compressed, rate, 4) * weights[:, None]).sum(dim=1)
    keys = torch.cat((slots, states[length - own - memory :]))
    shares = torch.softmax(keys @ keys[-1], dim=0)
    (shares @ keys).sum().backward()
    assert states.grad is not None  # noqa: S101 - tells the type checker
    return int((states.grad.abs().sum(dim=1) > 0).sum())
