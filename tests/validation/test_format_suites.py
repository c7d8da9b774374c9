"""Bytes and error of formats are those of libraries and published files."""

import pytest

from validation import format_bytes, format_errors
from validation.cases import Case, passed


def failed(cases: list[Case]) -> list[str]:
    assert cases
    return [
        f"{case.name}: {case.prediction} {case.measurement}" for case in cases if not passed(case)
    ]


def test_published_files_have_the_size_that_is_said() -> None:
    cases = format_bytes.file_cases()
    assert failed(cases) == []
    bits = [case for case in cases if "bits per weight" in case.name]
    assert len([case for case in bits if case.name.startswith("Llama-3.1-8B")]) >= 23
    gptq = [case for case in cases if "gptq" in case.name]
    assert len(gptq) == 4


@pytest.mark.slow
@pytest.mark.torch
def test_bytes_are_those_of_libraries() -> None:
    pytest.importorskip("gguf", reason="gguf is not installed: the validation extra")
    assert failed(format_bytes.gguf_cases()) == []
    pytest.importorskip("torch", reason="torch is not installed: the validation extra")
    assert failed(format_bytes.library_cases()) == []


@pytest.mark.slow
@pytest.mark.torch
def test_errors_are_those_of_libraries() -> None:
    pytest.importorskip("gguf", reason="gguf is not installed: the validation extra")
    pytest.importorskip("torch", reason="torch is not installed: the validation extra")
    shape = (256, 2048)
    assert failed(format_errors.library_cases(shape)) == []
    assert failed(format_errors.gguf_cases(shape)) == []
    assert failed(format_errors.own_cases(shape)) == []


def test_checkpoints_take_their_published_bytes() -> None:
    cases = format_bytes.checkpoint_cases()
    assert len(cases) == len(format_bytes.CHECKPOINTS) == 3
    assert failed(cases) == []
