"""Default recipes: for each kind of data, every value with the reason for it and where it comes from.

"our trial" as a source means: run and looked at on validation parts of the data sets in ``bench/``, often beside few
alternatives; what was and was not compared stands in ``docs/lab-notes.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from goodfit.pretrained import inputs_like, is_pretrained, replaced, rows_for
from goodfit.probes.mirror import source_of_symbols, symbols

if TYPE_CHECKING:
    from goodfit.data.data import Data
    from goodfit.recipe import Recipe


@dataclass(frozen=True)
class Choice:
    """One resolved value, why it was chosen, and the source of that reason."""

    value: Any
    reason: str
    source: str


Rows = dict[str, Choice]

_EVERYWHERE = {
    "init.name": ("auto", "the variance that fits the model's activation", "He et al. 2015; Glorot and Bengio 2010"),
    "sampling.name": ("shuffle", "a new keyed order every epoch", "goodfit.keyed"),
    "gradient.name": ("plain", "the batch fits in memory", "-"),
    "average.name": ("none", "the last weights", "-"),
    "transfer.name": ("none", "trained from nothing", "-"),
    "stopping.name": ("none", "the schedule ends where the run ends", "our trial"),
    "tta": ("none", "one view of each sample", "-"),
    "seed": (0, "any number; change it to see the spread", "-"),
    "nonfinite": ("stop", "a broken loss should be seen, not trained on", "-"),
    "ignore": ([], "an error in pre-flight stops before money is spent", "-"),
}


def defaults(data: Data, recipe: Recipe, custom_model: str = "") -> Rows:
    """The default of every key that differs from its class's own default, for this data and the model asked for."""
    asked = recipe.flat()
    kind = data.spec.kind
    by_kind = {
        "image": _image,
        "table": _table,
        "text": _text,
        "language": _language,
        "sequence": _sequence,
        "series": _series,
        "tensor": _tensor,
    }
    rows = _rows(_EVERYWHERE) | by_kind[kind](data)
    name = custom_model or asked.get("model.name", rows["model.name"].value)
    if custom_model or name != rows["model.name"].value:
        rows = rows | _general(data, str(name))
        rows = {k: v for k, v in rows.items() if not k.startswith("model.") or k == "model.name"}
        if kind == "language" and name in ("rnn", "lstm", "gru"):
            why = "the state goes on from window to window, the gradient does not"
            rows["sampling.name"] = Choice("streams", why, "Mikolov et al. 2010")
    if not custom_model and is_pretrained(asked):
        gone = ("optimizer.", "schedule.", "average.", "stopping.", *replaced(data, asked))
        rows = {k: v for k, v in rows.items() if not k.startswith(gone)} | _rows(rows_for(data, asked))
    if not custom_model and (like := inputs_like(asked)) is not None:
        rows["data.like"] = Choice(like, "inputs as the model wants them", "-")
    own = getattr(data.train, "batch_size", None)
    if own:
        rows["batch_size"] = Choice(int(own), "your DataLoader's own", "you")
    flips = asked.get("batch.flip", "batch.flip" in rows or any(k.startswith("batch.flip.") for k in asked))
    if flips and kind == "image":
        known = Choice("flip", "training flips, so both sides are known", "Krizhevsky et al. 2012")
        rows["tta"] = rows["tta"] if rows["tta"].value != "none" else known
    if asked.get("penalty.l1") and rows["average.name"].value != "none":
        rows["average.name"] = Choice("none", "an average of weights has no exact zeros, which penalty.l1 is for", "-")
    return rows | _loss(data, asked)


def _rows(values: Mapping[str, tuple[Any, str, str]]) -> Rows:
    return {key: Choice(*one) for key, one in values.items()}


def _loss(data: Data, asked: Mapping[str, Any]) -> Rows:
    if data.task.kind == "classification" or data.task.tokens:
        return _rows({"loss.name": ("cross_entropy", "classes that exclude each other", "-")})
    return _rows({"loss.name": ("mse", "the mean is what RMSE rewards; targets are standardised", "-")})


def _image(data: Data) -> Rows:
    _, height, width = data.spec.shape
    side, samples = min(height, width), len(data.train)
    rows = _rows(_mirror(data))
    if side >= 24 and height * width <= 64 * 64 and samples >= 2000:
        return rows | _fast_image(data)
    pad = max(1, side // 8)
    crop = {
        "batch.crop": (True, "a shift does not change what is seen", "Krizhevsky et al. 2012"),
        "batch.crop.padding": (pad, f"an eighth of {side} pixels", "He et al. 2016: 4 of 32"),
    }
    epochs = _epochs_for(samples, 40_000 if side <= 16 else 30_000, low=12, high=60)
    small = side <= 64
    return rows | _rows(
        {
            "model.name": ("cnn", "small images, few of them", "our trial")
            if small
            else ("resnet", "larger images", "He et al. 2016"),
            **({"model.width": (64, "small images leave room for channels", "our trial")} if side <= 16 else {}),
            **({"model.depth": (2 if side <= 16 else 3, f"{side} pixels halve that often", "-")} if small else {}),
            **(crop if side > pad else {}),
            "loss.label_smoothing": (0.1, "less certain, better calibrated", "Szegedy et al. 2016"),
            "optimizer.name": ("adamw", "few images: no time to tune SGD", "our trial"),
            "optimizer.lr": (3e-3, "with a norm in every block", "our trial"),
            "optimizer.weight_decay": (
                0.05,
                "published values for AdamW lie at .05 to .1",
                "Touvron et al. 2021, Liu et al. 2022",
            ),
            "schedule.name": ("cosine", "warm-up, then cosine to zero", "Loshchilov and Hutter 2017"),
            "schedule.warmup": ("10%", "the norms' statistics settle first", "our trial"),
            "average.name": ("ema", "smoother than the last weights", "our trial"),
            "average.decay": (0.99, "remembers about 100 steps", "our trial"),
            "batch_size": (64 if samples < 10_000 else 128, f"{samples:,} images", "our trial"),
            "epochs": (f"{epochs} epochs", f"{samples:,} images", "our trial"),
        }
    )


def _mirror(data: Data) -> dict[str, tuple[Any, str, str]]:
    """Flip where a mirrored image means the same: not where names speak of digits, letters or sides."""
    if not data.task.classes or symbols(data.task.classes) or source_of_symbols(data.name):
        return {}
    return {"batch.flip": (True, "a mirrored image means the same", "Krizhevsky et al. 2012")}


def _fast_image(data: Data) -> Rows:
    source = "Jordan 2024, airbench"
    samples = len(data.train)
    epochs = 6.25 if samples > 40_000 else _epochs_for(samples, 300_000, low=7, high=40)
    mirror = {"batch.flip.alternate": (True, "less repetition than drawing anew", source)} if _mirror(data) else {}
    return _rows(
        {
            "model.name": ("fastnet", "most accuracy for the time on small images", "our trial"),
            "model.whitening": (
                0.01,
                "JPEG leaves directions of almost no variance; they are not to be amplified",
                "our trial",
            ),
            **mirror,
            "batch.crop": (True, "a shift does not change what is seen", source),
            "batch.crop.padding": (2, "as published", source),
            "batch.grow": (
                True,
                "small images first: more steps in the same time (0.898 against 0.894 to 0.896 at full size, which is "
                "no clear difference)",
                "Howard 2018; our trial",
            ),
            "batch.grow.scales": ((0.75,), "fewer sizes than 0.625 and 0.75, better on validation", "our trial"),
            "batch.grow.until_shares": ((0.5,), "full size for the second half", "our trial"),
            "loss.label_smoothing": (0.2, "as published", source),
            "optimizer.name": ("muon", "fewer epochs than SGD for the same accuracy", source),
            "optimizer.lr": (0.15, "flat between 0.12 and 0.24", "our trial"),
            "optimizer.momentum": (0.6, "as published", source),
            "optimizer.steps": (3, "as published", source),
            "optimizer.fixed_norm": (True, "as published", source),
            "optimizer.rest": ("sgd", "as published", source),
            "optimizer.rest_lr": (26.5, "0.053 on summed losses, times a batch of 500", source),
            "optimizer.rest_momentum": (0.85, "as published", source),
            "optimizer.rest_weight_decay": (3e-6, "as published, for mean losses", source),
            "optimizer.head_lr": (12.6, "0.67 against 0.053", source),
            "schedule.name": ("linear", "to zero at the end", source),
            "batch_size": (500, "as fast as larger ones on a CPU", "our trial"),
            "epochs": (f"{epochs} epochs", "ten minutes on two cores for 45,000 images", "our trial"),
            **({"tta": ("flip_shift", "0.900 against 0.898 with flips alone", "our trial")} if mirror else {}),
        }
    )


def _table(data: Data) -> Rows:
    samples = len(data.train)
    epochs = _epochs_for(samples, 180_000, low=8, high=60)
    values = data.task.kind == "regression"
    rare = data.task.binary and float((data.train.targets == 1).double().mean()) < 0.05
    light = "a rare class has few samples to lose" if rare else "values bear less than classes"
    rows = {
        "model.name": (
            "tabular",
            "an ensemble in one model, level with boosted trees",
            "Gorishniy et al. 2024; our trial",
        ),
        "model.dropout": (
            0.1 if values or rare else 0.25,
            light if values or rare else "best on validation",
            "our trial",
        ),
        **({"model.values": (0, "too few rare samples to learn single values", "our trial")} if rare else {}),
        **({"stopping.keep": ("last", "with few rare samples the best epoch is luck", "our trial")} if rare else {}),
        "optimizer.name": ("adamw", "columns differ in scale and frequency", "our trial"),
        "optimizer.lr": (5e-3, "beat 2e-3 on one data set, and 1e-2 on another", "our trial"),
        "optimizer.weight_decay": (3e-4, "as published for TabM", "Gorishniy et al. 2024"),
        "clip.norm": (1.0, "keeps a rare large gradient from undoing the run", "Pascanu et al. 2013"),
        "schedule.name": ("cosine", "ends where the run ends", "our trial"),
        "schedule.warmup": ("5%", "Adam's first estimates are rough", "our trial"),
        "batch_size": (256 if samples > 2000 else 32, f"{samples:,} rows", "our trial"),
        "epochs": (f"{epochs} epochs", f"{samples:,} rows", "our trial"),
    }
    return _rows(rows)


def _text(data: Data) -> Rows:
    return _rows(
        {
            "model.name": (
                "bag",
                "on thousands of texts counted n-grams beat deeper nets trained from nothing",
                "Wang and Manning 2012; trial",
            ),
            "optimizer.name": (
                "sgd",
                "Adam's equal steps let rare n-grams learn the training set by heart",
                "our trial",
            ),
            "optimizer.lr": (1.0, "inputs have length 1 and weights start at zero", "our trial"),
            "optimizer.momentum": (0.9, "the usual value", "Sutskever et al. 2013"),
            "schedule.name": ("linear", "to zero at the end", "our trial"),
            "batch_size": (64, "thousands of texts", "our trial"),
            "epochs": ("10 epochs", "by then validation has stopped gaining", "our trial"),
        }
    )


def _language(data: Data) -> Rows:
    tokens = len(data.train) * data.spec.shape[0]
    steps = max(60, min(1100, round(8 * tokens / 2048)))
    return _rows(
        {
            "model.name": ("transformer", "a causal decoder", "Vaswani et al. 2017"),
            "model.ngrams": (6, "the last characters say most about the next; looked up, not computed", "our trial"),
            "model.ngram_dropout": (0.5, "else the tables learn the text by heart", "our trial"),
            "model.shift": (True, "a layer sees its predecessor without attention", "our trial"),
            "model.feedforward": ("relu2", "as cheap as ReLU", "So et al. 2021"),
            "model.tied": (False, "a head of its own that starts at zero", "our trial"),
            "model.dropout": (0.0, "the dropped n-grams suffice", "our trial"),
            "optimizer.name": ("muon", "fewer steps than AdamW for small decoders", "Jordan et al. 2024"),
            "optimizer.lr": (0.02, "as published", "Jordan et al. 2024"),
            "optimizer.weight_decay": (0.5, "several passes over one text", "our trial"),
            "optimizer.rest_lr": (4e-3, "for tables, norms and head; other rates were not tried", "our trial"),
            "optimizer.rest_weight_decay": (0.5, "several passes over one text", "our trial"),
            "schedule.name": ("wsd", "a straight way down over the last part", "Hägele et al. 2024"),
            "schedule.decay": ("60%", "other shares were not tried", "our trial"),
            "schedule.warmup": ("3%", "Adam's first estimates are rough", "our trial"),
            "clip.norm": (1.0, "as published", "nanoGPT"),
            "batch_size": (16, "many steps matter more than large ones", "our trial"),
            "epochs": (f"{steps} steps", f"{tokens:,} tokens, about five minutes at most on two cores", "our trial"),
        }
    )


def _sequence(data: Data) -> Rows:
    samples = len(data.train)
    size = 32 if samples < 1000 else 64
    epochs = _epochs_for(samples, 70_000, low=3, high=60)
    return _rows(
        {
            "model.name": ("transformer_encdec", "reads one text, writes another", "Vaswani et al. 2017"),
            "optimizer.name": ("adamw", "the usual one for encoder-decoders", "Loshchilov and Hutter 2019"),
            "optimizer.lr": (1e-3, "best on validation", "our trial"),
            "optimizer.beta2": (0.98, "as published", "Vaswani et al. 2017"),
            "optimizer.weight_decay": (0.01, "few texts", "our trial"),
            "schedule.name": ("cosine", "ends where the run ends", "our trial"),
            "schedule.warmup": ("10%", "Adam's first estimates are rough", "our trial"),
            "clip.norm": (1.0, "keeps a rare large gradient from undoing the run", "Pascanu et al. 2013"),
            "batch_size": (size, f"{samples:,} pairs", "our trial"),
            "epochs": (f"{epochs} epochs", f"{samples:,} pairs", "our trial"),
        }
    )


def _series(data: Data) -> Rows:
    return _rows(
        {
            "model.name": ("seasonal", "learns the calendar first, then what departs from it", "our trial"),
            "optimizer.name": ("adamw", "channels differ in scale", "our trial"),
            "optimizer.lr": (3e-3, "best on validation", "our trial"),
            "optimizer.weight_decay": (0.1, "few windows, many weights", "our trial"),
            "schedule.name": ("cosine", "ends where the run ends", "our trial"),
            "schedule.warmup": ("10%", "Adam's first estimates are rough", "our trial"),
            "average.name": ("ema", "smoother than the last weights", "our trial"),
            "average.decay": (0.99, "remembers about 100 steps", "our trial"),
            "batch_size": (128, "thousands of windows", "our trial"),
            "epochs": (
                f"{_epochs_for(len(data.train), 75_000, low=3, high=60)} epochs",
                f"{len(data.train):,} windows",
                "our trial",
            ),
        }
    )


def _tensor(data: Data) -> Rows:
    return _rows({"model.name": ("mlp", "plain numbers without known structure", "-")}) | _general(data, "mlp")


def _general(data: Data, model: str) -> Rows:
    """The recipe for a model nothing is known about."""
    source = "AlgoPerf self-tuning baseline (Dahl et al. 2023)"
    size = 32 if len(data.train) < 1000 else 64 if len(data.train) < 10_000 else 128
    epochs = _epochs_for(len(data.train), 100_000, low=10, high=200)
    return _rows(
        {
            "optimizer.name": ("nadamw", "one setting that did well on eight different workloads", source),
            "optimizer.lr": (1.749e-3, "as published", source),
            "optimizer.beta1": (0.9327, "as published", source),
            "optimizer.beta2": (0.9955, "as published", source),
            "optimizer.weight_decay": (0.0812, "as published", source),
            "schedule.name": ("cosine", "warm-up, then cosine to zero", source),
            "schedule.warmup": ("2%", "as published", source),
            "clip.norm": (1.0, "keeps a rare large gradient from undoing the run", "Pascanu et al. 2013"),
            "batch_size": (size, "small data needs more steps than samples", "our trial"),
            "epochs": (f"{epochs} epochs", f"{len(data.train):,} samples", "our trial"),
            "stopping.name": ("patience", "nothing is known about how long this model wants", "our trial"),
        }
    )


def _epochs_for(samples: int, seen: int, *, low: int, high: int) -> int:
    return max(low, min(high, round(seen / max(samples, 1))))
