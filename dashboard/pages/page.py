"""What every page about a scenario has."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from costmodels.scenario import Scenario
from dashboard.questions import Question
from dashboard.state import State


class Asked(NamedTuple):
    """What a page is to show.

    Attributes
    ----------
    state : State
        What the address states.
    question : Question
        The scenario that is asked about.
    """

    state: State
    question: Question


Render = Callable[[Asked], Sequence[Any]]
Controls = Callable[[State, Scenario | None], Sequence[Any]]


def _nothing(asked: Asked) -> Sequence[Any]:
    del asked
    return []


def _no_controls(state: State, scenario: Scenario | None) -> Sequence[Any]:
    del state, scenario
    return []


class Page(NamedTuple):
    """A page about a scenario.

    Attributes
    ----------
    path : str
        Its address.
    title : str
        Its name in the navigation.
    render : callable
        What it shows at once.
    later : callable
        What takes longer, and appears below when it is there.
    controls : callable
        Controls of its own, below the scenario bar.
    without : tuple of str
        Fields that those controls state, so that the bar does not.
    defaults : tuple of (str, str)
        What its controls show at first, which an address need not state.
    about_scenario : bool
        Whether the scenario bar stands above it.
    """

    path: str
    title: str
    render: Render
    later: Render = _nothing
    controls: Controls = _no_controls
    without: tuple[str, ...] = ()
    defaults: tuple[tuple[str, str], ...] = ()
    about_scenario: bool = True
