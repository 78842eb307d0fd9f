"""What ``htbench doctor`` says of a GPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark import doctor


def facts(monkeypatch: pytest.MonkeyPatch, node: str, code: str) -> dict[str, object]:
    monkeypatch.setattr(doctor, "CUDA_NODES", (node,))
    monkeypatch.setattr(doctor, "_ASK_TORCH", code)
    return doctor._device()


def test_without_a_device_node_torch_is_not_asked(monkeypatch, tmp_path):
    found = facts(monkeypatch, str(tmp_path / "nvidiactl"), "raise SystemExit('asked')")
    assert found["--device auto"] == "cpu"
    assert found["NVIDIA GPU"] == f"none: no device node {tmp_path / 'nvidiactl'}"


def test_what_torch_says_of_the_card(monkeypatch):
    found = facts(monkeypatch, "/dev/null", "print('NVIDIA H100 (79.2 GiB) with CUDA 12.8')")
    assert found["NVIDIA GPU"] == "NVIDIA H100 (79.2 GiB) with CUDA 12.8"
    assert (found["--device auto"], found["parallel runs"]) == ("cuda", 1)


def test_why_torch_cannot_use_it(monkeypatch):
    found = facts(monkeypatch, "/dev/null", "raise RuntimeError('the driver is too old')")
    assert found["NVIDIA GPU"] == "not usable: RuntimeError: the driver is too old"
    assert found["--device auto"] == "cpu"


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="this machine has a GPU")
def test_the_question_is_one_that_torch_understands(monkeypatch):
    found = facts(monkeypatch, "/dev/null", doctor._ASK_TORCH)
    assert str(found["NVIDIA GPU"]).startswith("not usable: ")
    assert "NVIDIA" in str(found["NVIDIA GPU"]) or "CUDA" in str(found["NVIDIA GPU"])
