"""The command that serves the dashboard: what it refuses, and that it answers."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.cli.running import run

pytest.importorskip("dash")

from dashboard.jobs.kinds import ask_simulation
from dashboard.state import DEFAULT, scenario_of
from dashboard.store.database import Database
from dashboard.store.jobs import Jobs, JobState

ROOT = Path(__file__).resolve().parents[2]
MEMORY = ("--database", "sqlite://")


def test_others_are_let_in_only_on_purpose() -> None:
    result = run("dashboard", "--host", "192.0.2.1", "--no-browser")
    assert result.code == 2
    assert "--auth USER:PASSWORD" in result.err


def test_a_wrong_scenario_ends_before_anything_listens(tmp_path: Path) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text("model = 'llama'\n")
    result = run("dashboard", str(file), "--no-browser")
    assert result.code == 2
    assert result.err.startswith("error: ")


def test_a_database_that_is_none_is_told() -> None:
    result = run("dashboard", "--database", "nonsense", "--no-browser")
    assert result.code == 2
    assert "--database (nonsense)" in result.err


def test_a_port_in_use_is_told() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = run("dashboard", "--port", str(taken.getsockname()[1]), "--no-browser", *MEMORY)
    assert result.code == 2
    assert "cannot listen" in result.err


@pytest.mark.slow
def test_the_command_serves_a_scenario_file_and_does_its_jobs(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(run("init").out)
    database = f"sqlite:///{tmp_path / 'scenarios.sqlite'}"
    with subprocess.Popen(
        [
            sys.executable,
            "-m",
            "cli.main",
            "dashboard",
            str(file),
            "--port",
            "0",
            "--no-browser",
            "--database",
            database,
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        address = process.stdout.readline().split()[0]
        assert "scenario=" in address
        with urlopen(address, timeout=30) as response:  # noqa: S310
            assert response.status == 200
            assert "Shardwise" in response.read().decode()
        # The worker beside it does jobs, and ends with it.
        jobs = Jobs(Database(database))
        asked = ask_simulation(jobs, scenario_of(DEFAULT, ()), "small")
        for _ in range(300):
            done = jobs.get(asked.id)
            if not done.is_open:
                break
            time.sleep(0.1)
        assert done.state is JobState.DONE
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.worker.rpartition(":")[2]), 0)
