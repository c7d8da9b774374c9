"""Presets: complete, sourced, and equal to the published configurations."""

import csv
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from costmodels import presets
from costmodels.analysis import evaluate
from costmodels.compilation import compile_columns
from costmodels.errors import PresetNotFoundError
from costmodels.huggingface.importing import import_config
from costmodels.presets import FOLDERS, preset_names, preset_table, preset_text, with_accelerator
from costmodels.specs.base import SourcedSpec, Spec, field_types
from costmodels.specs.cluster import Cluster
from costmodels.specs.model import Model
from costmodels.specs.plan import Plan
from costmodels.specs.precision import Precision
from costmodels.specs.tables import build
from tests.costmodels.witnesses import SMALL, witness
from validation.parameter_counts import CONFIGURATIONS

DATA = Path(__file__).resolve().parents[2] / "validation" / "data"
DESCRIPTIONS: Mapping[str, type[Spec]] = {
    "model": Model,
    "cluster": Cluster,
    "plan": Plan,
    "precision": Precision,
}
NAMES = [(section, name) for section in FOLDERS for name in preset_names(section)]


def recipe_for(peaks: Mapping[str, Any]) -> str:
    """Return a precision recipe whose products an accelerator has a peak for."""
    recipes = {"bf16": "bf16-mixed", "fp16": "fp16-mixed", "fp32": "fp32"}
    return next(recipe for name, recipe in recipes.items() if name in peaks)


@pytest.mark.parametrize(("section", "name"), NAMES)
def test_a_preset_builds_and_has_the_name_of_its_file(section: str, name: str) -> None:
    table = preset_table(section, name)
    if section == "cluster":
        table["accelerator_count"] = 8
    spec: Any = build(DESCRIPTIONS[section], table, section)
    assert section == "plan" or spec.name == name


@pytest.mark.parametrize("name", preset_names("cluster"))
def test_every_value_of_a_cluster_has_a_source(name: str) -> None:
    peaks = preset_table("cluster", name)["accelerator"]["peak_flop_per_s"]
    scenario = witness("small", cluster=f"{name}:8", precision=recipe_for(peaks))

    def check(spec: SourcedSpec) -> None:
        for field in field_types(type(spec)):
            value = getattr(spec, field)
            if isinstance(value, SourcedSpec):
                check(value)
            elif isinstance(value, dict) and field != "sources":
                for key in value:
                    assert spec.sources[f"{field}.{key}"].source, (field, key)
            elif value is None:
                assert field not in spec.sources, "what is unknown is left out"
            elif field == "oversubscription_ratio" and field not in spec.sources:
                assert value == 1, "a fabric that is not oversubscribed needs no source"
            elif field not in ("sources", "name", "accelerator_count"):
                assert len(spec.sources[field].source) > len("datasheet"), field

    check(scenario.cluster)


@pytest.mark.parametrize(("section", "name"), NAMES)
def test_a_file_begins_with_where_it_comes_from(section: str, name: str) -> None:
    text = preset_text(section, name)
    if "preset" in tomllib.loads(text):
        # What it builds on says it; values of its own have sources, see above.
        return
    assert text.startswith("# ")
    assert "source" in text or "arXiv" in text or "http" in text or "github.com" in text


def test_unknown_presets_suggest_the_nearest() -> None:
    with pytest.raises(PresetNotFoundError, match=r"did you mean 'llama-3\.1-405b'"):
        preset_table("model", "llama-405b")


def test_a_preset_builds_on_another() -> None:
    built = preset_table("cluster", "h100-sxm")
    assert built == {**preset_table("cluster", "dgx-h100"), "name": "h100-sxm"}
    assert "preset" not in built


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Return preset files by name, in place of those that there are."""
    found: dict[str, str] = {}
    monkeypatch.setattr(presets, "preset_names", lambda _: tuple(found))
    monkeypatch.setattr(presets, "preset_text", lambda _, name: found[name])
    return found


def test_presets_build_on_one_another_field_by_field(files: dict[str, str]) -> None:
    files["first"] = 'name = "first"\na = 1\n[deep]\nb = 2\nc = 3\n'
    files["second"] = 'preset = "first"\nname = "second"\n[deep]\nc = 4\n'
    files["third"] = 'preset = "second"\nname = "third"\na = 5\n'
    expected = {"name": "third", "a": 5, "deep": {"b": 2, "c": 4}}
    assert preset_table("model", "third") == expected


def test_presets_that_build_on_one_another_in_a_circle_are_refused(files: dict[str, str]) -> None:
    files["first"] = 'preset = "second"\n'
    files["second"] = 'preset = "first"\n'
    with pytest.raises(PresetNotFoundError, match="model"):
        preset_table("model", "first")


def test_a_preset_that_builds_on_none_there_is_is_refused(files: dict[str, str]) -> None:
    files["first"] = 'preset = "secind"\n'
    files["second"] = "a = 1\n"
    with pytest.raises(PresetNotFoundError, match="model 'secind': did you mean 'second'"):
        preset_table("model", "first")


@pytest.mark.parametrize("entry", ["cpu", {"preset": "cpu"}])
def test_a_table_has_the_accelerator_that_it_names(entry: Any) -> None:
    cluster = {"name": "mine", "accelerator": entry}
    found = with_accelerator(cluster)
    assert found == {"name": "mine", "accelerator": preset_table("accelerator", "cpu")}
    assert cluster["accelerator"] == entry, "the table that is read stays as it is"


def test_a_named_accelerator_is_changed_field_by_field() -> None:
    own = {"value": 3.0, "basis": "measured", "source": "a meter"}
    changes = {"power_w": own, "peak_flop_per_s": {"bf16": 1e12}}
    found = with_accelerator({"accelerator": {"preset": "cpu", **changes}})["accelerator"]
    base = preset_table("accelerator", "cpu")
    assert found["power_w"] == own
    assert found["peak_flop_per_s"] == {**base["peak_flop_per_s"], "bf16": 1e12}
    assert {**base, **changes}.keys() == found.keys()


@pytest.mark.parametrize("cluster", [{}, {"accelerator": {"power_w": 1}}, {"accelerator": 5}])
def test_a_table_that_names_no_accelerator_stays_as_it_is(cluster: dict[str, Any]) -> None:
    assert with_accelerator(cluster) == cluster


@pytest.mark.parametrize("name", preset_names("accelerator"))
def test_an_accelerator_may_stand_in_any_cluster(name: str) -> None:
    peaks = preset_table("accelerator", name)["peak_flop_per_s"]
    scenario = witness(
        "small", cluster={"preset": "h100-sxm:8", "accelerator": name}, precision=recipe_for(peaks)
    )
    table = {**preset_table("cluster", "cpu"), "accelerator_count": 8}
    alone = build(Cluster, with_accelerator({**table, "accelerator": name}), "cluster")
    assert scenario.cluster.accelerator == alone.accelerator


@pytest.mark.parametrize(("name", "file"), CONFIGURATIONS.items())
def test_a_model_is_what_its_published_configuration_describes(name: str, file: str) -> None:
    text = (DATA / "huggingface" / f"{file}.json").read_text(encoding="utf-8")
    preset = build(Model, preset_table("model", name), "model")
    imported = import_config(text, name=name).model
    for field in field_types(Model):
        if field not in ("name", "notes", "source", "sources"):
            assert getattr(preset, field) == getattr(imported, field), field


def test_every_published_configuration_has_its_preset() -> None:
    files = {path.stem for path in (DATA / "huggingface").glob("*.json")}
    quantized = {"Qwen3-32B-FP8"}
    assert set(CONFIGURATIONS.values()) == files - quantized


def test_published_counts_name_presets() -> None:
    with (DATA / "published_parameters.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    without = {"compressive-transformer", "infini-transformer", "longnet"}
    without |= {"notes-dilated", "notes-infini"}
    assert {row["model"] for row in rows} == set(preset_names("model")) - without
    assert all(row["source"] for row in rows)


@pytest.mark.parametrize("name", preset_names("precision"))
def test_a_recipe_runs_on_a_gpu(name: str) -> None:
    kind = {"workload__kind": "decode"} if name.startswith("serve-") else {}
    cluster = "b200-sxm:8" if name in ("mxfp8", "nvfp4") else "h100-sxm:8"
    described = witness("small", cluster=cluster, precision=name, **kind)
    assert described.precision.name == name


PLANS = {
    "megatron-lm": ("bf16-mixed", 6 + 12 / 8, 0),
    "torchtitan-fsdp2": ("bf16-mixed", 16 / 8, 0),
    "deepspeed-zero-1": ("bf16-deepspeed", 4 + 12 / 8, 10**9),
    "deepspeed-zero-2": ("bf16-deepspeed", 2 + 14 / 8, 10**9),
    "deepspeed-zero-3": ("bf16-deepspeed", 16 / 8, 10**9),
}
"""Of each framework its recipe, bytes of states a parameter on 8 GPUs, and bytes of its buckets."""


@pytest.mark.parametrize("name", preset_names("plan"))
def test_states_of_frameworks(name: str) -> None:
    recipe, state_bytes, buckets = PLANS[name]
    scenario = witness("small", plan={"preset": name, "micro_batch_size": 2}, precision=recipe)
    names = ("weights_bytes", "gradients_bytes", "optimizer_bytes")
    values = evaluate(compile_columns(scenario), (*names, "bucket_buffer_bytes"))
    states = sum(int(values[part][0][0]) for part in names)
    assert states == pytest.approx(state_bytes * 8_030_261_248, rel=1e-6)
    assert int(values["bucket_buffer_bytes"][0][0]) == buckets
    assert scenario.plan.micro_batch_size == 2


def test_a_preset_is_changed_field_by_field() -> None:
    cluster = {"preset": "h100-sxm:8", "network": {"latency_s": "9 us"}}
    scenario = witness("small", cluster=cluster)
    assert scenario.cluster.network.latency_s == 9e-6
    assert scenario.cluster.network.efficiency_fraction == (
        witness("small").cluster.network.efficiency_fraction
    )
    assert SMALL["cluster"] == "h100-sxm:8"
