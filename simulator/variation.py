"""Microbatches of different sizes, and ranks and actions that take longer by chance."""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from costmodels.errors import SpecError
from costmodels.pipelining.actions import ActionKind
from simulator.inert_fields import counted
from simulator.program import PipelineProgram


@dataclass(frozen=True, slots=True, kw_only=True)
class Variation:
    """How the actions of a step differ from their work.

    Attributes
    ----------
    jitter_fraction : float
        Standard deviation of an action's time over its work, drawn for each action from a
        log-normal distribution with mean one [fraction].
    stragglers : mapping of int to float
        By rank, how many times longer all its actions take [ratio].
    microbatch_scales : sequence of float
        By microbatch, its tokens over those of the mean microbatch; work, stored and sent bytes
        are proportional to it, so that the part of attention that grows with the square of the
        sequence is not. Empty where all are alike [ratio].
    seed : int
        Of the generator that jitter is drawn from.
    """

    jitter_fraction: float = 0
    stragglers: Mapping[int, float] = field(default_factory=dict)
    microbatch_scales: Sequence[float] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.jitter_fraction <= 1:
            raise SpecError(f"jitter ({self.jitter_fraction}) must be from 0 to 1")
        for rank, factor in self.stragglers.items():
            if not factor > 0:
                raise SpecError(f"straggler of rank {rank} ({factor}) must be a positive factor")
        for scale in self.microbatch_scales:
            if not 0 < scale < math.inf:
                raise SpecError(f"microbatch scale ({scale}) must be positive and finite")
        self._refuse_other_mean()

    def _refuse_other_mean(self) -> None:
        """Raise unless sizes over their mean have a mean of one, to what a user types."""
        scales = self.microbatch_scales
        mean = math.fsum(scales) / len(scales) if scales else 1
        if not math.isclose(mean, 1, rel_tol=1e-3):
            stated, instead = (
                ",".join(f"{scale / over:.6g}" for scale in scales) for over in (1, mean)
            )
            raise SpecError(
                f"--microbatch-sizes ({stated}): tokens over those of the mean microbatch must "
                f"average 1, not {mean:.6g}; these proportions are {instead}"
            )


def varied(program: PipelineProgram, variation: Variation) -> PipelineProgram:
    """Return a program whose actions take what a variation makes of their work.

    Parameters
    ----------
    program : PipelineProgram
        Work by virtual stage.
    variation : Variation
        How actions differ.

    Returns
    -------
    PipelineProgram
        The same for the same seed; the program itself where nothing varies.

    Raises
    ------
    SpecError
        If a straggler is none of the ranks, or the scales are not one for each microbatch.
    """
    refuse_misfit(variation, ranks=len(program.order), microbatches=program.microbatch_count())
    if variation == Variation(seed=variation.seed):
        return program
    draws = random.Random(variation.seed)  # noqa: S311
    durations = {
        kind: [_durations_s(program, variation, kind, stage, draws) for stage in _stages(program)]
        for kind in program.kinds()
    }
    scales = tuple(variation.microbatch_scales)
    return replace(program, durations_s=durations, microbatch_scales=scales)


def refuse_misfit(variation: Variation, *, ranks: int, microbatches: int) -> None:
    """Raise unless a variation is about a pipeline of so many ranks and microbatches.

    Raises
    ------
    SpecError
        If a straggler is none of the ranks, or the scales are not one for each microbatch.
    """
    for rank in variation.stragglers:
        if not 0 <= rank < ranks:
            raise SpecError(f"straggler {rank} is none of the {ranks} ranks of the pipeline")
    sizes = len(variation.microbatch_scales)
    if sizes and sizes != microbatches:
        raise SpecError(
            f"--microbatch-sizes has {counted(sizes, 'entry', 'entries')} for "
            f"{counted(microbatches, 'microbatch', 'microbatches')}"
        )


def _stages(program: PipelineProgram) -> range:
    return range(program.stage_count)


def _durations_s(
    program: PipelineProgram,
    variation: Variation,
    kind: ActionKind,
    stage: int,
    draws: random.Random,
) -> list[float]:
    count = program.microbatch_count()
    slower = variation.stragglers.get(program.stage_ranks()[stage], 1)
    duration_s = program.works(kind)[stage].duration_s * slower
    scales = variation.microbatch_scales or (1,) * count
    return [scale * duration_s * _factor(variation.jitter_fraction, draws) for scale in scales]


def _factor(jitter_fraction: float, draws: random.Random) -> float:
    """Return a log-normal factor of mean one and this standard deviation."""
    if not jitter_fraction:
        return 1
    # The logarithm has this variance, and minus half of it as its mean, so that the mean is one.
    variance = math.log1p(jitter_fraction**2)
    return draws.lognormvariate(-variance / 2, math.sqrt(variance))
