"""Claims on what keeps a net from learning by heart: mixing, smoothing, dropout, stopping, augmentation, balance."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from bench.claims import sources
from bench.claims.claim import Claim, Finding
from bench.claims.place import CNN, Place
from goodfit.studies import Arm

CIFAR = "CIFAR-10, 1,600 images at 16x16 for training, 1,000 that judge"
DIGITS = "digits, 898 images for training, 479 that judge"
ROOMY: Mapping[str, Any] = {"data.valid": 0.4, "data.test": 0.1}
"""More rows of an embedded set to judge by, fewer to train on."""
SMALL_CIFAR: Mapping[str, Any] = {**CNN, "epochs": 15, "optimizer.name": "adamw", "optimizer.lr": 3e-3}
SMALL_DIGITS: Mapping[str, Any] = {**CNN, **ROOMY, "epochs": 15, "optimizer.name": "adamw", "optimizer.lr": 3e-3}


def _on_both(place: Place, name: str, patch: Mapping[str, Any]) -> list[Finding]:
    """A technique against nothing by accuracy and calibration, on CIFAR-10 and on digits."""
    found = []
    for data, source, recipe in (
        ("CIFAR-10", sources.cifar(place.folder), SMALL_CIFAR),
        ("digits", "digits", SMALL_DIGITS),
    ):
        runs = place.pairs(place.study(name, source, recipe), [Arm("none"), Arm(name, patch)])
        for metric, says in (("accuracy", "more"), ("ece", "less")):
            found.append(runs.finding(f"{name} - none, {data}", name, "none", metric, says, 0.005))  # type: ignore[arg-type]
    return found


def mixup(place: Place) -> list[Finding]:
    return _on_both(place, "mixup", {"batch.mixup": True, "batch.mixup.alpha": 0.2})


def label_smoothing(place: Place) -> list[Finding]:
    return _on_both(place, "label_smoothing", {"loss.label_smoothing": 0.1})


def dropout(place: Place) -> list[Finding]:
    recipe = {**ROOMY, "model.name": "mlp", "model.width": 128, "model.depth": 2, "model.norm": "none",
              "batch_size": 32, "epochs": 40, "optimizer.name": "adamw", "optimizer.lr": 1e-3}  # fmt: skip
    arms = [Arm(f"p={p}", {"model.dropout": p}) for p in (0.0, 0.2, 0.5)]
    runs = place.pairs(place.study("dropout", "digits", recipe, rows=range(300)), arms)
    return [
        runs.finding(f"dropout {p} - none", f"p={p}", "p=0.0", metric, says, matters)  # type: ignore[arg-type]
        for p in (0.2, 0.5)
        for metric, says, matters in (("accuracy", "more", 0.005), ("log_loss", "less", 0.01))
    ]


def early_stopping(place: Place) -> list[Finding]:
    recipe = {"model.name": "mlp", "model.width": 128, "model.depth": 2, "model.norm": "none", "model.dropout": 0.0,
              "batch_size": 64, "epochs": 30, "optimizer.name": "adamw", "optimizer.lr": 1e-3,
              "schedule.name": "constant"}  # fmt: skip
    stop = {"stopping.name": "patience", "stopping.patience": "5 epochs"}
    arms = [Arm("to the end"), Arm("early stopping", stop)]
    found = []
    for data, source in (("CIFAR-10", sources.cifar(place.folder)),):
        runs = place.pairs(place.study("early-stopping", source, recipe), arms)
        for metric, says, matters in (("log_loss", "less", 0.02), ("accuracy", "more", 0.005)):
            found.append(
                runs.finding(f"early stopping - to the end, {data}", arms[1].name, arms[0].name, metric, says, matters)  # type: ignore[arg-type]
            )
    return found


def imbalance(place: Place) -> list[Finding]:
    recipe = {"data.target": "calcification", "data.valid": 0.3, "data.test": 0.1, "model.name": "mlp",
              "model.width": 64, "model.depth": 2, "model.dropout": 0.0, "batch_size": 256, "epochs": 8,
              "optimizer.name": "adamw", "optimizer.lr": 3e-3, "task.threshold": "none"}  # fmt: skip
    arms = [
        Arm("plain"),
        Arm("class weights", {"loss.class_weight": "inverse"}),
        Arm("oversampling", {"sampling.name": "balanced"}),
        Arm("focal", {"loss.name": "focal", "loss.gamma": 2.0}),
    ]
    study = place.study("imbalance", place.folder / "tabular" / "mammography.csv", recipe)
    runs = place.pairs(study, arms)
    names = [arm.name for arm in arms[1:]]
    return [
        *(runs.finding(f"{n} - plain", n, "plain", "balanced_accuracy", "more", 0.01) for n in names),
        *(runs.finding(f"{n} - plain", n, "plain", "average_precision", "more", 0.01) for n in names),
        runs.finding("focal - class weights", "focal", "class weights", "average_precision", "more", 0.01),
        runs.finding(
            "oversampling - class weights",
            "oversampling",
            "class weights",
            "average_precision",
            "equal",
            0.02,
            control=True,
        ),
    ]


def augmentation_ladder(place: Place) -> list[Finding]:
    steps = (
        ("flip and crop", {"batch.flip": True, "batch.crop": True}),
        ("colour jitter", {"batch.colour_jitter": True}),
        ("erasing", {"batch.erasing": True}),
        ("mixup", {"batch.mixup": True}),
        ("AutoAugment", {"batch.auto_augment": True, "batch.auto_augment.policy": "cifar10"}),
    )
    arms, on = [Arm("none")], {}
    for name, patch in steps:
        on = {**on, **patch}
        arms.append(Arm(f"+ {name}", dict(on)))
    runs = place.pairs(place.study("augmentation-ladder", sources.cifar(place.folder), SMALL_CIFAR), arms)
    found = [
        runs.finding(f"'{upper.name}' - '{lower.name}'", upper.name, lower.name, "accuracy", "more", 0.005)
        for lower, upper in pairwise(arms)
    ]
    return [*found, runs.finding("whole ladder - none", arms[-1].name, "none", "accuracy", "more", 0.005)]


CLAIMS = (
    Claim(
        name="mixup",
        title="Mixup",
        words="Training on weighted means of two samples gains 1 to 2 points of accuracy on images, and makes a net "
        "less sure of itself where it is wrong.",
        origin="row 71; training techniques, Q1 and Q3",
        data=f"{CIFAR}; {DIGITS}",
        how="a small cnn, AdamW, cosine, no other augmentation; mixup with alpha 0.2 against none",
        measure=mixup,
        needs=("cifar10/train.parquet",),
        minutes=2.5,
    ),
    Claim(
        name="label-smoothing",
        title="Label smoothing",
        words="Softening the targets by 0.1 gains half a point to a point of accuracy and calibrates.",
        origin="row 19; training techniques, Q5; training CNNs, Q8",
        data=f"{CIFAR}; {DIGITS}",
        how="as for mixup; label smoothing 0.1 against 0",
        measure=label_smoothing,
        needs=("cifar10/train.parquet",),
        minutes=2.5,
        note="Calibration as the outputs come, without a fitted temperature.",
    ),
    Claim(
        name="dropout",
        title="Dropout",
        words="Leaving out a share of 0.2 to 0.5 of the units at random while training reduces overfitting.",
        origin="row 35; training techniques, Q7; foundations, Q8",
        data="digits, 300 images for training, 479 that judge",
        how="an MLP of two layers of 128, 40 epochs; dropout 0.2 and 0.5 against none",
        measure=dropout,
        minutes=1,
    ),
    Claim(
        name="early-stopping",
        title="Early stopping",
        words="Stopping when the validation value no longer becomes better, and keeping the best weights, prevents "
        "overfitting.",
        origin="row 37; training CNNs, Q9; foundations, Q13 and Q18",
        data=CIFAR,
        how="an MLP of two layers of 128, constant rate, 30 epochs; patience of 5 epochs and the best weights "
        "against "
        "the last weights of the whole run",
        measure=early_stopping,
        needs=("cifar10/train.parquet",),
        minutes=1,
    ),
    Claim(
        name="imbalance",
        title="Class weights, oversampling, focal loss",
        words="Weights by class, showing rare classes more often, or the focal loss help where classes are unequal; "
        "the focal loss most.",
        origin="rows 18, 81 to 83; training techniques, Q9",
        data="mammography, 6,700 rows for training of which 2.3 % are positive, 2,237 that judge",
        how="an MLP of two layers of 64; inverse class weights, balanced sampling and focal loss (gamma 2) against "
        "plain "
        "cross-entropy; threshold 0.5",
        measure=imbalance,
        needs=("tabular/mammography.csv",),
        note="Balanced accuracy depends on the threshold, average precision does not: what moves only the first "
        "could "
        "be had by moving the threshold. Copies of rows fall on both sides of the split, for all arms alike.",
    ),
    Claim(
        name="augmentation-ladder",
        title="The augmentation ladder",
        words="Flip and crop, then colour jitter, then erasing, then mixing, then AutoAugment: each rung adds "
        "accuracy.",
        origin="rows 68 to 74; training techniques, Q3",
        data=CIFAR,
        how="a small cnn, 15 epochs; each rung against the rung below, and the whole ladder against none",
        measure=augmentation_ladder,
        pairs=6,
        minutes=3,
        needs=("cifar10/train.parquet",),
        note="Fifteen epochs and a small net are the conditions under which strong augmentation is known to cost more "
        "than it gives.",
    ),
)
