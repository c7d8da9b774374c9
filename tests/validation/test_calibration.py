"""Constants follow from readings as they should, and scenarios take what calibration writes."""

from pathlib import Path

import pytest

from cli.inputs import scenario_of_text
from costmodels.errors import SpecError
from costmodels.quantities import Basis
from validation import calibration, step_times
from validation.calibration import (
    Calibration,
    calibrate,
    cluster_table,
    cluster_text,
    constants_of,
    rates,
)
from validation.machine import Machine
from validation.operators import Reading

READINGS = [
    Reading("matmul", "small", 2_000, 10, (2.0, 1.0, 9.0)),
    Reading("matmul", "large", 8_000, 10, (2.0, 2.0, 2.0)),
    Reading("attention", "one", 1_000, 0, (1.0,)),
    Reading("elementwise", "one", 0, 300, (1.0,)),
    Reading("elementwise", "two", 0, 500, (1.0,)),
    Reading("optimizer", "one", 0, 1_000, (1.0,)),
    Reading("all-reduce", "empty", 0, 4, (0.5,)),
    Reading("all-reduce", "large", 0, 4_004, (2.5,)),
]
MACHINE = Machine(
    system="Linux",
    processor="a processor",
    python="3.11",
    core_count=4,
    memory_bytes=16_000,
    shardwise="0",
    commit=None,
    packages={"torch": "2"},
)
CALIBRATION = Calibration(
    process_count=2,
    device="cpu",
    constants=constants_of(READINGS, 2),
    readings=READINGS,
    machine=MACHINE,
    measured="2026-01-01T00:00:00+00:00",
)
WORKLOAD = """
precision = "fp32"
[model]
preset = "llama-3.1-8b"
num_hidden_layers = 2
[workload]
global_batch_size = 2
sequence_length = 128
"""


def test_rates_are_those_of_the_median_round() -> None:
    assert rates(READINGS, "matmul") == [1_000.0, 4_000.0]
    assert rates(READINGS, "elementwise", "optimizer") == [300.0, 500.0, 1_000.0]


def test_constants_are_shares_of_what_is_best() -> None:
    values = {name: constant.value for name, constant in CALIBRATION.constants.items()}
    assert values["peak_flop_per_s"] == 4_000.0
    assert values["matmul_efficiency_fraction"] == 2_500.0 / 4_000.0
    assert values["attention_efficiency_fraction"] == 0.25
    assert values["memory_bandwidth_bytes_per_s"] == 1_000.0
    assert values["memory_efficiency_fraction"] == 0.5


def test_a_link_is_fitted_to_all_reduces_of_every_size() -> None:
    values = {name: constant.value for name, constant in CALIBRATION.constants.items()}
    # Two hops of a ring of two; half of the payload crosses each of them. Two sizes are met exactly.
    assert 2 * values["latency_s"] + 4_004 / values["bandwidth_bytes_per_s"] == pytest.approx(2.5)
    assert values["bandwidth_bytes_per_s"] == pytest.approx(4_000.0 / 2.0)
    between = Reading("all-reduce", "middle", 0, 2_004, (1.5,))
    fitted = constants_of([*READINGS, between], 2)
    assert fitted["bandwidth_bytes_per_s"].value == pytest.approx(4_000.0 / 2.0)
    assert "3 sizes" in fitted["latency_s"].source


def test_without_several_processes_there_is_no_link() -> None:
    assert "latency_s" not in constants_of(READINGS[:6], 1)
    with pytest.raises(SpecError, match="lack products"):
        constants_of(READINGS[2:], 1)


def test_a_scenario_takes_the_file_with_its_sources(tmp_path: Path) -> None:
    file = tmp_path / "machine.toml"
    file.write_text(cluster_text(CALIBRATION), encoding="utf-8")
    scenario = scenario_of_text(WORKLOAD, Path(), {"cluster": f"{file}:2"})
    accelerator = scenario.cluster.accelerator
    assert scenario.cluster.accelerator_count == 2
    assert scenario.cluster.accelerators_per_node == 4
    assert accelerator.matmul_efficiency_fraction == 0.625
    assert accelerator.memory_bytes == 4_000
    assert scenario.cluster.scale_up.bandwidth_bytes_per_s == pytest.approx(2_000.0)
    source = accelerator.sources["matmul_efficiency_fraction"]
    assert source.basis is Basis.MEASURED
    assert "2 of 4 cores busy" in source.source
    stated = f'cluster = "machine.toml:2"\n{WORKLOAD}'
    assert scenario_of_text(stated, tmp_path) == scenario
    table = f'{WORKLOAD}\n[cluster]\npreset = "machine.toml:2"\naccelerators_per_node = 2\n'
    assert scenario_of_text(table, tmp_path).cluster.accelerators_per_node == 2


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        (None, "missing.toml:2", "missing.toml"),
        ("= broken", "machine.toml:2", "not a valid TOML file"),
        ("speed = 3", "machine.toml:2", "speed"),
        ('preset = "cpu"', "machine.toml", "accelerator_count"),
        ('preset = "cpu"', "machine.toml:many", "accelerator_count"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str | None, name: str, said: str) -> None:
    if text is not None:
        (tmp_path / "machine.toml").write_text(text, encoding="utf-8")
    with pytest.raises(SpecError, match=said):
        scenario_of_text(WORKLOAD, Path(), {"cluster": str(tmp_path / name)})


def test_processes_beyond_the_cores_are_refused() -> None:
    with pytest.raises(SpecError, match="must be from 1 to the"):
        calibrate(100_000)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_runs_are_drawn_by_their_seed_and_can_be_described(seed: int) -> None:
    drawn = step_times.drawn_trainings(seed)
    assert len(drawn) >= 24
    assert drawn == step_times.drawn_trainings(seed)
    assert drawn != step_times.drawn_trainings(seed + 1)
    for training in drawn:
        scenario = step_times.scenario_of(training, CALIBRATION)
        assert scenario.workload.sequence_length == training.work.sequence_length


def test_the_table_is_built_on_the_preset_and_names_the_machine() -> None:
    table = cluster_table(CALIBRATION)
    assert table["preset"] == table["accelerator"]["preset"] == "cpu"
    assert "a processor" in table["accelerator"]["name"]


@pytest.mark.torch
@pytest.mark.slow
def test_operators_and_steps_of_two_processes_are_timed() -> None:
    found = calibration.calibrate(2, rounds=1)
    assert {reading.kind for reading in found.readings} == {
        "matmul",
        "attention",
        "elementwise",
        "optimizer",
        "all-reduce",
    }
    assert all(second > 0 for reading in found.readings for second in reading.seconds)
    cases = step_times.step_time_cases("tensor", seed=0, device="cpu", rounds=1)
    assert len(cases) == step_times.RUNS["tensor"]
    assert all(case.prediction > 0 and case.measurement > 0 for case in cases)
