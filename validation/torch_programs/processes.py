"""Run a program on several processes of one machine, and gather what they return."""

import tempfile
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing import connection, get_context
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import FileStore

_T = TypeVar("_T")
_PROGRAMS = tuple(
    f"validation.torch_programs.{module}"
    for module in (
        *("tensor_parallel", "data_parallel", "sharded", "pipeline_parallel", "exchanges"),
        "linear",
    )
)


class _Failure(NamedTuple):
    """What a rank sends in place of a result."""

    text: str


def run(
    program: Callable[[], _T], ranks: int, *, timeout_s: float = 60.0, device: str = "cpu"
) -> list[_T]:
    """Return what a program returns on each rank of a group of processes.

    Parameters
    ----------
    program : callable
        A function of a module, or a `functools.partial` of one. It finds the group of all ranks
        (gloo) in place, and returns plain Python values.
    ranks : int
        Processes, each with one thread [count].
    timeout_s : float
        How long all of them may take together [s].
    device : str
        ``cpu``, or ``cuda`` for programs whose tensors lie there: with a device for each rank, NCCL
        carries what is sent.

    Returns
    -------
    list
        In the order of ranks.

    Raises
    ------
    RuntimeError
        If a rank raises or dies; the text has its traceback.
    TimeoutError
        If a rank does not return in time, as one that waits for a message that nobody sends.

    Notes
    -----
    Processes are forked from a server that has imported torch and has no threads, so that a group
    starts in a second. They meet over a file, not a port.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload(list(_PROGRAMS))
    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder) / "store")
        readers: list[Connection] = []
        processes: list[ForkServerProcess] = []
        for rank in range(ranks):
            reader, writer = context.Pipe(duplex=False)
            process = context.Process(
                target=_rank_main, args=(program, rank, ranks, store, writer, timeout_s, device)
            )
            process.start()
            writer.close()
            readers.append(reader)
            processes.append(process)
        try:
            return _gathered(readers, timeout_s)
        finally:
            for process in processes:
                process.kill()
                process.join()
            for reader in readers:
                reader.close()


def _gathered(readers: list[Connection], timeout_s: float) -> list[Any]:
    """Return the ranks' results, in their order."""
    end_s = time.monotonic() + timeout_s
    results: dict[int, Any] = {}
    waiting = {reader: rank for rank, reader in enumerate(readers)}
    while waiting:
        ready = connection.wait(list(waiting), timeout=max(end_s - time.monotonic(), 0.0))
        if not ready:
            ranks = ", ".join(map(str, sorted(waiting.values())))
            raise TimeoutError(f"ranks {ranks} of {len(readers)} did not return in {timeout_s} s")
        for reader in ready:
            assert isinstance(reader, Connection)  # noqa: S101 - nothing else is waited for
            rank = waiting.pop(reader)
            results[rank] = _received(reader, rank)
    return [results[rank] for rank in range(len(readers))]


def _received(reader: Connection, rank: int) -> Any:
    """Return what a rank sent, or raise what it says went wrong."""
    try:
        result = reader.recv()
    except EOFError:
        raise RuntimeError(f"rank {rank} ended without a result") from None
    if isinstance(result, _Failure):
        raise RuntimeError(f"rank {rank} failed:\n{result.text}")  # noqa: TRY004 - not a type
    return result


def _rank_main(
    program: Callable[[], Any],
    rank: int,
    ranks: int,
    store: str,
    writer: Connection,
    timeout_s: float,
    device: str,
) -> None:
    """Join the group, run the program, and send what it returns."""
    torch.set_num_threads(1)
    try:
        has_own = device == "cuda" and torch.cuda.device_count() >= ranks
        if has_own:
            torch.cuda.set_device(rank)
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if has_own else "gloo",
            store=FileStore(store, ranks),
            rank=rank,
            world_size=ranks,
            timeout=timedelta(seconds=timeout_s),
        )
        result = program()
        dist.barrier()
        dist.destroy_process_group()
    except Exception:  # noqa: BLE001 - whatever it is, the parent raises it
        result = _Failure(traceback.format_exc())
    writer.send(result)
    writer.close()
