"""The data sets of the benchmark as plain data: where each lies, how it is trained, what it must beat and in what
time."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Bar:
    """What one metric of the test part must reach.

    metric: its name in ``test.json``. value: None where it has to beat baselines instead.
    source: where the number comes from. baselines: beginnings of the names of baselines, fitted on the train part and
    scored on the test part, that must be beaten.
    """

    metric: str
    value: float | None
    better: str
    source: str
    baselines: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """One data set.

    source: a file below the data folder, or with ``embedded`` a name that goodfit knows. beside: further files below
        the
    data folder. arguments: of ``goodfit train``; ``{data}`` stands for the data folder. limit: seconds that the whole
    command may take. levels: validation accuracies whose time of passing is told. baselines: whether they are fitted
    anew and scored on the test part too. note: what a reader must know to judge the numbers.
    """

    name: str
    title: str
    source: str
    bars: tuple[Bar, ...]
    limit: float
    arguments: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    embedded: bool = False
    levels: tuple[float, ...] = ()
    baselines: bool = True
    note: str = ""

    def command(self, data: Path | None) -> list[str]:
        """Source and arguments for ``goodfit train``. Raises FileNotFoundError that names what is missing."""
        if self.embedded:
            return [self.source, *self.arguments]
        if data is None:
            raise FileNotFoundError("no data folder; give --data DIR or set GOODFIT_BENCH_DATA")
        for one in (self.source, *self.beside):
            if not (data / one).is_file():
                raise FileNotFoundError(f"{data / one} does not exist")
        return [str(data / self.source), *(one.format(data=data) for one in self.arguments)]


def default_folder() -> Path | None:
    """The data folder: ``GOODFIT_BENCH_DATA``, else ``shared/data`` beside the repository where that exists."""
    named = os.environ.get("GOODFIT_BENCH_DATA")
    if named:
        return Path(named)
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    return beside if beside.is_dir() else None


GOAL = "goal set beforehand"
TREES = "gradient-boosted trees of scikit-learn, measured beforehand"
TFIDF = "above TF-IDF + logistic regression, measured beforehand"

DATA_SETS = (
    DataSet(
        name="digits",
        title="digits",
        source="digits",
        bars=(Bar("accuracy", 0.985, "higher", GOAL),),
        limit=30,
        embedded=True,
    ),
    DataSet(
        name="adult",
        title="Adult census income",
        source="tabular/adult_train.csv",
        bars=(
            Bar("roc_auc", 0.927, "higher", TREES),
            Bar("accuracy", 0.872, "higher", TREES),
        ),
        limit=180,
        arguments=("--target", "income", "--test", "{data}/tabular/adult_test.csv"),
        beside=("tabular/adult_test.csv",),
        note="The test part is the file that the data set's authors set aside.",
    ),
    DataSet(
        name="wine",
        title="white wine quality",
        source="tabular/wine_quality_white.csv",
        bars=(Bar("rmse", 0.70, "lower", GOAL),),
        limit=120,
        arguments=("--target", "quality"),
        note="About a quarter of the rows are exact copies of others and fall on both sides of a random split, which "
        "flatters every method alike.",
    ),
    DataSet(
        name="abalone",
        title="abalone rings",
        source="tabular/abalone.csv",
        bars=(Bar("rmse", 2.16, "lower", GOAL),),
        limit=120,
        arguments=("--target", "rings"),
    ),
    DataSet(
        name="mammography",
        title="mammography",
        source="tabular/mammography.csv",
        bars=(Bar("average_precision", 0.72, "higher", GOAL),),
        limit=60,
        arguments=("--target", "calcification"),
        note="About 30 % of the rows are exact copies of others and fall on both sides of a random split, which "
        "flatters "
        "every method alike. The test part holds about 39 positives, so the spread between seeds is large.",
    ),
    DataSet(
        name="reviews",
        title="movie review sentences",
        source="text/movie_review_sentences.csv",
        bars=(Bar("accuracy", 0.784, "higher", TFIDF),),
        limit=180,
        arguments=("--target", "sentiment"),
    ),
    DataSet(
        name="news",
        title="AG news (7,600)",
        source="text/ag_news_7600.csv",
        bars=(Bar("accuracy", 0.880, "higher", TFIDF),),
        limit=180,
        arguments=("--target", "topic"),
    ),
    DataSet(
        name="shakespeare",
        title="tinyshakespeare",
        source="text/tinyshakespeare.txt",
        bars=(Bar("nats_per_character_last_tenth", 1.88, "lower", "nanoGPT's CPU example"),),
        limit=300,
        note="Trained on the first 90 % of the text. The number is the mean over all characters of the last 10 %, "
        "which "
        "is nanoGPT's validation part; its first half is goodfit's validation part, by which the weights were "
        "picked, its "
        "second half the locked test part, whose number alone stands below. Windows touch and do not overlap; no "
        "character outside its window is seen. nanoGPT's 1.88 is its own estimate from random windows of 64.",
    ),
    DataSet(
        name="temperatures",
        title="daily minimum temperatures",
        source="series/daily_min_temperatures.csv",
        bars=(Bar("rmse", None, "lower", "the better of both, same windows", ("seasonal naive", "ridge regression")),),
        limit=60,
        arguments=("--time", "Date", "--horizon", "7"),
        note="Seven days ahead; parts are cut by time and do not depend on the seed.",
    ),
    DataSet(
        name="cifar10",
        title="CIFAR-10 (JPEG)",
        source="cifar10/train.parquet",
        bars=(Bar("accuracy", 0.92, "higher", GOAL),),
        limit=600,
        arguments=("--target", "label", "--test", "{data}/cifar10/test.parquet"),
        beside=("cifar10/test.parquet",),
        levels=(0.80, 0.85, 0.90, 0.92),
        baselines=False,
        note="JPEG-compressed once more at quality 75. The test part is the data set's own.",
    ),
)
