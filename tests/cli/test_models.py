"""Models from files, and descriptions with their sources, on the command line."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from costmodels.presets import preset_names
from costmodels.scenario import scenario_from_toml
from tests.cli.running import run

DATA = Path(__file__).resolve().parents[2] / "validation" / "data" / "huggingface"
LLAMA = DATA / "Llama-3.1-8B.json"
PLAN = ("--cluster", "h100-sxm:8", "--global-batch", "16", "--seq-len", "1k")


def config(**changes: Any) -> str:
    return json.dumps(json.loads(LLAMA.read_text(encoding="utf-8")) | changes)


def refused(*arguments: str, stdin: str = "") -> str:
    result = run(*arguments, stdin=stdin)
    assert result.code == 2, result
    assert result.out == ""
    assert result.err.count("\n") == 1
    return result.err


def answer(*arguments: str) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert result.code == 0, result.err
    found: dict[str, Any] = json.loads(result.out)
    return found


GROUPS = ("parameters", "memory", "compute", "communication", "time", "cost")


def test_a_file_answers_as_its_preset_does() -> None:
    preset = answer("estimate", "--model", "llama-3.1-8b", *PLAN)
    file = answer("estimate", "--model", str(LLAMA), *PLAN)
    for group in GROUPS:
        assert file[group] == preset[group]


def test_a_folder_that_holds_a_config_names_a_model(tmp_path: Path) -> None:
    folder = tmp_path / "my-llama"
    folder.mkdir()
    (folder / "config.json").write_text(config(), encoding="utf-8")
    found = answer("show", "model", str(folder))
    assert found["name"] == "my-llama"
    assert found["counts"][0]["value"] == 8_030_261_248


def test_a_scenario_file_names_a_config_beside_it(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text(config(), encoding="utf-8")
    scenario = tmp_path / "scenario.toml"
    workload = "[workload]\nglobal_batch_size = 16\nsequence_length = 1024\n"
    scenario.write_text(
        f'cluster = "h100-sxm:8"\n[model]\npreset = "model.json"\nnum_hidden_layers = 4\n{workload}',
        encoding="utf-8",
    )
    changed = answer("estimate", str(scenario))
    assert changed["parameters"]["total_parameters"] == 1_923_125_248
    scenario.write_text(
        f'cluster = "h100-sxm:8"\nmodel = "model.json"\n{workload}', encoding="utf-8"
    )
    assert answer("estimate", str(scenario))["parameters"]["total_parameters"] == 8_030_261_248
    assert run("simulate", str(scenario)).code == 0


def test_a_case_may_change_to_the_model_of_a_file(tmp_path: Path) -> None:
    small = tmp_path / "small.json"
    small.write_text(config(num_hidden_layers=8), encoding="utf-8")
    text = run("init", "--model", "llama-3.1-8b", "--cluster", "h100-sxm:8").out
    scenario = tmp_path / "scenario.toml"
    scenario.write_text(text, encoding="utf-8")
    printed = run("what-if", str(scenario), "--case", f"model={small}")
    assert printed.code == 0, printed.err
    assert f"case 1: model={small}\n" in printed.out


def test_init_starts_from_a_file() -> None:
    text = run("init", "--model", str(LLAMA), "--cluster", "h100-sxm:8").out
    assert f'model = "{LLAMA}"' in text
    assert run("estimate", "-", stdin=text).code == 0


def test_an_unknown_key_is_a_note_of_every_answer(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(config(frobnicate=3), encoding="utf-8")
    note = "key frobnicate of config.json is unknown and was not used"
    assert note in answer("estimate", "--model", str(file), *PLAN)["notes"]
    assert note in answer("show", "model", str(file))["notes"]
    assert note in " ".join(run("estimate", "--model", str(file), *PLAN).out.split())
    for command in (
        ("estimate", "--model", str(file), *PLAN, "--strict"),
        ("show", "model", str(file), "--strict"),
        ("import-model", str(file), "--strict"),
    ):
        assert "key frobnicate is unknown" in refused(*command)


def test_an_imported_model_is_a_scenario_file(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(config(frobnicate=3), encoding="utf-8")
    sections = run("import-model", str(file), "--name", "mine").out
    rest = 'cluster = "h100-sxm:8"\n'
    workload = "[workload]\nglobal_batch_size = 16\nsequence_length = 1024\n"
    scenario = tmp_path / "scenario.toml"
    scenario.write_text(rest + sections + workload, encoding="utf-8")
    through_toml = answer("estimate", str(scenario))
    at_once = answer("estimate", "--model", str(file), *PLAN)
    for group in GROUPS:
        assert through_toml[group] == at_once[group]
    assert "key frobnicate of config.json is unknown and was not used" in through_toml["notes"]
    assert tomllib.loads(sections)["model"]["name"] == "mine"


def test_a_model_comes_from_standard_input() -> None:
    result = run("import-model", "-", stdin=config())
    assert result.code == 0, result.err
    assert tomllib.loads(result.out)["model"]["hidden_size"] == 4096


FP8 = {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]}


def test_a_quantized_file_brings_its_recipe_unless_one_is_stated(tmp_path: Path) -> None:
    file = tmp_path / "fp8.json"
    file.write_text(config(quantization_config=FP8), encoding="utf-8")
    text = refused("estimate", "--model", str(file), *PLAN)
    assert "precision.quantization (fp8-e4m3)" in text
    assert "bf16-mixed" in text
    stated = answer("estimate", "--model", str(file), "--precision", "bf16-mixed", *PLAN)
    assert any("quantization section" in note for note in stated["notes"])
    written = tomllib.loads(run("import-model", str(file)).out)
    assert written["precision"]["quantization"]["group_rows"] == 128


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not a valid JSON file"),
        ("[]", "expected an object"),
        ("{}", "model_type is missing"),
        (config(model_type="lama"), "did you mean 'llama'"),
        (config(hidden_size=None), "hidden_size is missing"),
        (config(hidden_size="4096"), "hidden_size ('4096'): expected a whole number"),
        (config(num_hidden_layers=10**30), "num_hidden_layers (1000000"),
        (config(num_experts=8), "num_experts (8): changes the architecture"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_a_broken_file_gets_one_sentence(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "broken.json"
    file.write_text(text, encoding="utf-8")
    assert said in refused("estimate", "--model", str(file), *PLAN)
    assert said in refused("import-model", "-", stdin=text)


def test_a_missing_file_is_named() -> None:
    assert "cannot read missing/config.json" in refused(
        "estimate", "--model", "missing/config.json", *PLAN
    )


@pytest.mark.parametrize("kind", ["model", "accelerator", "cluster", "plan", "precision"])
def test_every_preset_is_shown(kind: str) -> None:
    for name in preset_names(kind):
        found = answer("show", kind, name)
        assert found["name"] == name or kind == "accelerator"
        assert found["fields"]
        if kind in ("accelerator", "cluster"):
            unsourced = [
                each["field"]
                for each in found["fields"]
                if not each["source"] and each["value"] is not None
            ]
            assert set(unsourced) <= {"network.oversubscription_ratio"}
        if kind == "model":
            assert all(each["source"] for each in found["fields"])
        assert run("show", kind, name).code == 0


def test_a_case_keeps_the_recipe_of_its_scenario_and_may_be_strict(tmp_path: Path) -> None:
    scenario = tmp_path / "scenario.toml"
    scenario.write_text(run("init", "--cluster", "h100-sxm:8").out, encoding="utf-8")
    file = tmp_path / "fp8.json"
    file.write_text(config(quantization_config=FP8, frobnicate=1), encoding="utf-8")
    arguments = ("what-if", str(scenario), "--case", f"model={file}")
    assert run(*arguments).code == 0
    assert "key frobnicate is unknown" in refused(*arguments, "--strict")


def test_a_folder_beside_a_scenario_names_a_model(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text(config(), encoding="utf-8")
    scenario = tmp_path / "scenario.toml"
    workload = "[workload]\nglobal_batch_size = 16\nsequence_length = 1024\n"
    scenario.write_text(f'model = "mine"\ncluster = "h100-sxm:8"\n{workload}', encoding="utf-8")
    assert answer("estimate", str(scenario))["parameters"]["total_parameters"] == 8_030_261_248


def test_a_shown_file_says_how_it_is_quantized(tmp_path: Path) -> None:
    file = tmp_path / "fp8.json"
    file.write_text(config(quantization_config=FP8), encoding="utf-8")
    fields = {each["field"]: each["value"] for each in answer("show", "model", str(file))["fields"]}
    assert fields["precision.quantization.weight_format"] == "fp8-e4m3"


def test_an_mlx_file_is_quantized(tmp_path: Path) -> None:
    text = config(quantization={"group_size": 64, "bits": 4})
    written = tomllib.loads(run("import-model", "-", stdin=text).out)
    assert written["precision"]["quantization"]["weight_format"] == "int4"
    assert written["precision"]["quantization"]["group_columns"] == 64


def test_what_a_preset_assumes_of_a_model_is_an_assumption() -> None:
    plan = ("--cluster", "h200-sxm:512", "--global-batch", "512", "--seq-len", "512")
    found = answer("estimate", "--model", "switch-c-2048", "--zero-stage", "3", *plan)
    assumed = {each["field"]: each["basis"] for each in found["assumptions"]}
    assert any(field.startswith("model.") for field in assumed)


def test_an_empty_list_says_so() -> None:
    assert "none holds every word" in run("list", "models", "nothing-like-it").out


def test_lists_for_programs_are_in_base_units() -> None:
    (row,) = json.loads(run("list", "accelerators", "h100-sxm", "--json").out)
    assert row["memory_bytes"] == 81559 * 2**20
    assert row["peak_flop_per_s"]["bf16"] == 989.4e12


def test_show_suggests_names() -> None:
    assert "did you mean 'model'" in refused("show", "modle", "llama-3.1-8b")
    assert "did you mean 'h100-sxm'" in refused("show", "accelerator", "h100-smx")


def test_a_list_is_filtered_by_words() -> None:
    every = run("list", "models", "--json").out
    some = json.loads(run("list", "models", "LLAMA", "405b", "--json").out)
    assert [row["preset"] for row in some] == ["llama-3.1-405b"]
    assert len(json.loads(every)) > len(some)
    assert json.loads(run("list", "accelerators", "nothing-like-it", "--json").out) == []


def test_an_accelerator_may_take_another_s_place_in_a_cluster() -> None:
    text = """
        model = "llama-3.1-8b"
        [cluster]
        preset = "dgx-h100:8"
        accelerator = { preset = "h200-sxm", price_usd_per_s = "1 USD/h" }
        [workload]
        global_batch_size = 8
        sequence_length = 1024
    """
    scenario = scenario_from_toml(text)
    assert scenario.cluster.accelerator.name.startswith("NVIDIA H200")
    assert scenario.cluster.accelerator.price_usd_per_s == pytest.approx(1 / 3600)
    arguments = ("--model", "llama-3.1-8b", *PLAN, "--set", "cluster.accelerator=h200-sxm")
    assert "NVIDIA H200" in run("estimate", *arguments).out
