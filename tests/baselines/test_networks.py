"""Every method on a small vision transformer of torchvision, which has no BatchNorm layer."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models import VisionTransformer

from baselines.bn_stats import batch_norm_layers
from baselines.lora import LoRA
from benchmark.networks.build import split
from htbench import NotApplicable, SourceModel
from tests.baselines.conftest import CLASSES, METHODS

NEEDS_BATCH_NORM = {"bn-stats", "bn-affine"}


@pytest.fixture
def source() -> SourceModel:
    """A transformer of two layers with two heads, on four patches of a 16-pixel image."""
    torch.manual_seed(0)
    network = VisionTransformer(
        image_size=16, patch_size=8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32
    )
    model = split(network, len(CLASSES))
    assert not batch_norm_layers(model)
    return SourceModel(model, "0" * 64)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_it_adapts_or_is_not_applicable(method, logits_of, source, changed):
    before = source.copy()
    if "a BatchNorm layer" in method.needs:
        with pytest.raises(NotApplicable, match="the network has no BatchNorm layer"):
            logits_of(method)
    else:
        logits, _, model = logits_of(method)
        assert logits.shape == (14, 6)
        assert logits.isfinite().all()
        assert torch.equal(logits, logits_of(method)[0])
        assert not model.training
    assert not changed(before, source.copy())


def test_methods_declare_that_they_need_batch_norm():
    assert {m.name for m in METHODS if "a BatchNorm layer" in m.needs} == NEEDS_BATCH_NORM


def test_lora_adapts_the_attention_too(source, target, new_run, changed):
    model = LoRA().adapt(source, target, new_run())
    names = changed(model, source.copy())
    attentions = [n for n, m in model.named_modules() if isinstance(m, nn.MultiheadAttention)]
    assert len(attentions) == 2
    assert {f"{name}.in_proj_weight" for name in attentions} <= names
    assert {f"{name}.out_proj.weight" for name in attentions} <= names
    assert not any(
        name.endswith(("ln_1.weight", "pos_embedding", "in_proj_bias")) for name in names
    )
