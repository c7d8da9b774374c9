"""The machine and the versions that a validation ran on."""

import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from costmodels.version import VERSION

PACKAGES = ("numpy", "simpy", "torch", "transformers", "ml_dtypes", "gguf", "torchao")
"""Packages whose version a report states, where they are installed."""


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Where a validation ran.

    Attributes
    ----------
    system, processor, python : str
        Operating system, processor as it names itself, version of Python.
    core_count : int
        Cores that this process may use [count].
    memory_bytes : int or None
        Memory of the machine, where the system says it [byte].
    shardwise : str
        Version of Shardwise.
    commit : str or None
        Commit of the checkout, with ``+changes`` where files differ from it; None outside of one.
    packages : dict of str to str
        Versions of packages that measurements rest on.
    """

    system: str
    processor: str
    python: str
    core_count: int
    memory_bytes: int | None
    shardwise: str
    commit: str | None
    packages: dict[str, str]


def this_machine() -> Machine:
    """Return what a report says of the machine that it was made on."""
    return Machine(
        system=f"{platform.system()} {platform.release()}",
        processor=_processor(),
        python=platform.python_version(),
        core_count=_core_count(),
        memory_bytes=_memory_bytes(),
        shardwise=VERSION,
        commit=_commit(),
        packages=dict(_versions(PACKAGES)),
    )


def _versions(packages: Iterable[str]) -> Iterable[tuple[str, str]]:
    for name in packages:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            continue


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()


def _core_count() -> int:
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def _commit() -> str | None:
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None
    said = _git(root, "rev-parse", "--short=12", "HEAD")
    changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    return said and said + ("+changes" if changed else "")


def _git(root: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
