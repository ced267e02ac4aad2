"""The commands that train many runs to answer one question; ``cli`` adds them to its own."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path
from typing import Annotated, Any

import typer

Source = Annotated[str, typer.Argument(help="As goodfit train reads it: a name, a folder of images, a table, a text.")]
Target = Annotated[str | None, typer.Option(help="The column to predict.")]
RecipeFile = Annotated[
    Path | None, typer.Option("--recipe", help="A recipe file (TOML): what all runs have in common.")
]
With = Annotated[
    list[str] | None, typer.Option("--with", metavar="KEY=VALUE", help="One recipe key for all runs; repeatable.")
]
Out = Annotated[
    Path | None, typer.Option(help="The study's folder; one of its own in runs/ for each recipe unless said.")
]
Time = Annotated[str | None, typer.Option(help="Of a series: the column of time stamps.")]
Horizon = Annotated[int | None, typer.Option(help="Of a series: how many rows ahead to forecast.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1; the fastest there is unless said.")]
Budget = Annotated[str | None, typer.Option(metavar="30m", help="Stop before this much time is spent: 90s, 30m, 2h.")]
Metric = Annotated[str | None, typer.Option(help="Judge by this metric; the task's own unless said.")]
Jobs = Annotated[
    int | None, typer.Option(min=1, help="Processes that make runs at once; by cores and runs, 4 at most, unless said.")
]
Retry = Annotated[bool, typer.Option("--retry-failed", help="Make runs again that failed before.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Warnings and the result only.")]


def ablate(
    source: Source,
    toggle: Annotated[
        str | None, typer.Option(metavar="mixup,ema,...", help="Switch each of these: off where it is on, else on.")
    ] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=A,B,...", help="One arm for each value; repeatable.")
    ] = None,
    remove_one: Annotated[
        bool, typer.Option("--remove-one", help="Take out each technique that is on, one at a time.")
    ] = False,
    ladder: Annotated[
        str | None, typer.Option(metavar="augmentation", help="Add one technique after the other, from none on.")
    ] = None,
    seeds: Annotated[
        str, typer.Option(metavar="6..20", help="Pairs: a range adds seeds until it is clear; a number makes so many.")
    ] = "6..20",
    budget: Budget = None,
    tune_each: Annotated[
        int, typer.Option(metavar="N", help="First try N learning rates for every arm, the default included.")
    ] = 0,
    interval: Annotated[
        str | None, typer.Option(metavar="t", help="Of a fixed number of pairs: t, studentised or bca (bootstraps).")
    ] = None,
    metric: Metric = None,
    matters: Annotated[float | None, typer.Option(help="The smallest difference that you would act on.")] = None,
    recipe: RecipeFile = None,
    common: With = None,
    target: Target = None,
    time: Time = None,
    horizon: Horizon = None,
    out: Out = None,
    device: Device = None,
    jobs: Jobs = None,
    retry_failed: Retry = False,
    quiet: Quiet = False,
) -> None:
    """Does it help on SOURCE? Train pairs of runs that differ in one thing, and say what they allow to say.

    goodfit ablate digits --toggle mixup,label_smoothing --budget 10m
    """
    from goodfit.errors import RecipeError, nearest
    from goodfit.screen import Screen
    from goodfit.studies.ablation import ablate as run
    from goodfit.studies.shown import show

    ways = ("t", "studentised", "bca")
    if interval is not None and interval not in ways:
        raise RecipeError([f"--interval {interval}: there is no such interval{nearest(interval, ways)}"])
    method: Any = interval
    screen = Screen(quiet=quiet)
    made = run(
        source, toggle=_list(toggle), values=sets or (), remove_one=remove_one, ladder=ladder, seeds=seeds,
        budget=budget, tune_each=tune_each, method=method, metric=metric, matters=matters,
        recipe=_recipe(recipe, common), target=target, time=time, horizon=horizon, out=out, device=device,
        jobs=jobs, retry_failed=retry_failed, screen=screen,
    )  # fmt: skip
    show(screen, made)


def lr(
    source: Source,
    low: Annotated[float | None, typer.Option(help="The smallest rate; a 10,000th of the planned one.")] = None,
    high: Annotated[float | None, typer.Option(help="The largest rate; 1,000 times the planned one.")] = None,
    points: Annotated[int | None, typer.Option(help="How many rates; 16 a decade, fewer where steps are slow.")] = None,
    repeats: Annotated[int | None, typer.Option(help="How many sweeps; 5, or 3 where steps are slow.")] = None,
    recipe: RecipeFile = None,
    common: With = None,
    target: Target = None,
    time: Time = None,
    horizon: Horizon = None,
    out: Out = None,
    device: Device = None,
) -> None:
    """Which learning rate? Try all of them in short sweeps of training, and suggest one, with its range and reason."""
    from goodfit import store
    from goodfit.screen import Screen
    from goodfit.studies.ablation import study_folder
    from goodfit.studies.lr import range_test
    from goodfit.studies.range_shown import page, show

    given = {"data.target": target, "data.time": time, "data.horizon": horizon}
    screen, asked = Screen(), _recipe(recipe, common).patched({k: v for k, v in given.items() if v is not None})
    found = range_test(
        source, recipe=asked, low=low, high=high, points=points, repeats=repeats, device=device, screen=screen,
        said=_words(source, recipe, common, target, time, horizon, "--set"),
    )  # fmt: skip
    folder = out or study_folder(source, asked, metric=None, calibrate=False)
    store.write_json(folder / "lr.json", found.to_json())
    written = page(found, folder / "lr.html")
    show(found, screen, width=_width())
    screen.line(f"  report   {written}")


def curve(
    source: Source,
    shares: Annotated[str, typer.Option(help="Shares of the training part.")] = "1,0.5,0.25,0.125,0.0625",
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each share.")] = 3,
    resamples: Annotated[int, typer.Option(help="Models for the split into bias and variance; 0: none.")] = 6,
    recipe: RecipeFile = None,
    common: With = None,
    target: Target = None,
    time: Time = None,
    horizon: Horizon = None,
    out: Out = None,
    device: Device = None,
    jobs: Jobs = None,
    retry_failed: Retry = False,
) -> None:
    """More data or a better model? Train on shares of the data, fit the curve, split the error in bias and variance."""
    from goodfit.errors import GoodfitError
    from goodfit.screen import Screen
    from goodfit.studies.curve_shown import page, show
    from goodfit.studies.learning_curve import learning_curve

    try:
        parts = [float(one) for one in shares.split(",")]
    except ValueError:
        raise GoodfitError(f"--shares {shares}: write numbers between 0 and 1, such as 1,0.5,0.25") from None
    screen = Screen()
    found = learning_curve(
        source, _recipe(recipe, common), shares=parts, seeds=seeds, resamples=resamples, target=target, time=time,
        horizon=horizon, out=out, device=device, at_once=jobs, retry_failed=retry_failed, screen=screen,
    )  # fmt: skip
    tail = _words(source, recipe, common, target, time, horizon, "--with")
    show(found, screen, tail=tail, width=_width())
    screen.line(f"  report   {page(found, Path(found.folder) / 'curve.html', tail=tail)}")


def tune(
    source: Source,
    over: Annotated[
        str,
        typer.Option(metavar="KEY=LOW..HIGH:log,KEY=A|B,...", help="What to search: ranges and values of recipe keys."),
    ],
    method: Annotated[str, typer.Option(help="grid, random, quasi-random, tpe, gp, hyperband or asha.")] = "tpe",
    trials: Annotated[int, typer.Option(help="How many to make, by all processes together.")] = 20,
    budget: Budget = None,
    confirm: Annotated[
        str, typer.Option(metavar="6..12", help="Pairs of the winner and the default, with seeds that no trial had.")
    ] = "6..12",
    storage: Annotated[
        str | None,
        typer.Option(metavar="URL", help="A database for several machines; a file in the folder unless said."),
    ] = None,
    metric: Metric = None,
    matters: Annotated[float | None, typer.Option(help="The smallest difference that you would act on.")] = None,
    recipe: RecipeFile = None,
    common: With = None,
    target: Target = None,
    time: Time = None,
    horizon: Horizon = None,
    out: Out = None,
    device: Device = None,
    quiet: Quiet = False,
) -> None:
    """Search settings on SOURCE, and confirm the winner against the default before recommending it.

    goodfit tune digits --over "optimizer.lr=1e-4..1e-1:log,model.width=32|64|128" --budget 20m
    """
    from goodfit.screen import Screen
    from goodfit.studies.search import tune as run
    from goodfit.studies.shown import show_search

    screen = Screen(quiet=quiet)
    made = run(
        source, over=over, method=method, trials=trials, budget=budget, confirm=confirm, storage=storage, metric=metric,
        matters=matters, recipe=_recipe(recipe, common), target=target, time=time, horizon=horizon, out=out,
        device=device, screen=screen,
    )  # fmt: skip
    show_search(screen, made)


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    for command in (ablate, lr, curve, tune):
        app.command()(command)


def _list(text: str | None) -> list[str]:
    return [one.strip() for one in (text or "").split(",") if one.strip()]


def _recipe(path: Path | None, common: list[str] | None) -> Any:
    """The recipe file with the keys of --with."""
    from goodfit.recipe import Recipe, parse_set

    recipe = Recipe.read(path) if path else Recipe()
    changes: dict[str, Any] = {}
    for one in common or []:
        changes |= parse_set(one)
    return recipe.patched(changes) if changes else recipe


def _words(
    source: str,
    recipe: Path | None,
    common: list[str] | None,
    target: str | None,
    time: str | None,
    horizon: int | None,
    key: str,
) -> str:
    """What was asked, as words behind the name of a further command; ``key``: how it wants recipe keys."""
    words = [source, *([] if recipe is None else ["--recipe", str(recipe)])]
    for one in common or []:
        words += [key, one]
    for name, value in (("target", target), ("time", time), ("horizon", horizon)):
        words += [] if value is None else [f"--{name}", str(value)]
    return shlex.join(words)


def _width() -> int:
    return min(shutil.get_terminal_size().columns, 100)
