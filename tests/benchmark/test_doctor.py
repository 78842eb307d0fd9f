"""What ``htbench doctor`` says of a GPU and of folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark import doctor
from benchmark.mounts import describe_mount


def facts(monkeypatch: pytest.MonkeyPatch, node: str, code: str) -> dict[str, object]:
    monkeypatch.setattr(doctor, "CUDA_NODES", (node,))
    monkeypatch.setattr(doctor, "_ASK_TORCH", code)
    return doctor._device()


def test_without_a_device_node_torch_is_not_asked(monkeypatch, tmp_path):
    section = facts(monkeypatch, str(tmp_path / "nvidiactl"), "raise SystemExit('asked')")
    assert section["--device auto"] == "cpu"
    assert section["NVIDIA GPU"] == f"none: no device node {tmp_path / 'nvidiactl'}"


def test_what_torch_says_of_the_card(monkeypatch):
    section = facts(monkeypatch, "/dev/null", "print('NVIDIA H100 (79.2 GiB) with CUDA 12.8')")
    assert section["NVIDIA GPU"] == "NVIDIA H100 (79.2 GiB) with CUDA 12.8"
    assert (section["--device auto"], section["parallel runs"]) == ("cuda", 1)


def test_why_torch_cannot_use_it(monkeypatch):
    section = facts(monkeypatch, "/dev/null", "raise RuntimeError('the driver is too old')")
    assert section["NVIDIA GPU"] == "not usable: RuntimeError: the driver is too old"
    assert section["--device auto"] == "cpu"


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="this machine has a GPU")
def test_the_question_is_one_that_torch_understands(monkeypatch):
    section = facts(monkeypatch, "/dev/null", doctor._ASK_TORCH)
    assert str(section["NVIDIA GPU"]).startswith("not usable: ")
    assert "NVIDIA" in str(section["NVIDIA GPU"]) or "CUDA" in str(section["NVIDIA GPU"])


def test_the_file_system_of_a_workspace_in_the_home_folder(
    own_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/proc")
    report = doctor.machine_report(Path("~/workspace"))
    assert report["file systems"]["workspace"] == describe_mount(Path("/proc/workspace"))
    assert report["workspace"]["folder"].startswith("/proc/workspace ")
