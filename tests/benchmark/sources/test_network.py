"""A network that cannot be used is named with the reason before anything trains."""

from __future__ import annotations

import pytest

from benchmark.errors import UsageError
from benchmark.manifest.catalogue import load_manifest
from benchmark.session import Session
from benchmark.sources import network

NO_KERNEL = (
    "ContractError: this network cannot be trained on images of 224 x 224 pixels "
    "(adaptive_avg_pool2d_backward_cuda does not have a deterministic implementation, but you set "
    "'torch.use_deterministic_algorithms(True)'); choose another network"
)
SENTENCE = (
    "adaptive_avg_pool2d_backward_cuda has no deterministic CUDA kernel, so a run of this network "
    "could not be repeated; choose another network, or use --device cpu"
)


@pytest.fixture
def asked(monkeypatch):
    """The devices of the networks that a child was asked to try; it refuses each."""
    devices = []

    def request(server, job, folder):
        devices.append(job.setup.device)
        return {"failed": {"kind": "contract", "message": NO_KERNEL, "traceback": ""}}

    monkeypatch.setattr(network, "request", request)
    monkeypatch.setattr(Session, "server", None)
    return devices


def test_a_manifests_network_without_deterministic_kernels_is_refused_by_name(asked):
    manifest = load_manifest("office-home@1.0")
    with Session(cuda=True) as session, pytest.raises(UsageError) as error:
        session.check_on_gpu(manifest)
    assert str(error.value) == f"network resnet50@ResNet50_Weights.IMAGENET1K_V1: {SENTENCE}"
    assert asked == ["cuda"]


def test_so_is_one_that_was_asked_for(asked):
    with Session(cuda=True) as session, pytest.raises(UsageError) as error:
        session.with_network(load_manifest("icons@2.0"), "vgg11")
    assert str(error.value) == f"--model vgg11: {SENTENCE}"


def test_a_network_is_tried_once_and_not_on_a_cpu(monkeypatch):
    tried = []
    monkeypatch.setattr(network, "request", lambda server, job, folder: tried.append(1) or {})
    monkeypatch.setattr(Session, "server", None)
    manifest = load_manifest("icons@2.0")
    with Session() as session:
        session.check_on_gpu(manifest)
    assert tried == []
    with Session(cuda=True) as session:
        session.check_on_gpu(manifest)
        session.check_on_gpu(manifest.with_recipe(manifest.recipe_names[-1]))
    assert tried == [1]
