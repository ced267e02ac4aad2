"""Deterministic mode: what has no repeatable algorithm is named, and every setting of PyTorch is put back."""

from __future__ import annotations

import os
import warnings

import pytest
import torch

from goodfit.techniques.determinism import certificate, determinism, threads

CPU = torch.device("cpu")


@pytest.mark.parametrize("before", [False, True])
def test_the_settings_are_put_back(before: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    benchmark = torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(before)
    try:
        with determinism(True):
            assert torch.are_deterministic_algorithms_enabled()
            assert not torch.backends.cudnn.benchmark
            assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        assert torch.are_deterministic_algorithms_enabled() is before
        with determinism(False):
            assert torch.are_deterministic_algorithms_enabled() is before
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.backends.cudnn.benchmark == benchmark
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ


class Unordered(torch.autograd.Function):
    """An operation whose backward pass writes twice to one place, in no fixed order."""

    @staticmethod
    def forward(context: object, inputs: torch.Tensor) -> torch.Tensor:
        return inputs * 2

    @staticmethod
    def backward(context: object, gradient: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return gradient.clone().put_(torch.tensor([1, 1]), torch.ones(2))


def test_an_operation_without_a_repeatable_algorithm_is_named_once_backward_included() -> None:
    weight = torch.ones(4, requires_grad=True)
    with determinism(True) as met:
        for _ in range(3):
            Unordered.apply(weight).sum().backward()
        torch.nn.functional.linear(torch.ones(2, 4), torch.ones(3, 4))
    assert met == ["put_"]


def test_other_warnings_come_through() -> None:
    with pytest.warns(UserWarning, match="mine"), determinism(True) as met:
        warnings.warn("mine", UserWarning, stacklevel=1)
    assert met == []


def test_where_it_is_not_wanted_nothing_is_noted_and_nothing_changed() -> None:
    with determinism(False) as met:
        torch.ones(3).put_(torch.tensor([1, 1]), torch.ones(2))
    assert met == []


def test_a_certificate_says_what_repeats_and_what_does_not() -> None:
    good = certificate([], device=CPU, repeated=True)
    assert good["certified"]
    assert "every operation of PyTorch that ran on cpu" in good["deterministic"]
    assert any("two steps, made twice" in line for line in good["deterministic"])
    bad = certificate(["put_"], device=CPU, repeated=False, elsewhere=["your own DataLoader"])
    assert not bad["certified"]
    assert bad["not_deterministic"][0] == "tried: two steps, made twice from the same weights, gave different bits"
    assert bad["not_deterministic"][1] == "put_: PyTorch has no deterministic algorithm for it on cpu"
    assert "your own DataLoader" in bad["not_deterministic"]
    untried = certificate([], device=CPU, repeated=None)
    assert not untried["certified"]
    assert "whether a step repeats was not tried" in untried["not_deterministic"]


def test_threads_are_set_inside_only() -> None:
    before = torch.get_num_threads()
    with threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
    with threads(None):
        assert torch.get_num_threads() == before
