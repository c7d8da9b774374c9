"""A validation run as JUnit XML, for continuous integration."""

import re
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from validation.report.summary import number, percent
from validation.running import Outcome, ValidationRun

_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
"""What XML 1.0 has no way to write."""


def junit(run: ValidationRun) -> str:
    """Return a run as JUnit XML: a test case for each case, an error for what could not run."""
    root = Element(
        "testsuites",
        name="shardwise validate",
        tests=str(run.case_count + run.trouble_count),
        failures=str(run.failure_count),
        errors=str(run.trouble_count),
        time=f"{run.wall_s:.3f}",
    )
    for suite in run.suites:
        element = SubElement(
            root,
            "testsuite",
            name=suite.name,
            tests=str(len(suite.outcomes) + len(suite.troubles)),
            failures=str(len(suite.failures)),
            errors=str(len(suite.troubles)),
            time=f"{suite.wall_s:.3f}",
            timestamp=run.started,
        )
        for outcome in suite.outcomes:
            _add_case(element, suite.name, outcome)
        for trouble in suite.troubles:
            case = SubElement(element, "testcase", classname=suite.name, name=_clean(trouble.job))
            SubElement(case, "error", message=_clean(trouble.reason))
    indent(root)
    return tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _add_case(parent: Element, suite: str, outcome: Outcome) -> None:
    case = outcome.case
    element = SubElement(
        parent, "testcase", classname=f"{suite}.{case.suite}", name=_clean(case.name)
    )
    if not outcome.passed:
        said = (
            f"{case.claim}: predicted {number(case.prediction)}, measured "
            f"{number(case.measurement)} {case.unit}, error {percent(outcome.error_fraction)}, "
            f"allowed {percent(case.tolerance_fraction)}"
        )
        SubElement(element, "failure", message=_clean(said)).text = _clean(outcome.command)


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("?", text)
