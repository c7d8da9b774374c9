"""A model's weights in every number format: sizes, accelerators, loading, speed, error."""

import math

import pytest

from costmodels.errors import SpecError
from costmodels.number_formats.layouts import formats_of_text
from costmodels.scenario import Scenario, scenario_from_table
from costmodels.weight_storage import weight_recipes
from simulator.format_comparison import (
    FormatComparison,
    Stored,
    checked_accelerators,
    compare_formats,
    own_accelerator,
)


def scenario(model: str = "llama-3.1-70b", cluster: object = "h100-sxm:8", **_: object) -> Scenario:
    return scenario_from_table(
        {
            "model": model,
            "cluster": cluster,
            "workload": {"global_batch_size": 8, "sequence_length": 1024},
        }
    )


@pytest.fixture(scope="module")
def all_of_them() -> FormatComparison:
    return compare_formats(scenario())


def of(comparison: FormatComparison, name: str) -> Stored:
    return next(entry for entry in comparison.storages if entry.name == name)


def test_every_recipe_is_there_the_largest_first(all_of_them: FormatComparison) -> None:
    assert {entry.name for entry in all_of_them.storages} == set(weight_recipes())
    sizes = [entry.weights_bytes for entry in all_of_them.storages]
    assert sizes == sorted(sizes, reverse=True)
    for entry in all_of_them.storages:
        assert sum(entry.role_bytes.values()) == entry.weights_bytes
        assert entry.bits_per_weight == pytest.approx(8 * entry.weights_bytes / all_of_them.weights)
        assert entry.read_multiple == pytest.approx(16 / entry.bits_per_weight)


def test_four_bits_of_70b_are_no_35_gb_and_do_not_fit_40(all_of_them: FormatComparison) -> None:
    """42.52 GB published: github.com/runpod/docs issue 839."""
    found = of(all_of_them, "gguf-Q4_K_M")
    assert found.weights_bytes == pytest.approx(42.52e9, rel=5e-4)
    assert found.count_of("a100-40gb-sxm") == 2
    assert found.count_of("a100-80gb-sxm") == 1


def test_the_fewest_hold_it_and_one_less_does_not(all_of_them: FormatComparison) -> None:
    from simulator.format_comparison import accelerators, usable_bytes

    known = accelerators(scenario())
    for entry in all_of_them.storages:
        for holder in entry.holders:
            one = usable_bytes(known[holder.accelerator])
            assert holder.count * one >= entry.weights_bytes > (holder.count - 1) * one


def test_weights_that_are_widened_gain_only_reading(all_of_them: FormatComparison) -> None:
    for name in ("awq-int4", "nf4", "gguf-Q4_K_M"):
        found = of(all_of_them, name)
        assert (found.multiplies, found.flop_multiple) == ("bf16", 1.0)
        assert "only reading them is faster" in found.remark
        assert found.read_multiple > 3
    for name in ("fp8", "int8"):
        assert of(all_of_them, name).flop_multiple == pytest.approx(2.0, rel=1e-3)
        assert of(all_of_them, name).remark == ""
    assert "no unit for scales of mxfp8" in of(all_of_them, "mxfp8").remark
    assert "no unit for fp4" in of(all_of_them, "nvfp4").remark
    assert of(all_of_them, "gguf-BF16").remark == ""


@pytest.mark.parametrize(
    ("cluster", "name", "peak", "multiple", "remark"),
    [
        ("a100-80gb-sxm:8", "fp8", "bf16", 1.0, "no unit for fp8"),
        ("a100-80gb-sxm:8", "int8", "int8", 2.0, ""),
        ("b200-sxm:8", "mxfp8", "fp8", 2.0, ""),
        ("b200-sxm:8", "nvfp4", "fp4", 4.0, ""),
        ("mi300x:8", "fp8", "fp8", 2.0, "FNUZ"),
        ("mi300x:8", "mxfp4", "bf16", 1.0, "no unit for fp4"),
        ("v100-sxm:8", "nf4", "fp16", 1.0, "widened"),
    ],
)
def test_speed_is_that_of_the_accelerator(
    cluster: str, name: str, peak: str, multiple: float, remark: str
) -> None:
    precision = {"precision": "fp16-mixed"} if cluster.startswith("v100") else {}
    described = scenario_from_table(
        {
            "model": "llama-3.1-8b",
            "cluster": cluster,
            "workload": {"global_batch_size": 8, "sequence_length": 1024},
            **precision,
        }
    )
    found = of(compare_formats(described, [name]), name)
    assert found.multiplies == peak
    assert found.flop_multiple == pytest.approx(multiple, rel=0.03)
    assert remark in found.remark


def test_loading_takes_what_bytes_over_rates_take() -> None:
    comparison = compare_formats(
        scenario(), ["bf16"], storage_bytes_per_s=1e9, pcie_bytes_per_s=5e10
    )
    found = of(comparison, "bf16")
    assert found.storage_load_s == found.weights_bytes / 1e9
    assert found.pcie_load_s == found.weights_bytes / 2 / 5e10
    assert comparison.sources["pcie_bytes_per_s"].source == "stated by the user"
    with pytest.raises(SpecError, match="storage_bytes_per_s"):
        compare_formats(scenario(), ["bf16"], storage_bytes_per_s=0.0)


def test_error_is_weighed_over_matrices_and_says_how_it_is_known(
    all_of_them: FormatComparison,
) -> None:
    assert of(all_of_them, "gguf-Q4_0").error_basis == "exact"
    assert of(all_of_them, "hqq4").sqnr_db is None
    mixture = of(all_of_them, "gguf-Q4_K_M")
    assert mixture.error_basis == "measured"
    assert mixture.sqnr_db is not None
    assert 22.94 < mixture.sqnr_db < 35.03
    laplace = of(compare_formats(scenario(), ["nf4"], distribution="laplace"), "nf4")
    assert laplace.sqnr_db == pytest.approx(19.69, abs=0.01)


def test_a_format_of_ones_own_takes_part() -> None:
    own = formats_of_text(
        "[mine]\nelement = 'int5'\nscaling = 'absmax'\nblock = [1, 64]\nlibrary = 'x'\n"
        "source = 'x'\nparts = [{ name = 'codes', bits = 5 }, "
        "{ name = 'scales', bits = 16, columns = 64 }]",
        where_from="own.toml",
    )
    found = of(compare_formats(scenario(), own=own), "mine")
    assert 5.25 < found.bits_per_weight < 6
    assert found.sqnr_db is not None
    assert math.isfinite(found.sqnr_db)


def test_an_accelerator_of_ones_own_is_called_by_its_label() -> None:
    changed = {"preset": "h100-sxm", "accelerator_count": 8, "accelerator": {"preset": "h100-sxm"}}
    assert own_accelerator(scenario(cluster=changed)) == "h100-sxm"
    changed["accelerator"] = {"preset": "h100-sxm", "memory_bytes": "40 GB", "name": "mine"}
    described = scenario(cluster=changed)
    assert own_accelerator(described) == "mine"
    assert of(compare_formats(described, ["bf16"]), "bf16").count_of("mine") == 5
    assert checked_accelerators((), described)[0] == "mine"
    with pytest.raises(SpecError, match="unknown accelerator 'h1000'"):
        checked_accelerators(["h1000"], described)
    full = {"preset": "h100-sxm", "memory_bytes": "4 GiB", "name": "full"}
    changed["accelerator"] = full
    with pytest.raises(SpecError, match="leave no memory for weights"):
        compare_formats(scenario(cluster=changed), ["bf16"])
