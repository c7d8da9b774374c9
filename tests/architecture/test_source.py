"""What the source may not contain, and how public functions are named."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("cli", "costmodels", "dashboard", "simulator", "validation")
FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
COSTMODELS = [path for path in FILES if path.is_relative_to(ROOT / "costmodels")]

# Scaling happens in units.py; descriptions bound their fields by powers of two.
MAY_SCALE = (
    *("costmodels/units.py", "costmodels/specs/", "costmodels/rules/"),
    "costmodels/huggingface/",
)
SCALES = {10.0**exponent for exponent in (9, 12, 15, 18)}
POWERS = {(2, exponent) for exponent in (10, 20, 30, 40)} | {(10, e) for e in (3, 6, 9, 12)}

ENDINGS = (
    "_is_repeated",
    *("_bytes", "_flop", "_s", "_w", "_j", "_usd", "_per_s", "_per_gpu"),
    *("_count", "_size", "_length", "_fraction", "_ratio", "_index", "_parameters", "_tokens"),
    *(
        "_rows",
        "_elements",
        "_steps",
        "_stride",
        "_members",
        "_layers",
        "_reduces",
        "_passes",
        "_hops",
    ),
    *("_calls", "_pairs"),
    *("_is_legal", "_is_valid", "microbatches_per_round"),
)
# Helpers that keep the unit of what they are given, and verdicts.
UNITLESS = ("costmodels/columns.py", "costmodels/rules/")
NO_CLOSED_FORMS = {
    f"costmodels/{name}.py"
    for name in (
        "columns",
        "compilation",
        "leaves",
        "pipelining/replayed",
        "pipelining/searched",
        "quantities",
        "stages",
    )
}
UNITLESS_NAMES = {"adapter_inputs_apart", "experts_apart", "fits", "regathers", "stage_mean"}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def nodes(path: Path) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(path.read_text(encoding="utf-8")))


def test_there_is_something_to_check() -> None:
    assert len(COSTMODELS) > 30


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_nothing_prints_but_the_command_line(path: Path) -> None:
    if name_of(path).startswith("cli/"):
        return
    called = {
        node.func.id
        for node in nodes(path)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not {"print", "input", "breakpoint", "eval", "exec"} & called


# A child process sends whatever happens to its parent, which raises it; a run of validation reports it.
HANDS_ERRORS_OVER = {"validation/running.py", "validation/torch_programs/processes.py"}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_error_is_swallowed(path: Path) -> None:
    for node in nodes(path):
        if isinstance(node, ast.ExceptHandler):
            caught = "" if node.type is None else ast.unparse(node.type)
            if caught == "Exception" and name_of(path) in HANDS_ERRORS_OVER:
                continue
            assert caught not in ("", "Exception", "BaseException")


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_module_says_what_it_is_about(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert docstring
    assert docstring.splitlines()[0].endswith((".", ":"))


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_numbers_are_scaled_in_units_only(path: Path) -> None:
    if name_of(path).startswith(MAY_SCALE):
        return
    for node in nodes(path):
        if isinstance(node, ast.Constant) and type(node.value) in (int, float):
            assert node.value not in SCALES, ast.unparse(node)
        match node:
            case ast.BinOp(ast.Constant(base), ast.Pow(), ast.Constant(exponent)):
                assert (base, exponent) not in POWERS, ast.unparse(node)
            case ast.BinOp(ast.Constant(1024), ast.Pow(), _):
                raise AssertionError(ast.unparse(node))


@pytest.mark.parametrize("path", COSTMODELS, ids=name_of)
def test_a_public_function_that_returns_a_column_ends_with_its_unit(path: Path) -> None:
    if name_of(path).startswith(UNITLESS):
        return
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef) or node.name.startswith("_"):
            continue
        if node.returns is not None and ast.unparse(node.returns) == "Column":
            assert node.name.endswith(ENDINGS) or node.name in UNITLESS_NAMES, node.name


@pytest.mark.parametrize("path", COSTMODELS, ids=name_of)
def test_closed_forms_do_not_branch_on_values(path: Path) -> None:
    """A function of columns has no `if`, `while`, `and`, `or` or `math.`: rows would not agree."""
    if name_of(path) in NO_CLOSED_FORMS:
        return
    for node in nodes(path):
        if not isinstance(node, ast.FunctionDef) or node.returns is None:
            continue
        if ast.unparse(node.returns) != "Column":
            continue
        for inner in ast.walk(node):
            assert not isinstance(inner, ast.If | ast.IfExp | ast.While | ast.BoolOp | ast.Raise), (
                node.name
            )
            assert not (isinstance(inner, ast.Name) and inner.id in ("math", "sum", "max", "min"))
