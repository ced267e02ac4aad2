from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from goodfit.techniques.distill import Distill, distillation_sum, mean_logits
from goodfit.techniques.gradient import Accumulate, Plain
from goodfit.types import Batch
from tests.reference import losses as reference

EXACT = {"rtol": 1e-12, "atol": 1e-12}


def some(samples=12, classes=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (torch.randn(samples, classes, generator=generator, dtype=torch.float64) * 3 for _ in range(2))
    targets = torch.randint(0, classes, (samples,), generator=generator)
    weight = torch.rand(samples, generator=generator, dtype=torch.float64) + 0.1
    return student, teacher, targets, weight


@pytest.mark.parametrize("temperature", [1.0, 3.0, 20.0])
@pytest.mark.parametrize("hard_weight", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_it_equals_the_formula(temperature, hard_weight, weighted):
    student, teacher, targets, weight = some()
    v = weight if weighted else torch.ones(12).double()
    expected = sum(
        float(w) * reference.distillation(z, q, int(y), hard_weight=hard_weight, temperature=temperature)
        for z, q, y, w in zip(student.numpy(), teacher.numpy(), targets, v, strict=True)
    )
    loss = Distill(hard_weight=hard_weight, temperature=temperature)
    made = loss(student, targets, weight if weighted else None, teacher)
    assert float(made) == pytest.approx(expected, rel=1e-12)
    assert float(loss.weigh(targets, weight if weighted else None)) == pytest.approx(float(v.sum()))


def test_the_mean_of_its_soft_part_is_torchs_batchmean_times_t_squared():
    student, teacher, targets, _ = some()
    expected = 9 * F.kl_div((student / 3).log_softmax(1), (teacher / 3).softmax(1), reduction="batchmean")
    loss = Distill(hard_weight=0.0, temperature=3.0)
    torch.testing.assert_close(loss(student, targets, None, teacher) / loss.weigh(targets, None), expected, **EXACT)


def test_probabilities_9_05_05_soften_to_57_22_22_at_temperature_3():
    z = np.log([0.9, 0.05, 0.05])
    assert reference.softmax(z / 3).round(2).tolist() == [0.57, 0.22, 0.22]
    # A student that says just that at T = 3 has nothing left to learn from this teacher.
    student = 3 * torch.tensor([[0.5671, 0.21645, 0.21645]], dtype=torch.float64).log()
    made = distillation_sum(student, torch.from_numpy(z)[None], torch.tensor([0]), hard_weight=0.0)
    assert abs(float(made)) < 1e-6


def test_the_gradient_is_t_times_the_difference_of_probabilities_and_none_reaches_the_teacher():
    student, teacher, targets, _ = some()
    student.requires_grad_()
    teacher.requires_grad_()
    distillation_sum(student, teacher, targets, hard_weight=0.0, temperature=4.0).backward()
    expected = 4 * ((student / 4).softmax(1) - (teacher / 4).softmax(1))
    torch.testing.assert_close(student.grad, expected.detach(), **EXACT)
    assert teacher.grad is None


def test_at_a_high_temperature_the_soft_part_is_the_squared_distance_of_centred_logits():
    student, teacher, targets, _ = some()
    made = distillation_sum(student, teacher, targets, hard_weight=0.0, temperature=1e4)
    apart = (student - student.mean(1, keepdim=True)) - (teacher - teacher.mean(1, keepdim=True))
    assert float(made) == pytest.approx(float(apart.square().sum()) / (2 * 5), rel=1e-3)


def test_mixed_targets_are_the_hard_parts():
    student, teacher, targets, _ = some()
    rows = 0.7 * F.one_hot(targets, 5).double() + 0.3 * F.one_hot(targets.roll(1), 5).double()
    soft = distillation_sum(student, teacher, targets, hard_weight=0.0)
    expected = 0.4 * F.cross_entropy(student, rows, reduction="sum") + 0.6 * soft
    torch.testing.assert_close(distillation_sum(student, teacher, rows, hard_weight=0.4), expected, **EXACT)


def test_members_learn_alone_and_teach_by_their_mean_probability():
    student, teacher, targets, weight = some(samples=36)
    members, taught = student.view(12, 3, 5), teacher.view(12, 3, 5)
    targets, weight = targets[:12], weight[:12]
    mean = taught.softmax(-1).mean(1).log()
    torch.testing.assert_close(mean_logits(taught), mean, **EXACT)
    alone = torch.stack([distillation_sum(members[:, m], mean, targets, weight) for m in range(3)]).mean()
    torch.testing.assert_close(distillation_sum(members, taught, targets, weight), alone, **EXACT)
    torch.testing.assert_close(distillation_sum(members, mean, targets, weight), alone, **EXACT)


def test_one_logit_is_two_classes_on_either_side():
    student, teacher, _, weight = some(classes=1)
    targets = (weight > 0.6).long()
    two = [torch.cat([torch.zeros_like(z), z], 1) for z in (student, teacher)]
    expected = distillation_sum(two[0], two[1], targets)
    for z in (student, two[0]):
        for q in (teacher, two[1]):
            torch.testing.assert_close(distillation_sum(z, q, targets), expected, **EXACT)


@pytest.mark.parametrize("weighted", [False, True])
def test_language_counts_tokens_and_leaves_ignored_ones_out(weighted):
    student, teacher, targets, weight = some()
    targets = targets.view(4, 3).clone()
    targets[1, 1:] = -100
    kept, v = targets.view(-1) != -100, weight[:4] if weighted else None
    per_token = None if v is None else v.repeat_interleave(3)[kept]
    expected = distillation_sum(student[kept], teacher[kept], targets.view(-1)[kept], per_token)
    made = distillation_sum(student.view(4, 3, 5), teacher.view(4, 3, 5), targets, v)
    torch.testing.assert_close(made, expected, **EXACT)
    if not weighted:
        assert int(Distill().weigh(targets, None)) == 10


def test_half_precision_logits_are_computed_in_float32():
    student, teacher, targets, _ = some()
    made = distillation_sum(student.bfloat16(), teacher.bfloat16(), targets)
    assert made.dtype == torch.float32
    torch.testing.assert_close(made, distillation_sum(student.bfloat16().float(), teacher.bfloat16().float(), targets))


def test_micro_batches_give_the_gradient_of_the_whole_batch():
    _, teacher, targets, weight = some()
    inputs = torch.randn(12, 4, dtype=torch.float64)
    batch, loss = Batch(inputs, targets, weight, torch.arange(12)), Distill()
    grads = []
    for technique in (Plain(), Accumulate(microbatch=5)):
        torch.manual_seed(0)
        model = nn.Linear(4, 5, dtype=torch.float64)

        def backward(piece, model=model):
            share = loss(model(piece.inputs), piece.targets, piece.weight, teacher[piece.index]) / weight.sum()
            share.backward()
            return share.detach()

        technique(backward, batch, parameters=list(model.parameters()))
        grads.append(model.weight.grad)
    torch.testing.assert_close(grads[0], grads[1], **EXACT)


def test_a_loss_without_the_factor_t_squared_converts_as_its_page_says():
    student, teacher, targets, _ = some()
    hard = F.cross_entropy(student, targets, reduction="sum")
    soft = F.kl_div((student / 5).log_softmax(1), (teacher / 5).softmax(1), reduction="sum")
    a, b = 0.1, 1.0
    with_factor = distillation_sum(student, teacher, targets, hard_weight=a / (a + b), temperature=5.0)
    torch.testing.assert_close((a + b) * with_factor, a * hard + b * 25 * soft, **EXACT)
    without = distillation_sum(student, teacher, targets, hard_weight=a / (a + b / 25), temperature=5.0)
    torch.testing.assert_close((a + b / 25) * without, a * hard + b * soft, **EXACT)
