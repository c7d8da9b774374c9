"""The process that does the jobs of a store, one after the other."""

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

import msgspec

from costmodels.errors import SpecError
from dashboard.jobs.kinds import Kind, Place, Told, kind_of
from dashboard.store.jobs import Job, Jobs, JobState

BEAT_S = 0.5
"""How often a worker says that it still works, and looks for a job [s]."""

_GRACE_S, _PAUSE_S = 5.0, 0.02
_ROOT = Path(__file__).resolve().parents[2]


class Worker:
    """Does jobs until it is told to stop.

    Parameters
    ----------
    jobs : Jobs
        Where they are.
    reports : Path
        Folder of validation reports.
    say : callable
        Takes a line for who watches the worker.
    """

    def __init__(self, jobs: Jobs, reports: Path, say: Callable[[str], object]) -> None:
        self._jobs, self._reports, self._say = jobs, reports, say
        self._name = f"{socket.gethostname()}:{os.getpid()}"
        self._stop = threading.Event()

    def stop(self) -> None:
        """Let the worker end soon; a job that it does is put back."""
        self._stop.set()

    def run(self, *, until_idle: bool = False, parent: int | None = None) -> None:
        """Do jobs.

        Parameters
        ----------
        until_idle : bool
            Whether to end once no job waits.
        parent : int, optional
            Process after whose end the worker ends too, once it has done what it is doing.
        """
        while not self._stop.is_set():
            if parent is not None and os.getppid() != parent:
                return
            job = self._claimed()
            if job is not None:
                self._do(job)
            elif until_idle:
                return
            else:
                self._stop.wait(BEAT_S)

    def _claimed(self) -> Job | None:
        try:
            return self._jobs.claim(self._name)
        except SpecError as error:
            # A database that is away for a while is no reason to give up.
            self._say(f"{error}")
            self._stop.wait(_GRACE_S)
            return None

    def _do(self, job: Job) -> None:
        self._say(f"job {job.id}: {job.title}")
        try:
            kind = kind_of(job)
            with TemporaryDirectory(prefix="shardwise-") as folder:
                place = Place(Path(folder), self._reports)
                state, result, reason = self._done(job, kind, place)
        except (SpecError, OSError, msgspec.MsgspecError, KeyError, TypeError) as error:
            state, result, reason = JobState.FAILED, None, f"{error}"
        if state is JobState.QUEUED:
            self._jobs.put_back(job)
        else:
            self._jobs.finish(job, state, result=result, reason=reason)
        self._say(f"job {job.id}: {state.value}{f', {reason}' if reason else ''}")

    def _done(self, job: Job, kind: Kind, place: Place) -> tuple[JobState, bytes | None, str]:
        """Return how a job ended, with its result or the reason why there is none."""
        errors = place.folder / "errors"
        with errors.open("wb") as log, _program(kind.command(job, place), log) as program:
            heard = _Heard(program, kind)
            while program.poll() is None:
                if self._stop.is_set():
                    return JobState.QUEUED, None, ""
                if not self._goes_on(job, heard.told):
                    return JobState.CANCELLED, None, ""
                heard.wait(BEAT_S)
        if program.returncode in kind.succeeded:
            return JobState.DONE, kind.result(place), ""
        return JobState.FAILED, None, _reason(program.returncode, errors)

    def _goes_on(self, job: Job, told: Told) -> bool:
        try:
            return self._jobs.beat(job, done=told.done, total=told.total, message=told.message)
        except SpecError as error:
            self._say(f"{error}")
            return True


class _Heard:
    """What a program said last, read while it runs."""

    def __init__(self, program: "subprocess.Popen[bytes]", kind: Kind) -> None:
        self.told = Told()
        self._kind = kind
        self._reader = threading.Thread(target=self._read, args=(program.stdout,), daemon=True)
        self._reader.start()

    def wait(self, longest_s: float) -> None:
        """Wait for a while, or until the program says no more."""
        self._reader.join(longest_s)
        if not self._reader.is_alive():
            time.sleep(_PAUSE_S)

    def _read(self, lines: IO[bytes]) -> None:
        for line in lines:
            try:
                self.told = self._kind.told(msgspec.json.decode(line))
            except (msgspec.MsgspecError, KeyError, TypeError, ValueError):
                continue  # What is no progress is for people.


@contextmanager
def _program(command: list[str], log: IO[bytes]) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a program in a group of its own; what is left of it ends with the block."""
    with subprocess.Popen(  # noqa: S603 - the command is one of `kinds`
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=log,
        start_new_session=True,
        env=same_code(),
    ) as program:
        try:
            yield program
        finally:
            _end(program)


def same_code() -> dict[str, str]:
    """Return the environment of a process that is to run the code that this one runs."""
    others = os.environ.get("PYTHONPATH")
    return dict(os.environ) | {"PYTHONPATH": os.pathsep.join(filter(None, [str(_ROOT), others]))}


def _end(program: "subprocess.Popen[bytes]") -> None:
    for sign in (signal.SIGTERM, signal.SIGKILL):
        if program.poll() is not None:
            return
        os.killpg(program.pid, sign)
        try:
            program.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            continue


def _reason(code: int, errors: Path) -> str:
    said = errors.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    last = said[-1].removeprefix("error: ")[:500] if said else ""
    if code < 0:
        name = signal.Signals(-code).name
        return f"its program was ended by {name}; it may need more memory than there is"
    return last or f"its program ended with code {code}"


def work(jobs: Jobs, reports: Path, *, say: Callable[[str], object], **until: Any) -> None:
    """Do jobs until a signal says to stop; arguments as of `Worker` and its `run`."""
    worker = Worker(jobs, reports, say)
    for sign in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sign, lambda *_: worker.stop())
    worker.run(**until)
