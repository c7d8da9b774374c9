"""A worker beside a server: started with it, started again if it dies, ended with it."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dashboard.jobs.worker import same_code
from dashboard.store.database import DATABASE_VARIABLE

_PAUSES_S = (0.2, 1.0, 5.0, 30.0)
_GRACE_S = 8.0


@contextmanager
def kept_worker(url: str, reports: Path) -> Iterator[None]:
    """Keep a worker at work for the jobs of a database as long as the block runs.

    Parameters
    ----------
    url : str
        Address of the database.
    reports : Path
        Folder of validation reports.
    """
    # The address may hold a password, which the list of processes would show to everybody.
    environment = same_code() | {DATABASE_VARIABLE: url}
    options = ["--reports", str(reports), "--parent", str(os.getpid())]
    command = [sys.executable, "-m", "cli.main", "worker", *options]
    over = threading.Event()
    keeper = threading.Thread(target=_keep, args=(command, environment, over), daemon=True)
    keeper.start()
    try:
        yield
    finally:
        over.set()
        keeper.join(_GRACE_S)


def _keep(command: list[str], environment: dict[str, str], over: threading.Event) -> None:
    deaths = 0
    while not over.is_set():
        worker = subprocess.Popen(  # noqa: S603 - the command is our own
            command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        while worker.poll() is None and not over.wait(0.2):
            pass
        if over.is_set():
            _end(worker)
            return
        over.wait(_PAUSES_S[min(deaths, len(_PAUSES_S) - 1)])
        deaths += 1


def _end(worker: "subprocess.Popen[bytes]") -> None:
    worker.terminate()
    try:
        worker.wait(_GRACE_S - 1)
    except subprocess.TimeoutExpired:
        worker.kill()
        worker.wait()
