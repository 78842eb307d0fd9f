"""Low-rank updates against those of peft, and the parts that do not change."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrize import register_parametrization

from baselines.finetune import Finetune
from baselines.lora import LoRA, LowRank, adapted_weights
from htbench import Classifier


def test_the_same_matrices_give_the_logits_of_peft(source):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft warns about packages that are not installed
        peft = pytest.importorskip("peft")

    ours, theirs = source.copy(), source.copy()
    names = [n for n, m in theirs.backbone.named_modules() if isinstance(m, nn.Conv2d)]
    config = peft.LoraConfig(r=3, lora_alpha=5, target_modules=names, lora_dropout=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped = peft.get_peft_model(theirs.backbone, config)
    random = torch.Generator().manual_seed(2)
    layers = adapted_weights(ours)
    pairs = [m for m in wrapped.modules() if hasattr(m, "lora_A") and len(m.lora_A)]
    assert len(pairs) == len(layers) == 4
    for (layer, _), pair in zip(layers, pairs, strict=True):
        update = LowRank(layer.weight, 3, 5.0, random)
        with torch.no_grad():
            update.up.copy_(torch.randn(update.up.shape, generator=random))
            a, b = pair.lora_A["default"].weight, pair.lora_B["default"].weight
            a.copy_(update.down.view(a.shape))
            b.copy_(update.up.view(b.shape))
        register_parametrization(layer, "weight", update)
    images = torch.randn(5, 3, 16, 16, generator=random)
    with torch.no_grad():
        expected = theirs.head.eval()(wrapped.eval()(images))
        torch.testing.assert_close(ours.eval()(images), expected, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(expected, source.logits(images), atol=1e-2)


def test_a_linear_layer_starts_as_that_of_peft():
    """B is 0, and A is uniform between the same bounds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peft = pytest.importorskip("peft")

    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(50, 400))
    ours = LowRank(network[0].weight, 200, 5.0, torch.Generator().manual_seed(2))
    config = peft.LoraConfig(r=200, lora_alpha=5, target_modules=["0"], lora_dropout=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = peft.get_peft_model(network, config).base_model.model[0]
    a, b = theirs.lora_A["default"].weight, theirs.lora_B["default"].weight
    assert ours.up.shape == b.shape
    assert not ours.up.any()
    assert not b.any()
    assert ours.down.shape == a.shape
    shares = torch.linspace(0, 1, 101)
    torch.testing.assert_close(
        ours.down.flatten().quantile(shares), a.flatten().quantile(shares), rtol=0, atol=0.01
    )

    with torch.no_grad():
        b.normal_()
        ours.up.copy_(b)
        ours.down.copy_(a)
    inputs = torch.randn(3, 50)
    updated = nn.functional.linear(inputs, ours(theirs.base_layer.weight), theirs.base_layer.bias)
    torch.testing.assert_close(updated, theirs(inputs), rtol=1e-4, atol=1e-4)


def test_only_weights_of_layers_and_the_head_change(source, target, new_run, changed):
    model = LoRA().adapt(source, target, new_run())
    names = changed(model, source.copy())
    assert {"head.weight", "head.bias"} <= names
    layers = {n for n, m in source.copy().named_modules() if isinstance(m, nn.Conv2d)}
    weights = {name for name in names if "running" not in name and "tracked" not in name}
    assert weights - {"head.weight", "head.bias"} == {f"{name}.weight" for name in layers}
    assert not any(hasattr(module, "parametrizations") for module in model.modules())


def test_the_update_has_the_rank(source, target, new_run):
    model = LoRA(rank=2).adapt(source, target, new_run())
    start = source.copy()
    pairs = zip(adapted_weights(model), adapted_weights(start), strict=True)
    for (new, _), (old, _) in pairs:
        update = (new.weight - old.weight).detach().double().flatten(1)
        values = torch.linalg.svdvals(update)
        assert values[1] > 1e-7
        assert values[2] < 1e-5 * values[0]


def test_at_rate_0_nothing_changes(source, target, new_run, changed):
    still = {"head_lr": 0.0, "backbone_lr": 0.0}
    model = LoRA(batch_norm="frozen").adapt(source, target, new_run(**still))
    assert not changed(model, source.copy())
    model = LoRA().adapt(source, target, new_run(**still))
    parts = {name.rpartition(".")[2] for name in changed(model, source.copy())}
    assert parts == {"running_mean", "running_var", "num_batches_tracked"}


def test_batch_norm_follows_the_target_as_in_finetune(source, target, new_run):
    """At rate 0 every method that trains on the same batches ends with the same statistics."""
    still = {"head_lr": 0.0, "backbone_lr": 0.0}
    ours = LoRA().adapt(source, target, new_run(**still)).state_dict()
    tuned = Finetune().adapt(source, target, new_run(**still)).state_dict()
    torch.testing.assert_close(dict(ours), dict(tuned))


def test_batch_norm_is_one_of_two():
    with pytest.raises(ValueError, match="batch_norm is 'update'; it must be update-all or frozen"):
        LoRA(batch_norm="update")


def test_a_rank_below_one():
    with pytest.raises(ValueError, match="rank is 0"):
        LoRA(rank=0)


def test_attention_layers_are_adapted_too():
    """Including their queries, keys and values, as in torchvision's vision transformers."""
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    weights = adapted_weights(Classifier(attention, nn.Linear(8, 3)))
    assert weights == [(attention, "in_proj_weight"), (attention.out_proj, "weight")]
    plain = nn.MultiheadAttention(8, 2, batch_first=True)
    plain.load_state_dict(attention.state_dict())
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for layer, name in weights:
            update = LowRank(getattr(layer, name), 2, 3.0, random)
            update.up.copy_(torch.randn(update.up.shape, generator=random))
            other = plain if layer is attention else plain.out_proj
            getattr(other, name).add_(1.5 * update.up @ update.down)
            register_parametrization(layer, name, update)
        x = torch.randn(4, 5, 8, generator=random)
        for mode in (True, False):  # torch computes them differently
            one = attention.train(mode)(x, x, x, need_weights=False)[0]
            other = plain.train(mode)(x, x, x, need_weights=False)[0]
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
