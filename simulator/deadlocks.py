"""Ranks that wait for each other forever: who waits at which action for what, and in which cycle."""

from collections.abc import Mapping, Sequence

from costmodels.errors import SpecError
from costmodels.pipelining.actions import Action
from simulator.program import PipelineProgram


def refuse_deadlock(program: PipelineProgram, done_counts: Sequence[int]) -> None:
    """Raise `SpecError` where a rank did not get to the end of its actions.

    Parameters
    ----------
    program : PipelineProgram
        What was played.
    done_counts : sequence of int
        By rank, how many of its actions ended [count].

    Raises
    ------
    SpecError
        Naming each rank that waits, and the cycle of ranks or the action that is nowhere.
    """
    stuck = {
        rank: actions[done]
        for rank, (actions, done) in enumerate(zip(program.order, done_counts, strict=True))
        if done < len(actions)
    }
    if not stuck:
        return
    needed = {rank: program.previous_action(action) for rank, action in stuck.items()}
    waits = [f"rank {rank} waits at {stuck[rank]} for {needed[rank]}" for rank in stuck]
    raise SpecError(f"the order deadlocks: {'; '.join(waits)}; {_reason(program, needed)}")


def _reason(program: PipelineProgram, needed: Mapping[int, Action | None]) -> str:
    """Return the cycle of waiting ranks, or the action that no rank does."""
    rank_of = {action: rank for rank, actions in enumerate(program.order) for action in actions}
    rank, path = next(iter(needed)), list[int]()
    while rank not in path:
        path.append(rank)
        action = needed[rank]
        if action is None or action not in rank_of:
            return f"no rank does {action}"
        rank = rank_of[action]
    cycle = [*path[path.index(rank) :], rank]
    return "the cycle is " + " > ".join(f"rank {entry}" for entry in cycle)
