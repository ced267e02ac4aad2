from __future__ import annotations

import pytest
import torch
from torch import nn

from goodfit.techniques.penalty import Penalty, l2_penalty, penalised, sparsity


def weights(seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(3, 4), (4,), (2, 3, 3, 3)]
    made = [nn.Parameter(torch.randn(s, generator=generator, dtype=torch.float64)) for s in shapes]
    for p in made:
        p.grad = torch.randn(p.shape, generator=generator, dtype=torch.float64)
    return made


def test_l2_has_gradient_2_l2_w_in_both_forms_and_leaves_vectors_alone():
    made = weights()
    before = [p.grad.clone() for p in made]
    Penalty(l2=0.3).add_gradient(made)
    added = [p.grad - b for p, b in zip(made, before, strict=True)]
    assert torch.equal(added[1], torch.zeros(4, dtype=torch.float64))
    in_the_loss = torch.autograd.grad(Penalty(l2=0.3)(made), [made[0], made[2]])
    for p, a, g in zip([made[0], made[2]], [added[0], added[2]], in_the_loss, strict=True):
        torch.testing.assert_close(a, 0.6 * p.detach())
        torch.testing.assert_close(g, 0.6 * p.detach())
    expected = 0.3 * sum(float((made[i].detach() ** 2).sum()) for i in (0, 2))
    assert float(l2_penalty(made, 0.3).detach()) == pytest.approx(expected)


def test_l2_in_sgd_acts_like_twice_that_weight_decay():
    one, two = weights()[:1], weights()[:1]
    Penalty(l2=1e-2).add_gradient(one)
    torch.optim.SGD(one, lr=0.1).step()
    torch.optim.SGD(two, lr=0.1, weight_decay=2e-2).step()
    torch.testing.assert_close(one[0], two[0])


def test_l1_is_the_proximal_step_and_gives_exact_zeros():
    made = weights()
    before = [p.detach().clone() for p in made]
    Penalty(l1=2.0).after_step(made, 0.25)
    for i in (0, 2):
        expected = before[i].sign() * (before[i].abs() - 0.5).clamp_min(0)
        torch.testing.assert_close(made[i].detach(), expected)
    assert torch.equal(made[1].detach(), before[1])
    zeros = sum(int((before[i].abs() <= 0.5).sum()) for i in (0, 2)) / (12 + 54)
    assert sparsity(made) == pytest.approx(zeros)
    assert zeros > 0.1


def test_the_proximal_path_ends_at_the_lasso_of_scikit_learn_and_subgradients_give_no_zeros():
    from sklearn.linear_model import Lasso

    generator = torch.Generator().manual_seed(1)
    x = torch.randn(80, 10, generator=generator, dtype=torch.float64)
    y = x[:, :3] @ torch.tensor([2.0, -1.0, 0.5], dtype=torch.float64) + 0.1 * x[:, 9]
    lasso = Lasso(alpha=0.2, fit_intercept=False, tol=1e-12, max_iter=100_000).fit(x.numpy(), y.numpy())
    w, v = (nn.Parameter(torch.ones(1, 10, dtype=torch.float64)) for _ in range(2))
    penalty = Penalty(l1=0.2)
    for _ in range(250):
        for one in (w, v):
            one.grad = torch.autograd.grad(((x @ one[0] - y) ** 2).mean() / 2, one)[0]
        with torch.no_grad():
            w -= 0.4 * w.grad
            v -= 0.4 * (v.grad + 0.2 * v.sign())
        penalty.after_step([w], 0.4)
    assert w.detach()[0].tolist() == pytest.approx(lasso.coef_.tolist(), abs=1e-8)
    assert sparsity([w]) == (lasso.coef_ == 0).mean() > 0
    assert sparsity([v]) == 0


def test_switched_off_it_changes_nothing():
    made = weights()
    before = [(p.detach().clone(), p.grad.clone()) for p in made]
    penalty = Penalty()
    penalty.add_gradient(made)
    penalty.after_step(made, 0.1)
    assert float(penalty(made)) == 0
    assert all(torch.equal(p, w) and torch.equal(p.grad, g) for p, (w, g) in zip(made, before, strict=True))


@pytest.mark.parametrize("settings", [{"l1": -1e-3}, {"l2": -1.0}, {"l2": float("nan")}])
def test_settings_out_of_range_are_refused_with_the_range(settings):
    with pytest.raises(ValueError, match=r"greater than or equal to 0|finite"):
        Penalty(**settings)


class Small(nn.Module):
    """A matrix, its bias, a norm and a table of biases that is two-dimensional."""

    def __init__(self):
        super().__init__()
        self.linear, self.norm = nn.Linear(4, 3), nn.BatchNorm1d(3)
        self.bias = nn.Parameter(torch.zeros(2, 3))
        self.frozen = nn.Linear(3, 3)
        self.frozen.requires_grad_(False)


def test_penalties_are_for_trainable_matrices_and_filters_not_for_norms_and_biases_of_any_shape():
    model = Small()
    assert [id(p) for p in penalised(model)] == [id(model.linear.weight)]


def test_every_weight_moves_by_its_own_groups_rate():
    one, other = (nn.Parameter(torch.ones(2, 2)) for _ in range(2))
    optimizer = torch.optim.SGD([{"params": [one], "lr": 0.1}, {"params": [other], "lr": 0.5}])
    Penalty(l1=1.0).after_step([one, other], optimizer)
    torch.testing.assert_close(one.detach(), torch.full((2, 2), 0.9))
    torch.testing.assert_close(other.detach(), torch.full((2, 2), 0.5))
    Penalty(l1=1.0).after_step([one], optimizer)
    torch.testing.assert_close(other.detach(), torch.full((2, 2), 0.5))


def test_a_frozen_layer_keeps_its_weights():
    weight = nn.Parameter(torch.ones(2, 2), requires_grad=False)
    Penalty(l1=1.0).after_step([weight], 0.1)
    assert torch.equal(weight, torch.ones(2, 2))
