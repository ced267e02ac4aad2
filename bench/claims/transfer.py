"""Claims on learning from another net: transfer, unfreezing, distillation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.claims import sources
from bench.claims.claim import Claim, Finding
from bench.claims.place import CNN, Place
from bench.claims.regularisation import CIFAR
from goodfit.run import Run
from goodfit.studies import Arm

FROM, TO = (0, 1, 2, 5, 6, 8, 9), (3, 4, 7)
"""Classes of CIFAR-10: aeroplane, automobile, bird, dog, frog, ship, truck; and cat, deer, horse."""
RATES = (1e-3, 3e-3, 1e-2, 3e-2)
NET: Mapping[str, Any] = {**CNN, "model.width": 24, "optimizer.name": "adamw", "optimizer.lr": 3e-3}


def pretrained(place: Place) -> str:
    """The folder of a net trained on the other classes, the same for every pair."""
    source = sources.cifar(place.folder, classes=FROM, train=2400, valid=300)
    study = place.study("pretrained", source, {**NET, "epochs": 20, "batch.flip": True, "batch.crop": True})
    one = study.run(Arm("source"), 0, deadline=place.deadline)
    if one.status != "finished":
        raise RuntimeError(f"the net to start from failed: {one.error}")
    return str(one.folder.resolve())


def _targets(place: Place) -> Any:
    return sources.cifar(place.folder, classes=TO, train=600, valid=540)


def transfer(place: Place) -> list[Finding]:
    source, base = _targets(place), pretrained(place)
    gains: dict[int, list[float]] = {}
    found = []
    for images in (30, 120, 600):
        recipe = {**NET, "epochs": "150 steps", "batch_size": 30}
        study = place.study(f"transfer-{images}", source, recipe, rows=range(images))
        arms = {"scratch": {}, "transfer": {"model.name": f"run:{base}", "transfer.name": "full"}}
        settled = [place.tuned(study, {name: patch}, "optimizer.lr", RATES)[0] for name, patch in arms.items()]
        runs = place.pairs(study, settled, names=list(arms))
        one = runs.finding(f"transfer - scratch, {images} images", "transfer", "scratch", "accuracy", "more", 0.01)
        gains[images] = one.differences.tolist()
        found.append(one)
    pairs = min(len(one) for one in gains.values())
    found.append(
        Finding(
            "what it gains with 30 images - with 600", "accuracy", gains[30][:pairs], gains[600][:pairs], "more", 0.01
        )
    )
    return found


def unfreezing(place: Place) -> list[Finding]:
    source, base = _targets(place), pretrained(place)
    study = place.study(
        "progressive-unfreezing", source, {**NET, "epochs": "150 steps", "batch_size": 30}, rows=range(120)
    )
    start = {"model.name": f"run:{base}"}
    arms = {
        "progressive": {**start, "transfer.name": "progressive", "transfer.every": "20%"},
        "all at once": {**start, "transfer.name": "full"},
        "head only": {**start, "transfer.name": "head"},
    }
    settled = [place.tuned(study, {name: patch}, "optimizer.lr", RATES)[0] for name, patch in arms.items()]
    runs = place.pairs(study, settled, names=list(arms))
    return [
        runs.finding(f"progressive - {other}", "progressive", other, metric, says, matters)  # type: ignore[arg-type]
        for other in ("all at once", "head only")
        for metric, says, matters in (("accuracy", "more", 0.01), ("log_loss", "less", 0.02))
    ]


def distillation(place: Place) -> list[Finding]:
    """A student of a tenth of the teacher's parameters, with and without it; each seed has a teacher of its own."""
    study = place.study("distillation", sources.cifar(place.folder), {**NET, "epochs": 12})
    big = Arm("teacher", {"model.width": 32})
    small = {"model.width": 10}

    def arms(seed: int) -> list[Arm]:
        taught = study.run(big, seed, deadline=place.deadline)
        lessons = {**small, "loss.name": "distill", "loss.teacher": str(taught.folder.resolve())}
        lessons |= {"loss.hard_weight": 0.3, "loss.temperature": 3.0}
        return [big, Arm("alone", small), Arm("taught", lessons)]

    runs = place.pairs(study, arms)
    accuracy = {name: runs.values(name, "accuracy") for name in ("teacher", "alone", "taught")}
    share = {
        name: [a / b for a, b in zip(accuracy[name], accuracy["teacher"], strict=True)] for name in ("alone", "taught")
    }
    weights = [_parameters(runs.outcomes["taught"][k].folder) / _parameters(runs.outcomes["teacher"][k].folder)
               for k in range(len(accuracy["teacher"]))]  # fmt: skip
    goal = [0.95] * len(weights)
    return [
        Finding("taught student, against 95 %", "share of the teacher's accuracy", share["taught"], goal, "more", 0.01),
        runs.finding("taught - alone", "taught", "alone", "accuracy", "more", 0.005),
        runs.finding("taught - alone", "taught", "alone", "log_loss", "less", 0.02),
        Finding(
            "student alone, against 95 %",
            "share of the teacher's accuracy",
            share["alone"],
            goal,
            "more",
            0.01,
            control=True,
        ),
        Finding(
            "the student's size, against a tenth",
            "share of the teacher's parameters",
            weights,
            [0.1] * len(weights),
            "equal",
            0.02,
            control=True,
        ),
    ]


def _parameters(folder: Any) -> int:
    return sum(p.numel() for p in Run(folder).model().parameters())


CLAIMS = (
    Claim(
        name="transfer",
        title="Transfer against scratch as data shrinks",
        words="A net pretrained on other data beats one that starts from nothing, and the more so the fewer samples "
        "there "
        "are.",
        origin="rows 77 and 78; training techniques, Q2; basics, section 3",
        data="CIFAR-10 at 16x16: pretrained on 2,400 images of seven classes; cat, deer and horse with 30, 120 and "
        "600 "
        "images for training, 360 that judge",
        how="a small cnn, 150 steps; all layers learn on, lower ones more slowly, against new weights; both with "
        "the best of "
        "four rates, chosen by one run each on rows that do not judge",
        measure=transfer,
        pairs=8,
        minutes=2.5,
        needs=("cifar10/train.parquet",),
        note="One pretrained net serves all pairs.",
    ),
    Claim(
        name="progressive-unfreezing",
        title="Progressive unfreezing",
        words="Thawing a pretrained net layer after layer gives the best results of fine-tuning.",
        origin="row 79; basics, section 3; reference tables, I6",
        data="as for transfer, with 120 images",
        how="a layer thaws every fifth of 150 steps, against all layers at once and against the head alone, each "
        "with "
        "the best of four rates as above",
        measure=unfreezing,
        pairs=10,
        minutes=1.5,
        needs=("cifar10/train.parquet",),
        note="The net has three layers to thaw; the claim's source had a language model of four.",
    ),
    Claim(
        name="distillation",
        title="Distillation to a tenth of the parameters",
        words="A student of a tenth of the size, taught by the large net, keeps 95 % of its accuracy.",
        origin="row 80; training techniques, Q4",
        data=CIFAR,
        how="a cnn of width 32 and one of 10; hard weight 0.3, temperature 3; a teacher for each pair",
        measure=distillation,
        pairs=8,
        minutes=2.5,
        needs=("cifar10/train.parquet",),
    ),
)
