"""What a suite of validation is made of: jobs that each return some cases."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from validation.cases import Case


class UnavailableError(Exception):
    """Something that a job needs is not on this machine; the text says what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How suites are run.

    Attributes
    ----------
    quick : bool
        Whether jobs that take long are left out.
    device : str
        ``cpu`` or ``cuda``: where programs run whose measurement depends on it.
    seed : int
        From which random choices are drawn.
    """

    quick: bool = False
    device: str = "cpu"
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Some cases of a suite that are made together.

    Attributes
    ----------
    name : str
        Name within the suite, by which it can be run alone.
    run : callable
        Make the cases.
    """

    name: str
    run: Callable[[], Iterable[Case]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """A group of cases that is run, and reported, under one name.

    Attributes
    ----------
    name : str
        Name on the command line.
    description : str
        What is compared with what, in one sentence.
    page : str
        Page of the documentation that explains the closed forms.
    jobs : callable
        Return what is run under some settings. Costs little, and needs no torch.
    needs : tuple of str
        Modules that must be installed.
    """

    name: str
    description: str
    page: str
    jobs: Callable[[Settings], Sequence[Job]]
    needs: tuple[str, ...] = ()
