"""The schedule as SVG: well formed, every span once, the same each time."""

from xml.etree import ElementTree as ET

import pytest

from costmodels.pipelining.schedules import ScheduleName
from simulator.drawing import STYLES, gantt_svg
from simulator.pipeline import simulate_pipeline
from simulator.trace import Trace
from tests.simulator.pipeline_programs import Size, equal_program

SVG = "{http://www.w3.org/2000/svg}"


def simulated(m: int) -> Trace:
    return simulate_pipeline(equal_program(Size(ScheduleName.ONE_F_ONE_B, 4, 1, m).order(), 4))


@pytest.mark.parametrize("m", [1, 4, 64])
def test_every_span_is_a_bar(m: int) -> None:
    trace = simulated(m)
    drawing = ET.fromstring(gantt_svg(trace))  # noqa: S314 - drawn here
    bars = drawing.findall(f"{SVG}g")
    assert len(bars) == len(trace.spans)
    end_s = max(span.end_s for span in trace.spans)
    for bar, span in zip(bars, trace.spans, strict=True):
        (rect,) = bar.findall(f"{SVG}rect")
        assert float(rect.attrib["width"]) == pytest.approx(
            (span.end_s - span.start_s) / end_s * 920, abs=0.01
        )
        assert rect.attrib["fill"] == STYLES[span.name].colour
        told = bar.find(f"{SVG}title")
        assert told is not None
        assert str(told.text).startswith(f"{span} (")


def test_a_drawing_is_the_same_each_time_and_linear_in_its_trace() -> None:
    assert gantt_svg(simulated(8)) == gantt_svg(simulated(8))
    small, large = (len(gantt_svg(simulated(m))) for m in (32, 320))
    assert large < 11 * small


def test_titles_are_escaped() -> None:
    drawing = gantt_svg(Trace(static_bytes=(0,)), title="a < b & c")
    assert "a &lt; b &amp; c" in drawing
    ET.fromstring(drawing)  # noqa: S314 - drawn here
