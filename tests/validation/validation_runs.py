"""Suites that need nothing, and runs of them."""

from collections.abc import Iterator, Sequence

from validation.cases import Case
from validation.jobs import Job, Settings, Suite, UnavailableError
from validation.running import ValidationRun, run_suites


def case(name: str, prediction: float, measurement: float, tolerance: float = 0.0) -> Case:
    """Return a case of a suite that compares nothing real."""
    return Case(
        suite="group",
        name=name,
        claim=f"{name} is what it says",
        prediction=prediction,
        measurement=measurement,
        unit="byte",
        tolerance_fraction=tolerance,
        tolerance_reason="chosen for the test",
        method="counted by hand",
        source="nowhere & <everywhere>",
    )


def raises() -> Iterator[Case]:
    """Yield a case, then fail."""
    yield case("before the trouble", 1, 1)
    raise ValueError("no such thing")


def unavailable() -> Iterator[Case]:
    """Fail for lack of something."""
    yield from ()
    raise UnavailableError("no GPU on this machine")


def interrupts() -> Iterator[Case]:
    """Yield a case, then behave as if somebody pressed Ctrl-C."""
    yield case("before the interruption", 2, 2)
    raise KeyboardInterrupt


def suite(name: str, jobs: Sequence[Job], needs: tuple[str, ...] = ()) -> Suite:
    """Return a suite of some jobs."""
    return Suite(
        name=name,
        description=f"What {name} compares.",
        page="accuracy.md",
        jobs=lambda _: jobs,
        needs=needs,
    )


GOOD = suite("good", [Job(name="equal", run=lambda: [case("a", 3, 3), case("b", 101, 100, 0.02)])])
BAD = suite(
    "bad",
    [
        Job(name="wrong", run=lambda: [case("c", 5, 4), case("a | zero", 1, 0)]),
        Job(name="right", run=lambda: [case("d", 6, 6)]),
    ],
)
TROUBLED = suite(
    "troubled",
    [
        Job(name="raises", run=raises),
        Job(name="unavailable", run=unavailable),
        Job(name="goes on", run=lambda: [case("e", 7, 7)]),
    ],
)
STOPPED = suite(
    "stopped",
    [Job(name="interrupts", run=interrupts), Job(name="never", run=lambda: [case("f", 8, 8)])],
)
MISSING = suite("missing", [Job(name="never", run=list)], needs=("no_such_module_anywhere",))


def played(*suites: Suite) -> ValidationRun:
    """Return the run of some suites under plain settings."""
    return run_suites(suites, Settings())
