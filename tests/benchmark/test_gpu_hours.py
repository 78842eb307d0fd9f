"""GPU hours from published speeds, against numbers worked out by hand."""

from __future__ import annotations

import pytest

from benchmark import gpu_hours
from benchmark.gpu_hours import PUBLISHED, hours, images_of_runs, images_of_source
from benchmark.manifest.catalogue import load_manifest


def test_the_work_of_runs_is_steps_and_a_third_of_the_predictions():
    manifest = load_manifest("office-home@1.0")
    task = manifest.task("Art-Clipart")
    tests = len(manifest.samples("Clipart", "test").ids)
    runs = [(task, "finetune"), (task, "lolsgd"), (task, "source")]
    images = images_of_runs(manifest, runs, {"finetune": 1.0, "lolsgd": 1.5, "source": 0.0})
    assert images == pytest.approx(10_000 * 64 * 2.5 + 3 * tests / 3)
    assert images_of_source(manifest) == 10_000 * 64


def test_hours_of_one_run_on_each_card():
    # 640,000 images at 367, 938 and 2470 images a second
    expected = (0.4844, 0.1895, 0.0720)
    assert [hours(640_000, speed) for speed in PUBLISHED] == pytest.approx(expected, abs=1e-4)
    text = gpu_hours.sentence(640_000)
    assert "0.484 on V100 16 GB, float32; 0.19 on A100 80 GB, TF32" in text
    assert "not measured" in text


def test_the_speeds_are_those_of_one_network_at_one_size():
    assert gpu_hours.is_known(load_manifest("domainnet@1.0"))
    assert not gpu_hours.is_known(load_manifest("icons@2.0"))
