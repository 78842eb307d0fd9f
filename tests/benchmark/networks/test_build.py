"""Networks: a backbone and a linear head, from the benchmark, torchvision or timm."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn
from torchvision import models

from baselines.bn_affine import BNAffine
from baselines.finetune import Finetune
from baselines.frozen_classifier import FrozenClassifier
from baselines.linear_probe import LinearProbe
from baselines.lolsgd import LOLSGD
from baselines.selective_distill import SelectiveDistill
from benchmark.errors import ManifestError
from benchmark.images.augment import Transforms
from benchmark.method import TrainingRecipe
from benchmark.networks.build import (
    build,
    build_to_load,
    difference,
    library_network,
    load_backbone,
    own_names,
)
from benchmark.numerics import Streams
from benchmark.training import predict
from htbench import Run, SourceModel, TargetData

CLASSES = 7


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("name", "width"), [("resnet18", 512), ("mobilenet_v2", 1280), ("swin_t", 768)]
)
def test_a_network_of_torchvision_becomes_a_backbone_and_a_linear_head(name, width):
    model = build({"name": name}, CLASSES).eval()
    images = torch.rand(2, 3, 64, 64)
    features = model.features(images)
    assert features.shape == (2, width)
    assert isinstance(model.head, nn.Linear)
    torch.testing.assert_close(model(images), model.head(features))


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_its_outputs_equal_those_of_torchvision(name):
    theirs = models.get_model(name, weights=None, num_classes=CLASSES).eval()
    model = build({"name": name}, CLASSES).eval()
    model.load_state_dict(own_names(theirs.state_dict(), {"name": name}))
    images = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(model(images), theirs(images))


@pytest.mark.parametrize(
    "name", ["convnet", "mobilenet_v3_small", "resnet18", "swin_t", "timm/resnet10t"]
)
def test_a_network_that_is_built_to_load_equals_one_with_random_weights(name, monkeypatch):
    """Whatever memory its weights are in before; nothing random is drawn."""
    if name.startswith("timm/"):
        pytest.importorskip("timm")
    state = torch.random.get_rng_state()
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *a, **k: empty(*a, **k).fill_(float("nan")))
    loaded = build_to_load({"name": name}, CLASSES).eval()
    monkeypatch.undo()
    assert torch.equal(torch.random.get_rng_state(), state)
    model = build({"name": name}, CLASSES).eval()
    loaded.load_state_dict(model.state_dict(), strict=True)
    assert dict(loaded.named_buffers()).keys() == dict(model.named_buffers()).keys()
    # Strides decide which kernel computes a convolution, and with that the last bits.
    for name, value in model.state_dict().items():
        assert loaded.state_dict()[name].stride() == value.stride(), name
    images = torch.rand(1, 3, 224, 224)
    assert torch.equal(loaded(images), model(images))


def test_own_names_stay_as_they_are():
    state = build({"name": "resnet18"}, CLASSES).state_dict()
    assert own_names(state, {"name": "resnet18"}).keys() == state.keys()


def test_the_backbone_has_no_dropout():
    """MobileNet drops a fifth of its features; a head on cached features could not."""
    backbone = build({"name": "mobilenet_v2"}, CLASSES).backbone
    assert any(
        isinstance(m, nn.Dropout) for m in library_network({"name": "mobilenet_v2"}).modules()
    )
    assert not any(isinstance(m, nn.Dropout) for m in backbone.modules())


def test_the_name_of_initial_weights_does_not_change_the_network():
    weights = "ResNet18_Weights.IMAGENET1K_V1"
    assert not difference(
        build({"name": "resnet18"}, 3).state_dict(),
        build({"name": "resnet18", "weights": weights}, 3).state_dict(),
    )


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"name": "resnet-50"}, "unknown model 'resnet-50'; did you mean resnet50"),
        ({"name": "fcn_resnet50"}, "unknown model"),
        ({}, "unknown model 'None'"),
        ({"name": "resnet18", "width": 4}, "unexpected keyword argument 'width'"),
        ({"name": "convnet", "weights": "X"}, "unexpected keyword argument 'weights'"),
        ({"name": "timm/test_vitt"}, "unknown model 'timm/test_vitt'; did you mean timm/test_vit"),
        ({"name": "timm/test_vit.r160_in1k"}, "unknown model"),
        ({"name": "squeezenet1_0"}, "cannot be split into a backbone and a linear head"),
    ],
)
def test_a_table_that_cannot_be_built_is_a_manifest_error(table, message):
    with pytest.raises(ManifestError, match=message):
        build(table, CLASSES)


@pytest.mark.parametrize(("name", "width"), [("timm/test_vit", 64), ("timm/test_resnet", 96)])
def test_a_network_of_timm_becomes_a_backbone_and_a_linear_head(name, width):
    model = build({"name": name}, CLASSES, 32).eval()
    images = torch.rand(2, 3, 32, 32)
    assert model.features(images).shape == (2, width)
    torch.testing.assert_close(model(images), model.head(model.features(images)))


@pytest.mark.parametrize("name", ["timm/test_vit", "timm/test_convnext"])
def test_its_outputs_equal_those_of_timm(name):
    """A state under timm's own names: the norm before the last layer stays in the backbone."""
    import timm

    theirs = timm.create_model(name.removeprefix("timm/"), num_classes=CLASSES).eval()
    size = theirs.pretrained_cfg["input_size"][1]
    model = build({"name": name}, CLASSES, size).eval()
    model.load_state_dict(own_names(theirs.state_dict(), {"name": name}, size))
    images = torch.rand(2, 3, size, size)
    torch.testing.assert_close(model(images), theirs(images))


def test_a_vision_transformer_fits_the_size_of_the_images():
    backbone = build({"name": "vit_b_16"}, CLASSES, 48).backbone
    assert backbone.encoder.pos_embedding.shape[1] == 1 + 9


def test_initial_weights_fill_the_backbone_but_not_the_head():
    table = {"name": "timm/test_resnet"}
    model, initial = build(table, CLASSES, 32), library_network(table, 32).state_dict()
    head = model.head.weight.clone()
    load_backbone(model, initial, table, 32)
    assert torch.equal(model.head.weight, head)
    assert torch.equal(model.backbone.state_dict()["conv1.0.weight"], initial["conv1.0.weight"])


def test_position_embeddings_of_a_vision_transformer_are_interpolated():
    """All other weights are copied; a constant embedding stays constant at any size."""
    table = {"name": "vit_b_32"}
    initial = library_network(table, 96).state_dict()
    initial["encoder.pos_embedding"][:] = 0.25
    model = build(table, CLASSES, 64)
    load_backbone(model, initial, table, 64)
    state = model.backbone.state_dict()
    assert state["encoder.pos_embedding"].shape[1] == 1 + 4
    torch.testing.assert_close(
        state["encoder.pos_embedding"], torch.full_like(state["encoder.pos_embedding"], 0.25)
    )
    assert torch.equal(state["conv_proj.weight"], initial["conv_proj.weight"])


def test_initial_weights_of_another_network_or_size_do_not_fit():
    table = {"name": "timm/test_vit"}
    model = build(table, CLASSES, 32)
    with pytest.raises(ManifestError, match=r"do not fit: shape mismatch: pos_embed is \(1, 101"):
        load_backbone(model, library_network(table, 160).state_dict(), table, 32)
    with pytest.raises(ManifestError, match="do not fit: missing keys"):
        load_backbone(model, {"head.weight": torch.zeros(1)}, table, 32)


def test_a_difference_names_missing_and_unexpected_keys_and_other_shapes():
    expected = {"a": torch.zeros(2), "b": torch.zeros(3), "c": torch.zeros(1)}
    assert difference(expected, dict(expected)) is None
    message = difference(expected, {"a": torch.zeros(5), "b": torch.zeros(3), "z": torch.zeros(1)})
    assert message == "missing keys 'c'; unexpected keys 'z'; shape mismatch: a is (5,), not (2,)"


def test_building_the_small_network_does_not_import_torchvision():
    code = (
        "import sys; from benchmark.networks.build import build;"
        "build({'name': 'convnet', 'width': 4}, 3);"
        "sys.exit('torchvision' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.fixture(scope="module")
def source():
    torch.manual_seed(0)
    return SourceModel(build({"name": "resnet50"}, CLASSES), "0" * 64)


class TestResNet50At224Pixels:
    """One step of each family of methods on ResNet-50, as in the large manifests."""

    TRANSFORMS = {
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "size": 224,
        "train": [
            {"op": "random-resized-crop", "scale": [0.7, 1.0], "ratio": [0.75, 4 / 3]},
            {"op": "horizontal-flip", "p": 0.5},
            {
                "op": "color-jitter",
                "brightness": 0.3,
                "contrast": 0.3,
                "saturation": 0.3,
                "hue": 0.3,
            },
            {"op": "grayscale", "p": 0.1},
        ],
    }

    @pytest.fixture
    def target(self):
        generator = torch.Generator().manual_seed(1)
        images = torch.randint(256, (4, 3, 64, 64), generator=generator).to(torch.uint8)
        seen = torch.zeros(CLASSES, dtype=torch.bool)
        seen[[0, 2, 4]] = True
        return TargetData(images, torch.tensor([0, 2, 4, 0]), tuple("abcdefg"), seen)

    @pytest.fixture
    def run(self, tmp_path):
        return Run(
            device=torch.device("cpu"),
            recipe=TrainingRecipe(1, 2, 0.001, 0.0001, 0.9, True, 0.0005),
            transforms=Transforms(self.TRANSFORMS),
            stream=Streams(0),
            scratch=tmp_path,
        )

    @pytest.mark.parametrize(
        ("method", "backbone", "head"),
        [
            (Finetune(), True, True),
            (FrozenClassifier(), True, False),
            (LinearProbe(), False, True),
            (BNAffine(), False, False),
            (SelectiveDistill(), True, True),
            (LOLSGD(local_models=1, local_steps=1), True, True),
        ],
        ids=lambda value: getattr(value, "name", None),
    )
    def test_a_step_moves_the_parts_that_the_method_trains(
        self, source, target, run, method, backbone, head
    ):
        if method.uses_features:
            features = source.features(run.transforms.evaluate(target.images)).clone()
            target = TargetData(target.images, target.labels, target.classes, target.seen, features)
        model = method.adapt(source, target, run)
        assert run.total_steps == 1
        assert differs(model.backbone.conv1, source.backbone.conv1) is backbone
        assert differs(model.head, source.head) is head
        logits = predict(model, target.images[:1], run)
        assert logits.shape == (1, CLASSES)
        assert torch.isfinite(logits).all()


def differs(one: nn.Module, other: nn.Module) -> bool:
    return not torch.equal(one.weight, other.weight)
