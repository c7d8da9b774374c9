"""Expected error of formats: published optima, properties, sums by brute force."""

from typing import Any

import numpy as np
import pytest

from costmodels.errors import NotModelledError
from costmodels.number_formats.clipping import (
    best_clip,
    clipped,
    outlier_sqnr_db,
    static_sqnr_db,
    uniform_levels,
)
from costmodels.number_formats.encoding import finite_numbers, round_to
from costmodels.number_formats.error import (
    DISTRIBUTIONS,
    codebook_error,
    decibel,
    expected_sqnr_db,
    has_expected_error,
    known_sqnr_db,
    measured_errors,
)
from costmodels.number_formats.layouts import stored_format
from costmodels.number_formats.propagation import chain_sqnr_db, noise_share, output_sqnr_db
from costmodels.number_formats.scalars import scalar_formats


@pytest.mark.parametrize(
    ("bits", "clip", "ratio_db"),
    [(2, 1.991, 9.25), (3, 2.344, 14.27), (4, 2.682, 19.38), (8, 3.938, 40.57)],
)
def test_the_best_clip_is_that_of_max(bits: int, clip: float, ratio_db: float) -> None:
    """Max 1960, table II: steps 0.9957, 0.5860, 0.3352 for 4, 8 and 16 cells."""
    found = best_clip(bits)
    assert found == pytest.approx(clip, abs=1e-3)
    assert clipped(bits, found).sqnr_db == pytest.approx(ratio_db, abs=5e-3)
    for other in (0.9 * found, 1.1 * found):
        assert clipped(bits, other).sqnr_db < ratio_db


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_range_trades_clipping_for_rounding(name: str) -> None:
    narrow, wide = clipped(4, 1.5, name), clipped(4, 5.0, name)
    assert narrow.clipping >= wide.clipping >= -1e-12
    assert narrow.rounding < wide.rounding


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_moments_are_those_of_numbers_of_variance_one(name: str) -> None:
    of = DISTRIBUTIONS[name]
    far = np.array([-50.0, 0.0, 50.0])
    m0, m1, m2 = of.partial(far)
    assert (m0[2] - m0[0], m1[2] - m1[0], m2[2] - m2[0]) == pytest.approx((1, 0, 1), abs=1e-12)
    assert m0[1] - m0[0] == pytest.approx(0.5)
    points = np.array([0.1, 0.5, 1.5])
    shares = of.below(points)
    assert of.magnitude(shares, 1 - shares) == pytest.approx(points)
    fine = np.linspace(-1.2, 0.7, 20001)
    steps = np.diff(of.partial(fine)[0])
    middles = (fine[1:] + fine[:-1]) / 2
    assert np.sum(middles**2 * steps) == pytest.approx(
        float(np.diff(of.partial(np.array([-1.2, 0.7]))[2])[0]), rel=1e-6
    )


@pytest.mark.parametrize("rounding", ["nearest-even", "truncate", "stochastic"])
def test_the_sum_over_cells_is_an_integral(rounding: str) -> None:
    target = scalar_formats()["fp4_e2m1"]
    numbers = finite_numbers(target)
    points = np.linspace(-8, 8, 160_001)
    share = np.exp(-(points**2) / 2) / np.sqrt(2 * np.pi) * (points[1] - points[0])
    if rounding == "stochastic":
        low = numbers[np.clip(np.searchsorted(numbers, points, side="right") - 1, 0, 14)]
        high = numbers[np.clip(np.searchsorted(numbers, points), 0, 14)]
        inside = (points - low) * (high - points)
        squared = np.where(np.abs(points) > 6, (np.abs(points) - 6) ** 2, inside)
    else:
        held: Any = round_to(points, target, rounding=rounding)  # type: ignore[arg-type]
        squared = np.square(points - held)
    brute = float(np.sum(share * squared))
    found = codebook_error(numbers, DISTRIBUTIONS["gaussian"], rounding=rounding)
    assert found == pytest.approx(brute, rel=1e-3)


def test_roundings_cost_what_theory_says() -> None:
    numbers = uniform_levels(12, 8.0)
    of = DISTRIBUTIONS["gaussian"]
    step = numbers[1] - numbers[0]
    assert codebook_error(numbers, of) == pytest.approx(step**2 / 12, rel=1e-3)
    assert codebook_error(numbers, of, rounding="stochastic") == pytest.approx(
        step**2 / 6, rel=1e-3
    )
    assert codebook_error(numbers, of, rounding="truncate") == pytest.approx(step**2 / 3, rel=1e-2)


def test_uniform_numbers_gain_six_decibel_a_bit() -> None:
    for bits in (3, 5, 8):
        found = clipped(bits, 3**0.5, "uniform").sqnr_db
        assert found == pytest.approx(20 * np.log10(2**bits), abs=1e-6)


def test_scaled_formats_do_not_feel_the_spread_and_casts_do() -> None:
    assert expected_sqnr_db(stored_format("fp8_e4m3fn"), sigma=1e-4) < 5
    assert expected_sqnr_db(stored_format("fp16"), sigma=1e-6) < 40
    assert expected_sqnr_db(stored_format("fp32")) == pytest.approx(
        expected_sqnr_db(stored_format("bf16")) + 16 * 20 * np.log10(2), abs=0.05
    )


def test_groups_help_and_more_bits_help() -> None:
    def ratio(name: str) -> float:
        return expected_sqnr_db(stored_format(name), "laplace", rows=256, columns=1024)

    sizes = [ratio(f"int4_sym_{over}") for over in ("g32", "g64", "g128", "row", "tensor")]
    assert sizes == sorted(sizes, reverse=True)
    assert ratio("nf4_b64") > ratio("fp4_bnb_b64")


def test_integers_are_better_without_outliers_and_floats_with() -> None:
    plain, float_db = (
        outlier_sqnr_db(8, 4096, share=0, scale=1),
        expected_sqnr_db(stored_format("fp8_e4m3_row"), columns=4096),
    )
    assert plain == pytest.approx(41.24, abs=0.01)
    assert plain > float_db > outlier_sqnr_db(8, 4096, share=1 / 4096, scale=60)
    losses = [outlier_sqnr_db(8, 4096, share=0.001, scale=scale) for scale in (1, 20, 60)]
    assert losses == sorted(losses, reverse=True)


def test_outliers_by_experiment() -> None:
    draws = np.random.default_rng(7).normal(size=(200, 4000))
    draws[:, :4] *= 20
    step = np.abs(draws).max(axis=1, keepdims=True) / 127
    rest = draws[:, 4:]
    noise = rest - np.round(rest / step) * step
    measured = decibel(float(np.sum(noise**2) / np.sum(rest**2)))
    assert outlier_sqnr_db(8, 4000, share=0.001, scale=20) == pytest.approx(measured, abs=0.35)


def test_a_static_range_suits_its_own_spread() -> None:
    best = best_clip(8)
    fitted = static_sqnr_db(8, best)
    assert fitted > static_sqnr_db(8, best, spread=2.0)
    assert fitted > static_sqnr_db(8, best, spread=0.5)


def test_errors_add_in_power() -> None:
    assert output_sqnr_db([30.0, float("inf")]) == pytest.approx(30.0)
    assert output_sqnr_db([13.0] * 10) == pytest.approx(3.0)
    assert chain_sqnr_db(40.0, 100) == pytest.approx(20.0)
    assert decibel(noise_share(12.3)) == pytest.approx(12.3)
    assert decibel(0.0) == float("inf")


def test_search_has_no_expectation() -> None:
    assert not has_expected_error(stored_format("gguf_q4_k"))
    assert has_expected_error(stored_format("gguf_q4_0"))
    with pytest.raises(NotModelledError, match="only measured errors"):
        expected_sqnr_db(stored_format("gguf_q4_k"))


def test_what_is_found_by_search_is_measured() -> None:
    assert known_sqnr_db(stored_format("gguf_q4_k")) == (22.94, "measured")
    assert known_sqnr_db(stored_format("gguf_q4_k"), "laplace") == (21.47, "measured")
    assert known_sqnr_db(stored_format("hqq4_g64_fp16meta")) == (None, "unknown")
    found = known_sqnr_db(stored_format("nf4_b64"))
    assert found.basis == "exact"
    assert found.sqnr_db == pytest.approx(20.726, abs=1e-3)
    for name, ratios in measured_errors().items():
        assert stored_format(name).scaling == "search"
        assert set(ratios) == set(DISTRIBUTIONS)


def test_products_of_rounded_matrices_have_the_sum_of_errors() -> None:
    draws = np.random.default_rng(11)
    weights, inputs = draws.normal(size=(256, 512)), draws.normal(size=(512, 128))
    brain = scalar_formats()["bf16"]
    exact, rounded = weights @ inputs, round_to(weights, brain) @ round_to(inputs, brain)
    found = round_to(rounded, brain)
    measured = decibel(float(np.sum((found - exact) ** 2) / np.sum(exact**2)))
    cast = expected_sqnr_db(stored_format("bf16"))
    assert output_sqnr_db([cast] * 3) == pytest.approx(measured, abs=0.1)
