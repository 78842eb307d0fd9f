"""What can only be tested on an NVIDIA GPU; see also ``performance/gpu_check.py``."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

SANDBOXED = """
import os, socket, tempfile
from pathlib import Path
import torch
from benchmark.folders import harness_packages
from benchmark.isolation.facts import FULL_ISOLATION
from benchmark.isolation.sandbox import Sandbox

scratch = Path(tempfile.mkdtemp())
facts = Sandbox(cuda=True).enter(read=list(harness_packages()), write=[scratch])
assert set(FULL_ISOLATION) <= set(facts), facts
total = (torch.ones(64, 64, device="cuda") @ torch.ones(64, 64, device="cuda")).sum().item()
assert total == 64**3
for attempt in (
    lambda: open("/etc/passwd"),
    lambda: open("/proc/1/environ"),
    lambda: os.listdir("/home"),
    lambda: os.fork(),
    lambda: socket.socket(socket.AF_INET),
    lambda: socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).connect("\\0cuda-uvmfd-1-1"),
):
    try:
        attempt()
    except OSError:
        continue
    raise SystemExit("not refused")
print("locked")
"""


@pytest.fixture
def data():
    """24 images of 256 pixels, of four classes."""
    import torch

    from htbench import TargetData

    generator = torch.Generator().manual_seed(0)
    shape = (24, 3, 256, 256)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    return TargetData(images, torch.arange(24) % 4, tuple("abcd"), torch.ones(4).bool())


@pytest.fixture
def gpu_run(tmp_path):
    """Creates runs on the GPU."""
    import torch

    from benchmark import numerics
    from benchmark.images.augment import Transforms
    from benchmark.manifest.catalogue import load_manifest
    from benchmark.method import TrainingRecipe
    from benchmark.torch_state import kept_torch_state
    from htbench import Run

    manifest = load_manifest("office-home@1.0")
    recipe = replace(TrainingRecipe.from_table(manifest.recipe), steps=6, batch_size=8)
    transforms = Transforms(manifest.document["transforms"])

    def create():
        numerics.seed_globals(0)
        streams = numerics.Streams(0)
        return Run(torch.device("cuda"), recipe, transforms, streams, tmp_path)

    with kept_torch_state():
        numerics.configure()
        yield create


def network(name="resnet18", dropout=0.0):
    import torch

    from benchmark.networks.build import build

    torch.manual_seed(0)
    model = build({"name": name}, 4, 224)
    if dropout:
        model.backbone = torch.nn.Sequential(model.backbone, torch.nn.Dropout(dropout))
    return model.to("cuda")


def same(one, other):
    import torch

    return all(torch.equal(a, b) for a, b in zip(one.values(), other.values(), strict=True))


def test_training_twice_gives_the_same_bytes(data, gpu_run):
    import torch

    from benchmark.child.data import on_device
    from htbench import fit

    here = on_device(data, torch.device("cuda"))
    states = [fit(network(), here, gpu_run()).state_dict() for _ in range(2)]
    assert same(*states)


def test_the_augmentation_is_that_of_the_cpu(data, gpu_run):
    import torch

    run, small = gpu_run(), data.images[:, :, :128, :128]  # larger ones are cropped as bytes there
    ours, cpu = (
        run.transforms.augment(images, torch.Generator().manual_seed(0))
        for images in (small.cuda(), small)
    )
    assert ours.device.type == "cuda"
    torch.testing.assert_close(ours.cpu(), cpu, rtol=1e-3, atol=1e-3)


def test_images_that_stay_in_files_are_kept_on_the_gpu(data, gpu_run):
    import torch

    from benchmark.images.store.tensors import LazyImages

    images = LazyImages([data.images], 256).to(torch.device("cuda"))
    before = torch.cuda.memory_allocated()
    rows = torch.tensor([3, 1, 3], device="cuda")
    assert torch.equal(images[rows].cpu(), data.images[[3, 1, 3]])
    assert torch.cuda.memory_allocated() - before >= data.images.numel()


def test_a_resumed_training_with_dropout_ends_with_the_same_bytes(data, gpu_run, tmp_path):
    import torch

    from benchmark.checkpoint import Checkpoints
    from benchmark.child.data import on_device
    from htbench import fit

    here = on_device(data, torch.device("cuda"))

    def train(folder, stop=None):
        folder.mkdir(exist_ok=True)
        model, run = network(dropout=0.5), gpu_run()

        def after(step):
            if step == stop:
                raise KeyboardInterrupt

        checkpoints = Checkpoints(folder, "k", model, run, 0.0)
        return fit(model, here, run, after_step=after, checkpoints=checkpoints).state_dict()

    whole = train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "part", stop=4)
    assert same(whole, train(tmp_path / "part"))


def test_a_network_without_deterministic_kernels_is_refused_by_name():
    from benchmark.errors import UsageError
    from benchmark.manifest.catalogue import load_manifest
    from benchmark.session import Session

    with Session(cuda=True) as session, pytest.raises(UsageError) as error:
        session.with_network(load_manifest("office-home@1.0"), "vgg11")
    assert str(error.value).startswith("--model vgg11: adaptive_avg_pool2d_backward")
    assert "no deterministic CUDA kernel" in str(error.value)


def test_the_locked_process_uses_the_gpu_and_nothing_else():
    result = subprocess.run(
        [sys.executable, "-c", SANDBOXED], capture_output=True, text=True, timeout=120
    )
    assert result.stdout == "locked\n", result.stderr
