"""The training loop and prediction: which parts train, and which random numbers they use."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from benchmark import batches
from benchmark.images.augment import Transforms
from benchmark.method import SourceModel, TrainingRecipe
from benchmark.networks.build import build
from benchmark.numerics import Streams
from benchmark.training import cross_entropy, index_batches
from htbench import Batch, Run, TargetData, cosine, fit, fit_head, predict

TRANSFORMS = Transforms(
    {
        "mean": [0.5, 0.5, 0.5],
        "std": [0.25, 0.25, 0.25],
        "train": [{"op": "horizontal-flip", "p": 0.5}],
    }
)
RECIPE = TrainingRecipe(
    steps=6,
    batch_size=8,
    head_lr=0.1,
    backbone_lr=0.05,
    momentum=0.9,
    nesterov=True,
    weight_decay=0.01,
)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return build({"name": "convnet", "width": 2}, 4).eval()


@pytest.fixture
def target():
    """19 images of three classes: two full batches of eight, and three more images."""
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (19, 3, 16, 16), dtype=torch.uint8, generator=random)
    seen = torch.tensor([True, True, True, False])
    return TargetData(images, torch.arange(19) % 3, ("a", "b", "c", "d"), seen)


def new_run(seed: int = 0, **recipe) -> Run:
    return Run(
        torch.device("cpu"), replace(RECIPE, **recipe), TRANSFORMS, Streams(seed), Path("unused")
    )


def state_of(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def moved(before, model):
    """Return the names of the values that changed by at least one bit."""
    return {k for k, value in model.state_dict().items() if not torch.equal(before[k], value)}


class TestCosine:
    def test_values(self):
        assert cosine(0, 10) == 1
        assert cosine(5, 10) == pytest.approx(0.5)
        assert cosine(10, 10) == pytest.approx(0)
        assert cosine(1, 6) == pytest.approx((2 + math.sqrt(3)) / 4)

    def test_it_is_strictly_decreasing(self):
        assert all(a > b for a, b in itertools.pairwise(cosine(i, 50) for i in range(51)))


class TestBatches:
    def test_an_epoch_is_a_new_permutation_without_its_partial_batch(self):
        batches = index_batches(19, 8, torch.Generator().manual_seed(3))
        random = torch.Generator().manual_seed(3)
        epochs = [torch.randperm(19, generator=random) for _ in range(3)]
        for epoch in epochs:
            assert torch.equal(next(batches), epoch[:8])
            assert torch.equal(next(batches), epoch[8:16])
        assert not torch.equal(epochs[0], epochs[1])

    def test_whole_batches_cover_everything(self):
        batches = index_batches(12, 4, torch.Generator())
        assert sorted(torch.cat([next(batches) for _ in range(3)]).tolist()) == list(range(12))

    @pytest.mark.parametrize("count", [1, 5, 8])
    def test_a_small_data_set_is_one_batch(self, count):
        batches = index_batches(count, 8, torch.Generator())
        for _ in range(3):
            assert sorted(next(batches).tolist()) == list(range(count))

    def test_no_images_are_an_error(self):
        with pytest.raises(ValueError, match="there are no images to train on"):
            next(index_batches(0, 8, torch.Generator()))


class TestTrainedParts:
    def test_everything_by_default(self, model, target):
        before = state_of(model)
        assert fit(model, target, new_run()) is model
        assert moved(before, model) == set(before)
        assert not model.training

    def test_under_a_frozen_backbone_batch_norm_does_not_change(self, model, target):
        before = state_of(model)
        fit(model, target, new_run(), train=model.head)
        assert moved(before, model) == {"head.weight", "head.bias"}

    def test_under_a_frozen_head_batch_norm_changes(self, model, target):
        before = state_of(model)
        fit(model, target, new_run(), train=model.backbone)
        assert moved(before, model) == {k for k in before if k.startswith("backbone")}

    def test_one_layer(self, model, target):
        before = state_of(model)
        fit(model, target, new_run(), train=model.backbone[1])
        assert moved(before, model) == {k for k in before if k.startswith("backbone.1.")}

    def test_batch_norm_can_train_with_frozen_statistics(self, model, target):
        before = state_of(model)
        fit(model, target, new_run(), batch_norm="frozen")
        assert moved(before, model) == {name for name, _ in model.named_parameters()}

    def test_frozen_batch_norm_normalises_by_its_statistics(self, model, target):
        """One step along the gradient of the model in evaluation mode."""
        expected = model.copy().eval()
        run = new_run(steps=1, momentum=0.0, nesterov=False, weight_decay=0.0)
        fit(model, target, run, batch_norm="frozen")
        run = new_run()
        rows = next(index_batches(19, 8, run.stream("order")))
        images = TRANSFORMS.augment(target.images[rows], run.stream("augmentation"))
        nn.functional.cross_entropy(expected(images), target.labels[rows]).backward()
        rates = {"head": 0.1, "backbone": 0.05}
        for (name, ours), theirs in zip(
            model.named_parameters(), expected.parameters(), strict=True
        ):
            step = rates[name.partition(".")[0]] * theirs.grad
            torch.testing.assert_close(ours.detach(), theirs.detach() - step)

    def test_a_part_that_was_frozen_can_train_again(self, model, target):
        fit(model, target, new_run(), train=model.head)
        before = state_of(model)
        fit(model, target, new_run())
        assert moved(before, model) == set(before)


class TestLossAndRate:
    def test_penalties_are_added_to_the_loss(self, model, target):
        def mean_square(batch: Batch):
            return batch.features.square().mean()

        other = model.copy()
        fit(model, target, new_run(), penalties=[mean_square, mean_square])
        fit(other, target, new_run(), loss=lambda b: cross_entropy(b) + 2 * mean_square(b))
        for name, value in model.state_dict().items():
            torch.testing.assert_close(value, other.state_dict()[name])

    def test_a_batch_calls_the_network_once(self, model, target):
        calls = []
        model.backbone.register_forward_hook(lambda *_: calls.append(1))
        fit(model, target, new_run(), penalties=[lambda b: b.logits.sum() * 0] * 3)
        assert len(calls) == 6

    def test_at_rate_0_no_weight_changes(self, model, target):
        before = state_of(model)
        fit(model, target, new_run(), rate=lambda step: 0.0)
        assert not moved(before, model) & {name for name, _ in model.named_parameters()}

    def test_rate_is_called_at_every_step_and_defaults_to_a_cosine(self, model, target):
        steps, other = [], model.copy()
        fit(model, target, new_run(), steps=4, rate=lambda step: steps.append(step) or 1.0)
        assert steps == [0, 1, 2, 3]
        model = other.copy()
        fit(model, target, new_run(), steps=4)
        fit(other, target, new_run(), steps=4, rate=lambda step: cosine(step, 4))
        assert not moved(state_of(model), other)

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_a_loss_that_is_not_finite_is_an_error(self, value, model, target):
        with pytest.raises(FloatingPointError, match=rf"the loss is {value} at step 1 of 6"):
            fit(model, target, new_run(), penalties=[lambda batch: batch.logits.sum() * 0 + value])

    def test_divergence_during_training_is_an_error(self, model, target):
        with pytest.raises(FloatingPointError, match="of 6"):
            fit(model, target, new_run(), rate=lambda step: 1e30 if step == 2 else 1.0)


class TestRandomness:
    def test_the_same_seed_gives_the_same_bytes_and_another_does_not(self, model, target):
        again, other = model.copy(), model.copy()
        fit(model, target, new_run(seed=1))
        fit(again, target, new_run(seed=1))
        fit(other, target, new_run(seed=2))
        assert not moved(state_of(model), again)
        assert moved(state_of(model), other) >= {name for name, _ in model.named_parameters()}

    def test_the_global_generator_is_not_used(self, model, target):
        again = model.copy()
        fit(model, target, new_run())
        torch.manual_seed(99)
        fit(again, target, new_run())
        assert not moved(state_of(model), again)

    def test_order_and_augmentation_come_from_their_streams(self, model, target):
        batches = []
        fit(model, target, new_run(), penalties=[lambda b: batches.append(b) or b.logits.sum() * 0])
        run = new_run()
        order = index_batches(19, 8, run.stream("order"))
        assert len(batches) == 6
        for batch in batches:
            rows = next(order)
            images = TRANSFORMS.augment(target.images[rows], run.stream("augmentation"))
            assert torch.equal(batch.labels, target.labels[rows])
            assert torch.equal(batch.images, images)


class TestLog:
    def test_an_unknown_word_for_batch_norm_is_an_error(self, model, target):
        """It acted as ``frozen``."""
        with pytest.raises(ValueError, match="'freeze'; it must be one of update, update-all"):
            fit(model, target, new_run(), batch_norm="freeze")

    def test_a_source_model_is_not_a_model_to_train(self, model, target):
        source, run = SourceModel(model, digest="0"), new_run()
        for call in (fit, lambda *arguments: predict(source, target.images, run)):
            with pytest.raises(TypeError, match=r"SourceModel and not a module; give source.copy"):
                call(source, target, run)

    def test_steps_are_counted_and_reported(self, model, target):
        run, steps = new_run(), []
        fit(model, target, run, steps=4, after_step=steps.append)
        fit(model, target, run)
        assert steps == [1, 2, 3, 4]
        assert (run.total_steps, run.sequential_steps) == (10, 10)
        assert [row["step"] for row in run.history] == list(range(1, 11))
        assert all(math.isfinite(row["loss"]) for row in run.history)

    def test_the_loss_decreases(self, model, target):
        run = new_run(steps=60)
        fit(model, target, run)
        assert run.history[-1]["loss"] < 0.5 * run.history[0]["loss"]

    @pytest.mark.parametrize("steps", [6, 60, 130])
    def test_step_counts_logs_and_reports_as_fit_does(self, model, target, steps):
        """An own loop over the same losses leaves the same log and the same numbers of steps."""
        own, fitted, losses, reports = new_run(steps=steps), new_run(steps=steps), [], {}
        for name, run in {"own": own, "fitted": fitted}.items():
            run.report = lambda *done, name=name: reports.setdefault(name, []).append(done)

        def kept(batch):
            losses.append(cross_entropy(batch))
            return losses[-1]

        fit(model, target, fitted, loss=kept)
        for loss in losses:
            own.step(loss=loss)
        assert own.history == fitted.history
        assert 6 <= len(own.history) <= 66
        assert reports["own"] == reports["fitted"]
        assert (own.total_steps, own.sequential_steps) == (steps, steps)

    def test_step_goes_beyond_the_recipe(self):
        run, done = new_run(steps=2), []
        run.report = lambda *report: done.append(report)
        for number in range(4):
            run.step(loss=torch.tensor(float(number)))
        assert done == [(1, 2), (2, 2), (3, 3), (4, 4)]
        assert [row["loss"] for row in run.history] == [0, 1, 2, 3]

    def test_the_loss_of_a_step_may_be_a_number(self):
        run = new_run()
        for loss in (0.5, 2, torch.tensor(0.5, requires_grad=True), torch.tensor(0.5).numpy()):
            run.step(loss=loss)
        assert [row["loss"] for row in run.history] == [0.5, 2.0, 0.5, 0.5]

    def test_step_refuses_a_loss_that_is_not_finite(self):
        with pytest.raises(FloatingPointError, match="the loss is nan at step 1 of 6"):
            new_run().step(loss=torch.tensor(math.nan))


class TestTrainingLog:
    def test_numbers_of_any_library(self):
        run = new_run()
        trained = torch.tensor([0.5], requires_grad=True)
        run.log(a=1, b=np.float32(0.5), c=trained, d=np.ones((1, 1)), e=True, f=Fraction(1, 4))
        assert run.history == [{"a": 1.0, "b": 0.5, "c": 0.5, "d": 1.0, "e": 1.0, "f": 0.25}]
        assert all(type(value) is float for value in run.history[0].values())

    @pytest.mark.parametrize(
        "value", [math.nan, -math.inf, torch.tensor(math.nan), np.float32("inf"), 10**400]
    )
    def test_a_number_that_is_not_finite_is_left_out_with_a_warning(self, value):
        run = new_run()
        with pytest.warns(UserWarning, match="run.log leaves out loss, which is ") as warned:
            run.log(step=1, loss=value)
        with pytest.warns(UserWarning, match="run.log leaves out loss, which is "):
            run.log(loss=value)
        assert run.history == [{"step": 1.0}]
        assert [warning.filename for warning in warned] == [__file__]

    def test_what_has_no_room_is_left_out_with_a_warning(self):
        run = new_run()
        with pytest.warns(UserWarning, match="leaves out m50: a row of the log has up to 50"):
            run.log(**{f"m{i}": i for i in range(51)})
        assert list(run.history[0]) == [f"m{i}" for i in range(50)]
        for i in range(999):
            run.log(i=i)
        with pytest.warns(UserWarning, match="leaves out a row: .* has up to 1000 rows"):
            run.log(i=999)
        assert len(run.history) == 1000

    @pytest.mark.parametrize("value", ["0.5", b"1", None, torch.ones(2), np.ones(0), [1], 1j])
    def test_what_is_no_number_is_refused(self, value):
        run = new_run()
        with pytest.raises(TypeError, match=r"^loss is .*; it must be a number, or a tensor or an"):
            run.log(loss=value)
        with pytest.raises(TypeError, match=r"^loss is .*; it must be a number, or a tensor or an"):
            run.step(loss=value)


class TestHead:
    def test_it_trains_on_features_only(self, model, target):
        target = replace(target, features=torch.randn(19, model.head.in_features))
        before, calls = state_of(model), []
        model.backbone.register_forward_hook(lambda *_: calls.append(1))
        run = new_run()
        assert fit_head(model, target, run) is model
        assert moved(before, model) == {"head.weight", "head.bias"}
        assert not calls
        assert run.total_steps == 6

    def test_it_equals_fit_on_a_linear_layer(self, model, target):
        """If features serve as images, without augmentation, both loops are the same."""
        features = torch.randn(19, model.head.in_features)
        other = model.copy()
        fit_head(model, replace(target, features=features), new_run())
        run = replace(new_run())
        run.transforms = type("Identity", (), {"augment": lambda self, images, _: images})()
        other.backbone = nn.Identity()
        fit(other, replace(target, images=features), run)
        assert torch.equal(model.head.weight, other.head.weight)
        assert torch.equal(model.head.bias, other.head.bias)

    def test_without_features_it_is_an_error(self, model, target):
        with pytest.raises(ValueError, match="uses_features"):
            fit_head(model, target, new_run())


class TestPredict:
    def test_all_images_are_predicted(self, model, target, monkeypatch):
        logits = predict(model, target.images, new_run())
        assert logits.shape == (19, 4)
        assert logits.dtype == torch.float32
        with torch.no_grad():
            expected = model((target.images / 255 - 0.5) / 0.25)
        torch.testing.assert_close(logits, expected)
        monkeypatch.setattr(batches, "MOST_IMAGES", 8)
        torch.testing.assert_close(predict(model, target.images, new_run()), logits)

    def test_a_prediction_does_not_depend_on_its_batch(self, model, target):
        model.train()
        logits = predict(model, target.images, new_run())
        order = torch.randperm(19)
        torch.testing.assert_close(predict(model, target.images[order], new_run()), logits[order])
        torch.testing.assert_close(predict(model, target.images[:1], new_run()), logits[:1])

    def test_it_does_not_change_the_model(self, model, target):
        before = state_of(model.train())
        predict(model, target.images, new_run())
        assert not moved(before, model)
        assert not model.training
