"""The loss on a path of weights against interpolated copies, and training with it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from baselines.mergetune import POINTS, MergeTune, path_loss
from benchmark.training import index_batches
from htbench import Batch, fit


def parameters(model):
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def loss_at(model, end, t, images, labels):
    """Cross-entropy of a copy whose weights are set, with batch statistics."""
    copy = model.copy()
    with torch.no_grad():
        for name, value in copy.named_parameters():
            value.copy_(end[name] + t * (dict(model.named_parameters())[name] - end[name]))
    copy.train()
    return copy, F.cross_entropy(copy(images), labels)


@pytest.mark.parametrize("points", [POINTS, [0.3], [0.0, 1.0]])
def test_value_and_gradient(source, target, new_run, tuned, points):
    images, labels = new_run().transforms.evaluate(target.images[:9]), target.labels[:9]
    model, end = tuned.copy().train(), parameters(source.copy())
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    value = path_loss(end, points)(Batch(model, images, labels))
    value.backward()
    total, gradients = 0.0, dict.fromkeys(end, 0.0)
    for t in points:
        copy, loss = loss_at(model, end, t, images, labels)
        loss.backward()
        total += loss.item() / len(points)
        for name, parameter in copy.named_parameters():
            gradients[name] += t * parameter.grad / len(points)
    assert value.item() == pytest.approx(total, rel=1e-6)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name] + 0.0 * parameter.grad)
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, buffers[name]), name


def test_the_points_are_those_of_the_released_code():
    assert pytest.approx([0.1 + i / 5 for i in range(5)]) == POINTS


def test_one_step_by_hand(source, target, new_run, tuned):
    settings = {"steps": 1, "momentum": 0.0, "nesterov": False, "weight_decay": 0.0}
    model = MergeTune(path=0.7, stiffness=0.4).adapt(
        source, target, new_run(base=tuned, **settings)
    )
    run = new_run(**settings)
    rows = next(index_batches(len(target), run.recipe.batch_size, run.stream("order")))
    images = run.transforms.augment(target.images[rows], run.stream("augmentation"))
    t = POINTS[int(torch.randint(5, (), generator=run.stream("method")))]
    expected, start = tuned.copy().train(), parameters(source.copy())
    end = parameters(tuned)
    loss = F.cross_entropy(expected(images), target.labels[rows])
    loss = loss + 0.7 * path_loss(end, [t])(Batch(expected, images, target.labels[rows]))
    loss = loss + 0.2 * sum(
        (value - start[name]).square().sum() for name, value in expected.named_parameters()
    )
    loss.backward()
    for name, value in expected.named_parameters():
        rate = run.recipe.head_lr if name.startswith("head") else run.recipe.backbone_lr
        torch.testing.assert_close(dict(model.named_parameters())[name], value - rate * value.grad)


def test_without_its_terms_it_continues_finetune(source, target, new_run, tuned, changed):
    run = new_run(base=tuned)
    model = MergeTune(path=0.0, stiffness=0.0).adapt(source, target, run)
    assert not changed(model, fit(tuned.copy(), target, new_run()))
    assert run.total_steps == run.recipe.steps


def test_a_stronger_pull_ends_nearer_to_the_source(source, target, new_run, tuned):
    start = parameters(source.copy())

    def distance(stiffness):
        method = replace(MergeTune(), stiffness=stiffness)
        model = method.adapt(source, target, new_run(base=tuned))
        return sum((v - start[n]).square().sum().item() for n, v in model.named_parameters())

    assert distance(1.0) < distance(0.1) < distance(0.0)
