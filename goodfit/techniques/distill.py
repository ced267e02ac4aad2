"""Distillation: a small model learns what a large one says of each sample, not only which class is right."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from goodfit.technique import Positive, Share, technique
from goodfit.techniques.loss_sums import IGNORED, cross_entropy_sum, full, two_outputs, weigh_classes


@technique("loss")
class Distill:
    """Learn from a trained model, the teacher: its probabilities say which wrong classes are nearly right.

    Formula: ``h CE(y, p) + (1 - h) T² KL(q_T || p_T)``, with ``p_T = softmax(z / T)`` of this model's logits z,
        ``q_T`` the same of the teacher's, h the ``hard_weight`` and T the ``temperature``; means over the samples
        (tokens of language), which is PyTorch's ``batchmean``. T² keeps the soft part's gradient of one size
        whatever T.
    Source: Hinton, Vinyals and Dean, 2015. The defaults are common ones, .3 and 3, and were not compared.
    Ours: the teacher is in eval mode and without gradients, runs in the run's precision and sees the same augmented
        inputs. Without batch techniques its logits are computed once for the whole training part. Mixed targets
        (mixup) are the hard part's; the teacher judges the mixed picture itself. A teacher that is an ensemble inside
        teaches by the mean of its members' probabilities; each member of such a student learns on its own. The plain
        cross-entropy is logged beside it (``train_plain_loss``).
    Keys: ``teacher`` a run's folder (``runs/digits-1``); from Python ``train(teacher=...)`` takes a module or a run;
        ``hard_weight`` 0 learns from the teacher alone, 1 is cross-entropy; ``temperature`` 1 takes its probabilities
        as they are, more shows the small ones. ``digest`` of the teacher's weights is filled in by the plan, and
        another teacher in the same place is then refused.
    Helps: a small net beside a much better large one. Hurts: a teacher trained with label smoothing, which has erased
        what it knows of the wrong classes; a teacher that has seen the validation part flatters its student there.
    Often wrong: ``hard_weight`` weights the HARD part, and others mean the soft part by a like word. torchtune's
        ``kd_ratio`` is 1 - h; Keras' ``student_loss_weight`` is h. Weights a (hard) and b (soft, with T²) that do not
        sum to 1, as AutoGluon's .1 and 1.0 at T = 5, are h = a / (a + b) with a learning rate a + b times as large;
        where the soft part lacks T², read b / T² for b. KL is from the teacher to the student, not the other way.
        Probabilities [.9, .05, .05] become [.57, .22, .22] at T = 3, not [.6, .2, .2].
    """

    teacher: str | None = None
    hard_weight: Share = 0.3
    temperature: Positive = 3.0
    digest: str | None = None

    def weigh(self, targets: Tensor, weight: Tensor | None) -> Tensor | float:
        """Number of samples (positions) that are not ignored, or the sum of their weights."""
        return weigh_classes(targets, weight)

    def __call__(self, logits: Tensor, targets: Tensor, weight: Tensor | None, teacher: Tensor) -> Tensor:
        """The weighted sum of the losses. teacher: the teacher's logits for the same inputs."""
        return distillation_sum(
            logits, teacher, targets, weight, hard_weight=self.hard_weight, temperature=self.temperature
        )


def distillation_sum(
    logits: Tensor,
    teacher: Tensor,
    targets: Tensor,
    weight: Tensor | None = None,
    *,
    hard_weight: float = 0.3,
    temperature: float = 3.0,
) -> Tensor:
    """The weighted sum of what ``Distill`` describes, a scalar; divide it by the number of samples for a mean.

    logits: as all losses take them. teacher: the other model's logits for the same inputs, in any of those shapes; no
    gradient flows into them.
    """
    logits, hard_targets = two_outputs(full(logits), targets)
    told = mean_logits(teacher.detach(), language=_is_language(logits, targets)).to(logits.dtype)
    soft_weight = (1 - hard_weight) * temperature**2
    soft = (
        soft_weight * _divergence(logits, told, targets, weight, temperature) if soft_weight else logits.new_zeros(())
    )
    if not hard_weight:
        return soft
    return hard_weight * cross_entropy_sum(logits, hard_targets, weight) + soft


def mean_logits(logits: Tensor, *, language: bool = False) -> Tensor:
    """A model's logits as ``(batch, classes)``, at least float32: members as the log of their mean probabilities.

    One logit ``z`` becomes the pair ``(0, z)``. language: logits ``(batch, length, vocabulary)`` stay as they are.
    """
    logits = full(logits)
    if logits.shape[-1] == 1:
        logits = torch.cat([torch.zeros_like(logits), logits], -1)
    if logits.dim() == 3 and not language:
        return torch.logsumexp(F.log_softmax(logits, -1), 1) - math.log(logits.shape[1])
    return logits


def _divergence(logits: Tensor, teacher: Tensor, targets: Tensor, weight: Tensor | None, temperature: float) -> Tensor:
    """The weighted sum of KL(teacher || model) at a temperature; over members their mean."""
    log_p = F.log_softmax(logits / temperature, -1)
    log_q = F.log_softmax(teacher / temperature, -1)
    members = 1
    if _is_language(logits, targets):
        kept = (targets != IGNORED).unsqueeze(-1)
        log_p, log_q = log_p * kept, log_q * kept
        # Both logarithms 0 where a token is ignored: exp(0) (0 - 0) adds nothing.
    elif logits.dim() == 3:
        members = logits.shape[1]
        log_q = log_q[:, None].expand_as(log_p)
    if weight is None:
        return F.kl_div(log_p, log_q, reduction="sum", log_target=True) / members
    each = F.kl_div(log_p, log_q, reduction="none", log_target=True).flatten(1).sum(1)
    return torch.dot(each, weight.to(each.dtype)) / members


def _is_language(logits: Tensor, targets: Tensor) -> bool:
    return logits.dim() == 3 and targets.dim() == 2 and not targets.is_floating_point()
