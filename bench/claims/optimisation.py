"""Claims on optimizers, rates and batch sizes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from bench.claims import sources
from bench.claims.claim import Claim, Finding
from bench.claims.place import CNN, Place
from bench.claims.regularisation import CIFAR, DIGITS, ROOMY
from goodfit.studies import Arm

SGD: Mapping[str, Any] = {"optimizer.name": "sgd", "optimizer.momentum": 0.9, "optimizer.weight_decay": 0.0}
CHANCE = 0.1


def warmup(place: Place) -> list[Finding]:
    """Small and large batches, at the rate of the linear rule from the same base and at three times that."""
    recipe = {**CNN, **SGD, "epochs": 12, "nonfinite": "skip"}
    base, arms = 0.05, []
    for batch in (60, 600):
        for times in (1, 3):
            for name, warm in (("none", "0 steps"), ("warm-up", "20%")):
                patch = {"batch_size": batch, "optimizer.lr": base * times * batch / 60, "schedule.warmup": warm}
                arms.append(Arm(f"{name}, batch {batch}, {times}x", patch))
    runs = place.pairs(place.study("warmup-large-batch", sources.cifar(place.folder), recipe), arms)
    return [
        runs.finding(
            f"warm-up - none, batch {batch}, {times} times the rate by the linear rule",
            f"warm-up, batch {batch}, {times}x",
            f"none, batch {batch}, {times}x",
            "accuracy",
            "more",
            0.005,
            failed=CHANCE,
            control=batch == 60,
        )
        for batch in (600, 60)
        for times in (1, 3)
    ]


def adamw(place: Place) -> list[Finding]:
    """Both tune their decay over as many values: decoupled decay needs others than L2 in the gradient."""
    recipe = {**CNN, "epochs": 15, "optimizer.lr": 3e-3}
    study = place.study("adamw-or-l2", sources.cifar(place.folder), recipe)
    key = "optimizer.weight_decay"
    (decoupled,) = place.tuned(study, {"AdamW": {"optimizer.name": "adamw"}}, key, (0.01, 0.1, 1.0, 3.0))
    (coupled,) = place.tuned(study, {"Adam with L2": {"optimizer.name": "adam"}}, key, (1e-4, 1e-3, 1e-2, 3e-2))
    none = Arm("Adam, no decay", {"optimizer.name": "adam", key: 0.0})
    runs = place.pairs(study, [decoupled, coupled, none], names=("AdamW", "L2", "none"))
    what = f"{decoupled.name} - {coupled.name}".replace("optimizer.", "")
    return [
        runs.finding(what, "AdamW", "L2", "accuracy", "more", 0.005),
        runs.finding(what, "AdamW", "L2", "log_loss", "less", 0.02),
        runs.finding("AdamW - Adam without decay", "AdamW", "none", "accuracy", "more", 0.005, control=True),
    ]


def adam_or_sgd(place: Place) -> list[Finding]:
    found = []
    for data, source, recipe in (
        ("CIFAR-10", sources.cifar(place.folder), {**CNN, "epochs": 15}),
        ("digits", "digits", {**CNN, **ROOMY, "epochs": 12}),
    ):
        study = place.study("adam-or-sgd", source, recipe)
        key = "optimizer.lr"
        (adam,) = place.tuned(study, {"Adam": {"optimizer.name": "adam"}}, key, (3e-4, 1e-3, 3e-3, 1e-2, 3e-2))
        (sgd,) = place.tuned(study, {"SGD": dict(SGD)}, key, (3e-3, 1e-2, 3e-2, 0.1, 0.3))
        runs = place.pairs(study, [adam, sgd], names=("Adam", "SGD"))
        what = f"{adam.name} - {sgd.name}, {data}".replace("optimizer.", "")
        found += [
            runs.finding(what, "Adam", "SGD", "accuracy", "less", 0.005),
            runs.finding(what, "Adam", "SGD", "log_loss", "more", 0.02),
        ]
    return found


def batch_scaling(place: Place) -> list[Finding]:
    """The rate of batch 32 is tuned for each optimizer; batch 256 then follows it by each rule."""
    found = []
    study = place.study("batch-scaling", sources.cifar(place.folder), {**CNN, "epochs": 10, "batch_size": 32})
    for name, patch, rates, says in (
        ("SGD", dict(SGD), (0.01, 0.03, 0.1), "more"),
        ("Adam", {"optimizer.name": "adam"}, (1e-3, 3e-3, 1e-2), "less"),
    ):
        (base,) = place.tuned(study, {name: patch}, "optimizer.lr", rates)
        lr = float(base.patch["optimizer.lr"])
        arms = [
            Arm(f"{name} {rule}", {**patch, "batch_size": 256, "optimizer.lr": lr * 8**power})
            for rule, power in (("linear", 1.0), ("sqrt", 0.5), ("same rate", 0.0))
        ]
        runs = place.pairs(study, [base, *arms], names=("base", "linear", "sqrt", "same"))
        where = f"{name}, batch 256, rate {lr:g} at batch 32"
        found += [
            runs.finding(f"linear - square root, {where}", "linear", "sqrt", "accuracy", says, 0.005, failed=CHANCE),  # type: ignore[arg-type]
            runs.finding(
                f"linear - batch 32 itself, {where}",
                "linear",
                "base",
                "accuracy",
                "equal",
                0.02,
                failed=CHANCE,
                control=True,
            ),
            runs.finding(
                f"square root - batch 32 itself, {where}",
                "sqrt",
                "base",
                "accuracy",
                "equal",
                0.02,
                failed=CHANCE,
                control=True,
            ),
            runs.finding(
                f"square root - rate left as it is, {where}",
                "sqrt",
                "same",
                "accuracy",
                "more",
                0.005,
                failed=CHANCE,
                control=True,
            ),
        ]
    return found


def batchnorm_rate(place: Place) -> list[Finding]:
    """The highest rate of a ladder at which a run still reaches four fifths of its net's best, chance taken off."""
    recipe = {**CNN, **SGD, **ROOMY, "model.depth": 3, "model.convs": 2, "epochs": 5, "nonfinite": "skip"}
    rates = [0.024 * 2**k for k in range(7)]
    study = place.study("batchnorm-rate", "digits", recipe)
    arms = [
        Arm(f"{norm} {rate:g}", {"model.norm": norm, "optimizer.lr": rate})
        for norm in ("batch", "none")
        for rate in rates
    ]
    runs = place.pairs(study, arms)
    highest: dict[str, list[float]] = {"batch": [], "none": []}
    best: dict[str, list[float]] = {"batch": [], "none": []}
    for norm in highest:
        values = [runs.values(f"{norm} {rate:g}", "accuracy", failed=CHANCE) for rate in rates]
        for seed in range(len(values[0])):
            column = [one[seed] for one in values]
            enough = CHANCE + 0.8 * (max(column) - CHANCE)
            best[norm].append(max(column))
            highest[norm].append(math.log10(max(r for r, v in zip(rates, column, strict=True) if v >= enough)))
    step = math.log10(2)
    return [
        Finding(
            "with batch norm - without",
            "log10 of the highest usable rate",
            highest["batch"],
            highest["none"],
            "more",
            step,
            step,
        ),
        Finding(
            "with batch norm - without, each at its best rate",
            "accuracy",
            best["batch"],
            best["none"],
            "more",
            0.005,
            control=True,
        ),
    ]


CLAIMS = (
    Claim(
        name="warmup-large-batch",
        title="Warm-up with large batches",
        words="A rate that climbs from nothing at the start is needed where batches, and with them the rate, are "
        "large.",
        origin="row 57; training techniques, Q6; foundations, Q15",
        data=CIFAR,
        how="a small cnn with batch norm, SGD with momentum, 12 epochs; warm-up over 20 % of the steps against "
        "none, at "
        "batch 600 and (for contrast) 60, with rates by the linear rule from 0.05 at batch 60, and three times that",
        measure=warmup,
        pairs=6,
        minutes=2.5,
        needs=("cifar10/train.parquet",),
    ),
    Claim(
        name="adamw-or-l2",
        title="AdamW against Adam with L2",
        words="Taking weight decay out of Adam's gradient generalises better than an L2 penalty in it.",
        origin="rows 27 and 34; foundations, Q14",
        data=CIFAR,
        how="a small cnn, 15 epochs at rate 0.003; both with the best of four decays, chosen by one run each on "
        "rows that "
        "do not judge",
        measure=adamw,
        minutes=2,
        needs=("cifar10/train.parquet",),
    ),
    Claim(
        name="adam-or-sgd",
        title="Adam against SGD",
        words="Adam generalises slightly worse than SGD with momentum.",
        origin="row 30; training CNNs, Q5; foundations, Q11",
        data=f"{CIFAR}; {DIGITS}",
        how="a small cnn, cosine; both with the best of five rates, chosen by one run each on rows that do not judge",
        measure=adam_or_sgd,
        minutes=2.5,
        needs=("cifar10/train.parquet",),
    ),
    Claim(
        name="batch-scaling",
        title="Linear against square-root scaling",
        words="With k times the batch the rate should grow k times (for SGD) or by the root of k (for Adam); texts "
        "give "
        "either rule for everything.",
        origin="row 63 and contradiction M3; training CNNs, Q7; foundations, Q16; reference tables",
        data=CIFAR,
        how="a small cnn, 10 epochs; the rate is the best of three at batch 32, then batch 256 by both rules",
        measure=batch_scaling,
        pairs=6,
        minutes=3,
        needs=("cifar10/train.parquet",),
    ),
    Claim(
        name="batchnorm-rate",
        title="Batch norm and the usable rate",
        words="Batch normalisation allows higher learning rates.",
        origin="row 41; training CNNs, Q4; foundations, Q5",
        data=DIGITS,
        how="a cnn of six convolutions with and without batch norm, SGD with momentum, 5 epochs at seven rates from "
        "0.024 "
        "to 1.5, each twice the last; usable is what reaches four fifths of the net's own best",
        measure=batchnorm_rate,
        pairs=6,
        minutes=2.5,
    ),
)
