from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from goodfit.errors import DataError
from goodfit.techniques.loss import (
    ALL,
    Bce,
    CrossEntropy,
    Distill,
    Focal,
    Huber,
    Mae,
    Mse,
    binary_cross_entropy,
    class_weights,
    cross_entropy_sum,
    focal,
    plain,
    smoothed,
)
from tests.reference import losses as reference

EXACT = {"rtol": 1e-12, "atol": 1e-12}


def some(samples: int = 12, classes: int = 5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(samples, classes, generator=generator, dtype=torch.float64) * 3
    targets = torch.randint(0, classes, (samples,), generator=generator)
    weight = torch.rand(samples, generator=generator, dtype=torch.float64) + 0.1
    return logits, targets, weight


def mean(loss, logits, targets, weight=None):
    return loss(logits, targets, weight) / loss.weigh(targets, weight)


class TestCrossEntropy:
    @pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.4])
    @pytest.mark.parametrize("weighted", [False, True])
    @pytest.mark.parametrize("classes", [None, (0.5, 2.0, 1.0, 3.0, 0.25)])
    def test_equals_the_formula_with_smoothing_class_and_sample_weights(self, smoothing, weighted, classes):
        logits, targets, weight = some()
        kind = "none" if classes is None else "inverse"
        loss = CrossEntropy(label_smoothing=smoothing, class_weight=kind, weights=classes)
        expected = reference.weighted_mean_cross_entropy(
            logits.numpy(),
            targets.tolist(),
            weights=classes or [1.0] * 5,
            samples=weight.tolist() if weighted else None,
            smoothing=smoothing,
        )
        assert float(mean(loss, logits, targets, weight if weighted else None)) == pytest.approx(expected, rel=1e-12)

    def test_equals_the_mean_of_torch_with_class_weights_and_smoothing(self):
        logits, targets, _ = some()
        weights = (0.5, 2.0, 1.0, 3.0, 0.25)
        row = torch.tensor(weights, dtype=torch.float64)
        loss = CrossEntropy(label_smoothing=0.1, class_weight="inverse", weights=weights)
        torch.testing.assert_close(
            mean(loss, logits, targets), F.cross_entropy(logits, targets, weight=row, label_smoothing=0.1), **EXACT
        )

    def test_soft_one_hot_rows_give_what_class_indices_give_with_class_weights_too(self):
        logits, targets, weight = some()
        loss = CrossEntropy(label_smoothing=0.1, class_weight="inverse", weights=(0.5, 2.0, 1.0, 3.0, 0.25))
        rows = F.one_hot(targets, 5).double()
        torch.testing.assert_close(mean(loss, logits, rows, weight), mean(loss, logits, targets, weight), **EXACT)

    def test_soft_targets_equal_the_formula(self):
        logits, _, _ = some()
        rows = torch.softmax(logits.roll(1, 0), -1)
        expected = np.mean(
            [reference.cross_entropy(z, q, smoothing=0.2) for z, q in zip(logits.numpy(), rows.numpy(), strict=True)]
        )
        assert float(mean(CrossEntropy(label_smoothing=0.2), logits, rows)) == pytest.approx(expected, rel=1e-12)

    @pytest.mark.parametrize("weighted", [False, True])
    def test_an_ensemble_is_the_mean_over_its_members_losses(self, weighted):
        logits, targets, weight = some(samples=36)
        members = logits.view(12, 3, 5)
        targets, weight = targets[:12], weight[:12] if weighted else None
        loss = CrossEntropy(label_smoothing=0.1)
        alone = torch.stack([loss(members[:, m], targets, weight) for m in range(3)]).mean()
        torch.testing.assert_close(loss(members, targets, weight), alone, **EXACT)
        rows = F.one_hot(targets, 5).double()
        torch.testing.assert_close(loss(members, rows, weight), alone, **EXACT)

    @pytest.mark.parametrize("weighted", [False, True])
    def test_language_leaves_ignored_tokens_out_of_sum_and_weight(self, weighted):
        logits, targets, weight = some(samples=12)
        logits, targets = logits.view(4, 3, 5), targets.view(4, 3).clone()
        targets[0, 1:] = -100
        targets[3] = -100
        weight = weight[:4] if weighted else None
        per_token = (weight if weighted else torch.ones(4)).repeat_interleave(3).tolist()
        expected = reference.weighted_mean_cross_entropy(
            logits.view(-1, 5).numpy(),
            targets.view(-1).tolist(),
            weights=[1.0] * 5,
            samples=per_token,
            smoothing=0.1,
        )
        assert float(mean(CrossEntropy(label_smoothing=0.1), logits, targets, weight)) == pytest.approx(expected)

    def test_a_logit_gap_of_110_gives_110_and_not_infinity(self):
        logits = torch.tensor([[0.0, 110.0]])
        assert float(CrossEntropy()(logits, torch.tensor([0]), None)) == 110.0
        assert torch.softmax(logits, 1)[0, 0].log() == -math.inf  # what softmax and then log makes of it

    def test_softmax_before_it_cannot_go_below_1_461_with_ten_classes(self):
        perfect = torch.eye(10, dtype=torch.float64)[:1]
        assert float(CrossEntropy()(perfect, torch.tensor([0]), None)) == pytest.approx(1.4611501, abs=1e-6)

    def test_smoothing_means_eps_over_k(self):
        assert smoothed(torch.tensor([1]), 5, label_smoothing=0.1)[0].tolist() == pytest.approx(
            [0.02, 0.92, *[0.02] * 3]
        )

    def test_half_precision_logits_are_computed_in_float32(self):
        logits, targets, _ = some()
        low = logits.bfloat16()
        made = CrossEntropy()(low, targets, None)
        assert made.dtype == torch.float32
        torch.testing.assert_close(made, CrossEntropy()(low.float(), targets, None))

    def test_class_weighted_micro_batches_add_up_to_1_165_where_their_means_average_to_0_948(self):
        logits, targets = torch.zeros(4, 2, dtype=torch.float64), torch.tensor([0, 0, 0, 1])
        logits[:, 0] = torch.tensor([1.062, 1.062, 1.062, 1.893])
        loss = CrossEntropy(class_weight="inverse").for_counts([3, 1])
        pieces = (slice(0, 2), slice(2, 4))
        whole = mean(loss, logits, targets)
        summed = sum(loss(logits[p], targets[p], None) for p in pieces) / loss.weigh(targets, None)
        averaged = sum(mean(loss, logits[p], targets[p]) for p in pieces) / 2
        by_hand = reference.weighted_mean_cross_entropy(logits.numpy(), targets.tolist(), weights=[2 / 3, 2.0])
        assert float(whole) == pytest.approx(by_hand, rel=1e-12)
        assert float(summed) == pytest.approx(float(whole), rel=1e-14)
        assert float(whole) == pytest.approx(1.165, abs=5e-4)
        assert float(averaged) == pytest.approx(0.948, abs=5e-4)

    def test_the_plain_batch_has_the_bits_of_torch(self):
        logits, targets, _ = some(256, 10)
        logits = logits.float()
        for smoothing in (0.0, 0.1):
            loss = CrossEntropy(label_smoothing=smoothing)
            total = F.cross_entropy(logits, targets, reduction="sum", label_smoothing=smoothing)
            assert torch.equal(mean(loss, logits, targets), total / torch.tensor(256))
            assert loss.weigh(targets, None) == 256.0

    def test_one_logit_is_two_classes(self):
        logits, targets, weight = some(classes=1)
        targets = (weight > 0.6).long()
        expected = F.binary_cross_entropy_with_logits(logits[:, 0], targets.double())
        torch.testing.assert_close(mean(CrossEntropy(), logits, targets), expected, **EXACT)

    def test_weights_of_ones_own_are_brought_to_mean_1_and_change_nothing_by_their_scale(self):
        logits, targets, _ = some(classes=2)
        targets = targets.clamp_max(1)
        one, other = (CrossEntropy(class_weight=w).for_counts([30, 10]) for w in ((1.0, 5.0), (10.0, 50.0)))
        assert one.weights == pytest.approx(other.weights)
        assert 30 * one.weights[0] + 10 * one.weights[1] == pytest.approx(40)
        expected = reference.weighted_mean_cross_entropy(logits.numpy(), targets.tolist(), weights=[1.0, 5.0])
        assert float(mean(one, logits, targets)) == pytest.approx(expected, rel=1e-12)
        unfitted = CrossEntropy(class_weight=(1.0, 5.0))
        assert float(mean(unfitted, logits, targets)) == pytest.approx(expected, rel=1e-12)

    def test_what_the_plan_filled_in_is_taken_again_and_what_was_written_by_hand_is_refused(self):
        loss = CrossEntropy(class_weight="effective", logit_adjustment=1.0).for_counts([30, 10])
        assert loss.for_counts([30, 10]) == loss
        with pytest.raises(DataError, match=r"loss\.weights is filled in"):
            CrossEntropy(weights=(1.0, 5.0)).for_counts([30, 10])
        with pytest.raises(DataError, match=r"loss\.priors is filled in"):
            CrossEntropy(logit_adjustment=1.0, priors=(0.5, 0.5)).for_counts([30, 10])
        for made in (
            CrossEntropy(class_weight=(1.0, 2.0, 3.0)),
            Bce(pos_weight=(1.0, 2.0, 3.0)),
            Focal(alpha=(1.0, 2.0, 3.0)),
        ):
            with pytest.raises(DataError, match="3 weights for 2 classes"):
                made.for_counts([30, 10])
        with pytest.raises(DataError, match=r"loss\.weights is filled in"):
            Bce(pos_weight=2.0, weights=(1.0, 5.0)).for_counts([30, 10])

    def test_the_plain_loss_is_logged_beside_one_that_cannot_be_compared(self):
        assert plain(CrossEntropy()) is None
        assert plain(Bce()) is None
        assert plain(Mse()) is None
        for loss in (
            CrossEntropy(label_smoothing=0.1),
            CrossEntropy(logit_adjustment=1.0),
            CrossEntropy(class_weight="inverse"),
            Focal(),
            Distill(),
        ):
            assert plain(loss) == CrossEntropy()
        assert plain(Bce(pos_weight=3.0)) == Bce()

    def test_logit_adjustment_adds_the_log_priors(self):
        logits, targets, _ = some()
        counts = [50, 30, 10, 9, 1]
        loss = CrossEntropy(logit_adjustment=1.5).for_counts(counts)
        moved = logits + 1.5 * torch.tensor(counts).div(100).log()
        torch.testing.assert_close(loss(logits, targets, None), F.cross_entropy(moved, targets, reduction="sum"))

    def test_weights_that_need_the_data_say_so(self):
        logits, targets, _ = some()
        for loss in (
            CrossEntropy(class_weight="inverse"),
            CrossEntropy(logit_adjustment=1.0),
            Focal(alpha="inverse"),
        ):
            with pytest.raises(ValueError, match="for_counts"):
                loss(logits, targets, None)

    def test_its_cached_weights_serve_training_after_inference(self):
        loss = CrossEntropy(class_weight="inverse", weights=(1.0, 7.25))
        with torch.inference_mode():
            loss(torch.zeros(1, 2), torch.tensor([1]), None)
        logits = torch.zeros(1, 2, requires_grad=True)
        loss(logits, torch.tensor([1]), None).backward()
        assert logits.grad is not None


class TestBinaryCrossEntropy:
    def test_one_logit_equals_the_formula_and_torch(self):
        logits, targets, weight = some(classes=1)
        targets = (weight > 0.6).long()
        expected = sum(
            float(w) * reference.bce(z, np.array([float(y)]), positive=3.0)
            for z, y, w in zip(logits.numpy(), targets, weight, strict=True)
        )
        assert float(Bce(pos_weight=3.0)(logits, targets, weight)) == pytest.approx(expected, rel=1e-12)
        torch.testing.assert_close(
            mean(Bce(pos_weight=3.0), logits, targets),
            F.binary_cross_entropy_with_logits(logits[:, 0], targets.double(), pos_weight=torch.tensor(3.0).double()),
            **EXACT,
        )

    def test_many_logits_are_one_hot_and_equal_torch(self):
        logits, targets, _ = some()
        expected = F.binary_cross_entropy_with_logits(logits, F.one_hot(targets, 5).double())
        torch.testing.assert_close(mean(Bce(), logits, targets), expected, **EXACT)
        torch.testing.assert_close(mean(Bce(), logits, F.one_hot(targets, 5).double()), expected, **EXACT)

    def test_smoothing_is_eps_over_k_with_k_2_for_one_logit(self):
        logits, targets, _ = some(classes=1)
        rows = torch.stack([1 - targets, targets], 1).double()
        smooth = torch.full_like(logits, 0.1)  # all targets are class 0: 0.2 / 2
        expected = F.binary_cross_entropy_with_logits(logits, smooth)
        torch.testing.assert_close(mean(Bce(label_smoothing=0.2), logits, targets), expected, **EXACT)
        torch.testing.assert_close(mean(Bce(label_smoothing=0.2), logits, rows), expected, **EXACT)
        many, classes, _ = some()
        expected = F.binary_cross_entropy_with_logits(many, F.one_hot(classes, 5).double() * 0.8 + 0.04)
        torch.testing.assert_close(mean(Bce(label_smoothing=0.2), many, classes), expected, **EXACT)

    def test_balanced_positive_weight_is_negatives_over_positives(self):
        assert Bce(pos_weight="balanced").for_counts([90, 10]).weights == (10 / 90, 9.0)
        logits, _, _ = some(classes=1)
        targets = torch.ones(12, dtype=torch.int64)
        loss = Bce(pos_weight="balanced").for_counts([90, 10])
        torch.testing.assert_close(loss(logits, targets, None), Bce(pos_weight=9.0)(logits, targets, None))

    def test_members_average(self):
        logits, targets, _ = some(samples=24, classes=1)
        targets = (logits[:12, 0] > 0).long()
        members = logits.view(12, 2, 1)
        alone = (binary_cross_entropy(members[:, 0], targets) + binary_cross_entropy(members[:, 1], targets)) / 2
        torch.testing.assert_close(binary_cross_entropy(members, targets), alone, **EXACT)


class TestRegression:
    @pytest.mark.parametrize(
        ("loss", "other"),
        [(Mse(), F.mse_loss), (Mae(), F.l1_loss), (Huber(delta=0.7), lambda a, b: F.huber_loss(a, b, delta=0.7))],
        ids=["mse", "mae", "huber"],
    )
    def test_equals_torch_for_one_value_a_horizon_and_members(self, loss, other):
        values, _, weight = some(classes=3)
        targets = values.roll(1, 0)
        torch.testing.assert_close(mean(loss, values, targets), other(values, targets), **EXACT)
        torch.testing.assert_close(
            mean(loss, values[:, :1], targets[:, 0]), other(values[:, 0], targets[:, 0]), **EXACT
        )
        members = values[:, :, None]
        alone = torch.stack([other(values[:, m], targets[:, 0]) for m in range(3)]).mean()
        torch.testing.assert_close(mean(loss, members, targets[:, 0]), alone, **EXACT)
        by_hand = sum(w * other(v, t) for v, t, w in zip(values, targets, weight, strict=True)) / weight.sum()
        torch.testing.assert_close(mean(loss, values, targets, weight), by_hand, **EXACT)

    def test_huber_equals_the_formula_on_both_sides_of_delta(self):
        errors = [-3.0, -0.5, 0.0, 0.5, 0.7, 2.0]
        made = Huber(delta=0.7)(torch.tensor(errors, dtype=torch.float64)[:, None], torch.zeros(6).double(), None)
        assert float(made) == pytest.approx(sum(reference.huber(e, 0.7) for e in errors))


class TestFocal:
    def test_equals_the_formula_with_alpha_outside(self):
        logits, targets, _ = some()
        alpha = (1.0, 2.0, 0.5, 1.0, 0.5)
        expected = [
            reference.focal(z, int(y), gamma=2.0, alpha=alpha) for z, y in zip(logits.numpy(), targets, strict=True)
        ]
        made = focal(logits, targets, gamma=2.0, alpha=alpha)
        torch.testing.assert_close(made, torch.tensor(expected, dtype=torch.float64), **EXACT)
        rows = F.one_hot(targets, 5).double()
        torch.testing.assert_close(focal(logits, rows, gamma=2.0, alpha=alpha), made, **EXACT)

    def test_gamma_zero_is_cross_entropy(self):
        logits, targets, weight = some()
        torch.testing.assert_close(
            Focal(gamma=0)(logits, targets, weight), CrossEntropy()(logits, targets, weight), **EXACT
        )

    def test_one_logit_is_two_classes(self):
        logits, targets, _ = some(classes=1)
        targets = (logits[:, 0] > 1).long()
        two = torch.cat([torch.zeros_like(logits), logits], 1)
        torch.testing.assert_close(focal(logits, targets), focal(two, targets), **EXACT)
        torch.testing.assert_close(focal(logits, targets.double()), focal(two, targets), **EXACT)

    def test_raw_one_over_count_weights_do_not_shrink_it(self):
        counts = [9000, 1000]
        raw = Focal(alpha=(1 / 9000, 1 / 1000)).for_counts(counts)
        assert raw.weights is not None
        assert sum(w * n for w, n in zip(raw.weights, counts, strict=True)) / 10_000 == pytest.approx(1.0)
        scaled = Focal(alpha=(1000 / 9000, 1.0)).for_counts(counts)
        assert scaled.weights == pytest.approx(raw.weights)
        assert Focal(alpha="inverse").for_counts(counts).weights == pytest.approx(raw.weights)
        logits, targets = torch.zeros(10, 2), torch.tensor([0] * 9 + [1])
        plain, weighed = Focal()(logits, targets, None), raw(logits, targets, None)
        assert float(weighed) == pytest.approx(float(plain))

    @pytest.mark.parametrize(("gap", "times"), [(0.0, 500), (-6.0, 900)])
    def test_raw_weights_shrink_the_plain_function_hundreds_of_times(self, gap, times):
        # 900 common and 100 rare samples; with the gap the common class bears the loss.
        targets = torch.tensor([0] * 900 + [1] * 100)
        logits = torch.tensor([[gap, 0.0]], dtype=torch.float64).expand(1000, 2)
        counts = (1 / 900, 1 / 100)
        ratio = focal(logits, targets).mean() / focal(logits, targets, alpha=counts).mean()
        assert float(ratio) == pytest.approx(times, rel=1e-3)
        ce = (F.cross_entropy(logits, targets, weight=torch.tensor(w).double()) for w in (counts, (1.0, 9.0)))
        torch.testing.assert_close(*ce)  # where the mean divides by the weights, their scale cancels

    def test_alpha_without_counts_has_mean_1_over_classes(self):
        logits, targets, _ = some(classes=2)
        expected = focal(logits, targets, alpha=(0.5, 1.5)).sum()
        torch.testing.assert_close(Focal(alpha=(1.0, 3.0))(logits, targets, None), expected)
        torch.testing.assert_close(Focal(alpha=0.75)(logits, targets, None), expected)

    def test_binary_focal_equals_torchvision_up_to_the_scale_of_alpha(self):
        ops = pytest.importorskip("torchvision.ops", reason="torchvision is the other implementation")
        logits, _, weight = some(classes=1)
        targets = (weight > 0.6).long()
        expected = ops.sigmoid_focal_loss(logits[:, 0], targets.double(), alpha=0.25, gamma=2.0, reduction="sum")
        torch.testing.assert_close(Focal(alpha=0.25)(logits, targets, None), 2 * expected, **EXACT)
        for z, y, value in zip(logits.numpy(), targets.tolist(), focal(logits, targets, gamma=1.5), strict=True):
            assert float(value) == pytest.approx(reference.binary_focal(float(z[0]), y, gamma=1.5), rel=1e-12)

    def test_alpha_of_another_length_than_the_classes_is_refused(self):
        with pytest.raises(DataError, match="2 weights for 3 classes"):
            Focal(alpha=(1.0, 3.0)).for_counts([1, 1, 1])

    def test_its_gradient_is_finite_at_certainty_for_every_gamma(self):
        for gamma in (0.0, 0.3, 1.0, 2.0):
            logits = torch.tensor([[200.0, 0.0], [0.0, 200.0]], requires_grad=True)
            focal(logits, torch.tensor([0, 0]), gamma=gamma).sum().backward()
            assert torch.isfinite(logits.grad).all()

    def test_gradient_equals_finite_differences(self):
        logits, targets, _ = some(samples=4)
        assert torch.autograd.gradcheck(lambda z: focal(z, targets, gamma=1.5), logits.requires_grad_())

    def test_ignored_tokens_count_for_nothing(self):
        logits, targets, _ = some(samples=12)
        targets = targets.view(4, 3).clone()
        targets[1, 1:] = -100
        kept = targets.view(-1) != -100
        made = Focal()(logits.view(4, 3, 5), targets, None)
        torch.testing.assert_close(made, focal(logits[kept], targets.view(-1)[kept]).sum())
        assert int(Focal().weigh(targets, None)) == 10


class TestClassWeights:
    def test_inverse_is_what_scikit_learn_calls_balanced(self):
        from sklearn.utils.class_weight import compute_class_weight

        labels = np.repeat([0, 1, 2], [70, 20, 10])
        expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
        assert class_weights([70, 20, 10], "inverse") == pytest.approx(expected.tolist())

    def test_effective_numbers_keep_the_ratio_of_the_formula(self):
        made = class_weights([900, 100], "effective", beta=0.999)
        assert made[1] / made[0] == pytest.approx((1 - 0.999**900) / (1 - 0.999**100))
        assert 900 * made[0] + 100 * made[1] == pytest.approx(1000)

    def test_an_empty_class_weighs_nothing_and_breaks_nothing(self):
        for kind in ("inverse", "effective"):
            made = class_weights([5, 0, 5], kind)
            assert made == pytest.approx((1.0, 0.0, 1.0))
        loss = CrossEntropy(class_weight="inverse", logit_adjustment=1.0, label_smoothing=0.1).for_counts([5, 0, 5])
        assert torch.isfinite(loss(torch.zeros(2, 3), torch.tensor([0, 2]), None))


@settings(deadline=None, max_examples=40)
@given(
    cuts=st.lists(st.integers(0, 12), max_size=4),
    which=st.sampled_from(["cross_entropy", "weighted", "soft", "bce", "focal", "mse", "language"]),
    weighted=st.booleans(),
)
def test_sums_and_weights_of_any_pieces_add_up_to_those_of_the_whole(cuts, which, weighted):
    logits, targets, weight = some()
    loss = {
        "cross_entropy": CrossEntropy(label_smoothing=0.1),
        "weighted": CrossEntropy(class_weight="inverse", weights=(0.5, 2.0, 1.0, 3.0, 0.25)),
        "soft": CrossEntropy(class_weight="inverse", weights=(0.5, 2.0, 1.0, 3.0, 0.25)),
        "bce": Bce(pos_weight=2.0),
        "focal": Focal(alpha=(1.0, 2.0, 3.0, 4.0, 5.0)),
        "mse": Mse(),
        "language": CrossEntropy(),
    }[which]
    if which == "soft":
        targets = torch.softmax(logits.roll(1, 0), -1)
    if which == "mse":
        targets = logits.roll(1, 0)
    if which == "language":
        logits = logits[:, None].expand(12, 4, 5)
        targets = torch.where(torch.arange(48).view(12, 4) % 5 == 0, -100, targets[:, None])
    edges = [0, *sorted(cuts), 12]
    parts = [slice(a, b) for a, b in itertools.pairwise(edges) if b > a]
    v = weight if weighted else None
    total = sum(loss(logits[p], targets[p], None if v is None else v[p]) for p in parts)
    weigh = sum(float(loss.weigh(targets[p], None if v is None else v[p])) for p in parts)
    torch.testing.assert_close(total, loss(logits, targets, v), **EXACT)
    assert weigh == pytest.approx(float(loss.weigh(targets, v)), rel=1e-12)


@pytest.mark.parametrize("loss", [cls() for cls in ALL], ids=lambda loss: loss.name)
def test_a_batch_of_one_works_and_is_a_scalar(loss):
    classes = isinstance(loss, CrossEntropy | Focal | Bce | Distill)
    logits = torch.randn(1, 2 if classes else 1)
    targets = torch.tensor([1]) if classes else torch.tensor([0.5])
    told = (torch.randn(1, 2),) if isinstance(loss, Distill) else ()
    assert loss(logits, targets, None, *told).shape == ()
    assert float(loss.weigh(targets, None)) == 1.0


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: CrossEntropy(label_smoothing=1.0), "less than 1"),
        (lambda: CrossEntropy(label_smoothing=-0.1), "greater than or equal to 0"),
        (lambda: CrossEntropy(class_weight="equal"), "'none', 'inverse' or 'effective'"),
        (lambda: Bce(pos_weight=0.0), "greater than 0"),
        (lambda: Huber(delta=-1.0), "greater than 0"),
        (lambda: Focal(gamma=-1.0), "greater than or equal to 0"),
        (lambda: Focal(alpha=(1.0,)), "at least 2"),
        (lambda: Focal(alpha=1.5), "less than 1"),
        (lambda: Distill(hard_weight=1.5), "less than or equal to 1"),
        (lambda: Distill(temperature=0.0), "greater than 0"),
        (lambda: Focal(smoothing=0.1), "Unexpected keyword"),
    ],
)
def test_settings_out_of_range_are_refused_with_the_range(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_the_plain_function_works_in_any_loop():
    logits, targets, _ = some()
    torch.testing.assert_close(cross_entropy_sum(logits, targets), F.cross_entropy(logits, targets, reduction="sum"))
