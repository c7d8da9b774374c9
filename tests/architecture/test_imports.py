"""Who may import whom, and what the path of `estimate` never loads."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("dash", "joblib", "pandas", "plotly", "ray", "scipy", "torch", "transformers")

ESTIMATE = """
from costmodels.scenario import scenario_from_table
from simulator.whatif import estimate
scenario = scenario_from_table({
    "model": "llama-3.1-8b",
    "cluster": "h100-sxm:8",
    "plan": {"tensor_parallel_size": 4, "pipeline_parallel_size": 2},
    "workload": {"global_batch_size": 4, "sequence_length": 1024},
})
estimate(scenario)
"""


def exists(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def loaded_by(program: str) -> set[str]:
    """Return the top-level modules that a program of its own process has loaded at its end."""
    listing = (
        "\nimport sys; print('\\n' + ' '.join(sorted({m.split('.')[0] for m in sys.modules})))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program + listing],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return set(result.stdout.splitlines()[-1].split())


def test_contracts_hold() -> None:
    command = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    result = subprocess.run(
        [sys.executable, "-c", command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "0 broken" in result.stdout


def test_closed_forms_load_nothing_heavy_and_no_simpy() -> None:
    loaded = loaded_by("import costmodels.scenario, costmodels.analysis")
    assert loaded.isdisjoint(HEAVY)
    assert "simpy" not in loaded
    assert "costmodels" in loaded


def test_the_command_line_loads_nothing_heavy() -> None:
    assert loaded_by("import cli.main").isdisjoint(HEAVY)


def test_an_estimate_loads_nothing_heavy() -> None:
    loaded = loaded_by(ESTIMATE)
    assert loaded.isdisjoint(HEAVY)
    assert "simulator" in loaded
