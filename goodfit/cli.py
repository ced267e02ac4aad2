"""The command line: parse, call one function, print. One function a verb."""

from __future__ import annotations

import errno
import os
import shutil
import sys
import textwrap
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from goodfit import study_cli
from goodfit.visible import message, visible

app = typer.Typer(
    name="goodfit",
    help="Train a neural network well with one command.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set one recipe key; repeatable.")
]

TopK = Annotated[int, typer.Option(help="Draw among the K likeliest tokens only; 0: all.")]
TopP = Annotated[float, typer.Option(help="Draw among the likeliest tokens that sum to this probability.")]
DrawSeed = Annotated[int, typer.Option(help="The same seed draws the same text.")]


@app.command()
def train(
    source: Annotated[
        str, typer.Argument(help="digits, iris, cifar10 ...; a folder of images; a .csv, .tsv, .parquet or .txt file.")
    ],
    target: Annotated[str | None, typer.Option(help="The column to predict.")] = None,
    recipe: Annotated[Path | None, typer.Option(help="A recipe file (TOML).")] = None,
    sets: SetOption = None,
    out: Annotated[Path | None, typer.Option(help="The run folder; runs/NAME-N unless said.")] = None,
    time: Annotated[str | None, typer.Option(help="Of a series: the column of time stamps.")] = None,
    horizon: Annotated[int | None, typer.Option(help="Of a series: how many rows ahead to forecast.")] = None,
    test: Annotated[
        str | None, typer.Option(help="A file that is the test part (kept locked until goodfit test).")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Stop after the plan and print every value of it.")
    ] = False,
    layers: Annotated[
        bool, typer.Option("--layers", help="With --dry-run: print the model's table of layers too.")
    ] = False,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1; the fastest there is unless said.")] = None,
    folds: Annotated[
        int | None, typer.Option(help="Cross-validate: so many models, each row predicted by one that never saw it.")
    ] = None,
    groups: Annotated[
        str | None, typer.Option(help="A column (patient, user) whose values no split and no fold tears apart.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Warnings and the result only.")] = False,
) -> None:
    """Train a network on SOURCE and explain the result. The same command goes on with a run that was interrupted."""
    from goodfit import job
    from goodfit.recipe import Recipe, parse_set
    from goodfit.screen import Screen

    asked = Recipe.read(recipe) if recipe else Recipe()
    changes: dict[str, Any] = {}
    for one in sets or []:
        changes |= parse_set(one)
    if test is not None:
        changes["data.test_source"] = test
    if groups is not None:
        changes["data.groups"] = groups
    asked = asked.patched(changes) if changes else asked
    screen = Screen(quiet=quiet)
    if dry_run:
        job.dry_run(
            source, target=target, recipe=asked, time=time, horizon=horizon, device=device, screen=screen, layers=layers
        )
        return
    if folds is not None:
        from goodfit.studies.cross_validate import cross_validate, show

        found = cross_validate(
            source, asked, folds=folds, target=target, time=time, horizon=horizon, out=out, device=device, screen=screen
        )
        show(found, screen)
        return
    job.train(source, target=target, recipe=asked, time=time, horizon=horizon, out=out, device=device, screen=screen)


@app.command()
def predict(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="A run folder; several predict together, as an ensemble.")
    ],
    new: Annotated[
        str, typer.Argument(help="New data in the form the run was trained on; a prompt for a language model.")
    ],
    out: Annotated[Path | None, typer.Option(help="Write the predictions to this .csv or .parquet file.")] = None,
    temperature: Annotated[
        float | None, typer.Option(help="Texts: how daring to draw tokens; 0 takes the likeliest each time.")
    ] = None,
    top_k: TopK = 0,
    top_p: TopP = 1.0,
    seed: DrawSeed = 0,
) -> None:
    """Predict for new data with the best weights of RUN, or with the mean of several runs."""
    from goodfit.ensemble import Ensemble
    from goodfit.run import Run
    from goodfit.store import write_table

    if len(runs) > 1:
        frame = Ensemble(runs).predict(new)
    else:
        frame = Run(runs[0]).predict(new, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed)
    if out is not None:
        write_table(out, frame)
        print(f"{len(frame):,} predictions written to {out}")
    elif list(frame.columns) == ["prediction"] and len(frame) == 1:
        print(visible(str(frame["prediction"].iloc[0])))
    else:
        print(visible(frame.head(20).rename(columns=visible).to_string()))
        if len(frame) > 20:
            print(f"... {len(frame):,} rows; write them all with --out predictions.csv")


@app.command()
def ensemble(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN RUN...", help="Run folders of one task.")],
) -> None:
    """Judge runs together and one by one, on the validation samples that none of them was trained on."""
    from goodfit.ensemble import Ensemble
    from goodfit.screen import Screen

    Screen().ensemble(Ensemble(runs).evaluate())


@app.command()
def soup(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN RUN...", help="Runs of one architecture and split.")],
    out: Annotated[Path | None, typer.Option(help="The new run's folder; runs/NAME-soup-N unless said.")] = None,
    source: Annotated[str | None, typer.Option(help="Where the data lies now, if it moved.")] = None,
) -> None:
    """Average the weights of runs, as far as that makes them better on validation, into a run of its own."""
    from goodfit.screen import Screen
    from goodfit.soup import soup as cook

    made = cook(runs, out=out, source=source)
    Screen().soup(made.results["soup"], made.folder)


@app.command()
def generate(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    prompt: Annotated[str, typer.Option(help="The text to go on from; of a sequence run, the text to answer.")] = "",
    length: Annotated[int, typer.Option(help="How many tokens a language model writes.")] = 300,
    temperature: Annotated[
        float | None, typer.Option(help="How daring to draw them, 0.8 unless said; 0 takes the likeliest each time.")
    ] = None,
    top_k: TopK = 0,
    top_p: TopP = 1.0,
    seed: DrawSeed = 0,
) -> None:
    """Write a text with RUN, a language model or a model that learned to answer one text by another."""
    from goodfit.run import Run

    made = Run(run).generate(prompt, length=length, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed)
    print(visible(made))


@app.command("test")
def open_test(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    source: Annotated[str | None, typer.Option(help="Where the data lies now, if it moved.")] = None,
) -> None:
    """Open the locked test part of RUN and evaluate on it. Openings are counted."""
    from goodfit.run import Run
    from goodfit.screen import Screen

    opened = Run(run)
    Screen().test(opened.test(source), opened.folder)


@app.command()
def batch(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    step: Annotated[int, typer.Argument(help="The step, from 0, as messages name it.")],
    source: Annotated[str | None, typer.Option(help="Where the data lies now, if it moved.")] = None,
) -> None:
    """Make the batch of one STEP of RUN again, as the model saw it, and say what is in it."""
    from goodfit.job import batch_at
    from goodfit.run import Run
    from goodfit.screen import Screen

    Screen().batch(batch_at(Run(run), step, source=source), step)


@app.command()
def report(run: Annotated[Path, typer.Argument(help="A run folder.")]) -> None:
    """Write the report of RUN anew and say where it is."""
    from goodfit.run import Run

    print(Run(run).report())


class _Check(typer.core.TyperCommand):
    """``-m`` is ours in front of the program only: behind it, it may be the program's own (a momentum, say)."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Write the leading ``-m`` as ``--module``; all words of another program's are left as they are."""
        place = 0
        while place < len(args) and args[place].startswith("--") and args[place] != "--":
            flag = args[place] in ("--json", "--help", "--prove", "--no-prove", "--try")
            place += 1 if "=" in args[place] or flag else 2
        if place + 1 < len(args) and args[place] == "-m":
            args = [*args[:place], "--module", *args[place + 1 :]]
        return list(super().parse_args(ctx, args))


@app.command(cls=_Check, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def check(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="WHAT [ARGUMENTS]...",
            help="A Python program that trains, and its own arguments; a run folder; or a data set, as goodfit train "
            "reads it.",
        ),
    ] = None,
    module: Annotated[
        str | None, typer.Option("--module", metavar="NAME", help="Run a module, as python -m does; also -m NAME.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="End the program after so many optimizer updates.")] = None,
    fail_on: Annotated[str | None, typer.Option(help="Exit with 1 for findings this grave: error, warning.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what was found as JSON; what the program prints goes to stderr.")
    ] = False,
    report: Annotated[Path | None, typer.Option(help="Write what was found to this page (.html).")] = None,
    ignore: Annotated[list[str] | None, typer.Option(help="Do not ask this rule; repeatable.")] = None,
    prove: Annotated[
        bool | None,
        typer.Option(help="Replay some steps on copies with the suspected fix; by itself where --steps is given."),
    ] = None,
    try_it: Annotated[
        bool, typer.Option("--try", help="Of a run folder: train again with what its findings suggest, and compare.")
    ] = False,
) -> None:
    """Run a program, unmodified, and say what is wrong with its training.

    These options are goodfit's before the program and behind it; all others are the program's. What stands behind
    -- is the program's alone: goodfit check train.py -- --steps 5
    """
    from contextlib import nullcontext

    from goodfit import store
    from goodfit.errors import GoodfitError, RunError, nearest
    from goodfit.program import GRAVITY, check_program, printing_aside
    from goodfit.rules import RULES
    from goodfit.rules.finished import RUN_RULES
    from goodfit.rules.live import LIVE_RULES, REPLICA_RULES
    from goodfit.screen import Screen, counted

    names = [rule.name for rule in (*RULES, *LIVE_RULES, *REPLICA_RULES, *RUN_RULES)]
    for name in ignore or []:
        if name not in names:
            raise GoodfitError(f"--ignore {name}: there is no such rule{nearest(name, names)}")
    if fail_on is not None and fail_on not in GRAVITY:
        raise GoodfitError(f"--fail-on {fail_on}: give error, warning or advice")
    what, *rest = [module, *(words or [])] if module else words or [""]
    if not what:
        raise GoodfitError("say what to check: a Python program, a run folder or a data set; see goodfit check --help")
    if report is not None:
        report = report.absolute()  # the program may change the folder
        try:
            store.probe(report.parent)
        except RunError as error:
            raise GoodfitError(str(error).split("; free space")[0] + "; give --report another place") from error
    screen = Screen()
    if not module and not _is_program(Path(what)):
        checked = _check_files(what, rest, screen, ignore=ignore or [], quiet=as_json)
        if try_it:
            from goodfit.trying import try_patches

            if not (Path(what) / "plan.json").is_file():
                raise GoodfitError(f"--try is for run folders; {what} is none")
            for one, again, told in try_patches(Path(what), checked.findings, screen):
                patch = ", ".join(f"{key} = {value}" for key, value in one.patch.items())
                screen.line(f"  {one.rule}: with {patch} ({again.folder}): {told}")
    else:
        if try_it:
            raise GoodfitError("--try is for run folders of goodfit train")
        with printing_aside() if as_json else nullcontext():
            say = None if as_json else screen.finding
            checked = check_program(
                what, rest, module=bool(module), steps=steps, ignore=ignore or (), say=say, prove=prove
            )
        if not as_json:
            screen.checked(checked)
    if as_json:
        print(checked.to_json())
    if report is not None:
        from goodfit.report.checked import write_checked

        write_checked(report, what, counted(checked.findings), checked)
        if not as_json:
            screen.line(f"  report   {report}")
    if checked.ended == "interrupted":
        sys.exit(130)
    if fail_on is not None and checked.worst() >= GRAVITY[fail_on]:
        sys.exit(1)
    sys.exit(checked.code if checked.ended != "stopped" else 0)


@app.command("check-resume", cls=_Check, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def check_resume(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="SCRIPT [ARGUMENTS]...", help="A Python program that trains, and its own arguments."),
    ] = None,
    module: Annotated[
        str | None, typer.Option("--module", metavar="NAME", help="Run a module, as python -m does; also -m NAME.")
    ] = None,
    command_resume: Annotated[
        str | None, typer.Option(help="The command that goes on, where it is another: 'train.py --resume last.pt'.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=2, help="Look at so many optimizer updates only.")] = None,
    share: Annotated[
        list[Path] | None, typer.Option(help="Data in the folder that is only read: linked, not copied; repeatable.")
    ] = None,
    without: Annotated[
        list[Path] | None, typer.Option(help="What of the folder is not copied, such as old checkpoints; repeatable.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the verdict as JSON.")] = False,
) -> None:
    """Kill a training program, start it again, and say whether it goes on exactly, or what was not restored.

    Each trial runs in a copy of the working folder; {trial} in an argument is a folder of the trial's own.
    Exit code 0: exact; 1: not; 2: it could not be tested.
    """
    from goodfit.errors import GoodfitError
    from goodfit.resumption.verdict import check_resume as test
    from goodfit.screen import Screen

    if not words and not module:
        raise GoodfitError("say which program to test; see goodfit check-resume --help")
    command = ["-m", module, *(words or [])] if module else list(words or [])
    if not module and not Path(command[0]).is_file():
        raise GoodfitError(f"{command[0]} does not exist; give the Python file that trains, or -m and a module's name")
    screen = Screen()
    result = test(
        command, again=command_resume, steps=steps, shared=share or (), without=without or (),
        say=(lambda _: None) if as_json else lambda text: screen.line(f"  {text}"),
    )  # fmt: skip
    if as_json:
        print(result.to_json())
    else:
        if result.said:
            _complain(result.said)
        print(visible(f"resume: {result.text}"))
    sys.exit(0 if result.outcome == "exact" else 1)


def _is_program(path: Path) -> bool:
    """Whether this is for Python to run: a .py file, one whose first line names Python, a folder with __main__.py."""
    if path.suffix in (".py", ".pyw") or (path / "__main__.py").is_file():
        return True
    if path.suffix or not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.readline(200)
    return head.startswith(b"#!") and b"python" in head


def _check_files(what: str, rest: list[str], screen: Any, *, ignore: list[str], quiet: bool) -> Any:
    """What a run folder has noted, or the audit of a data set; shown at once, the gravest first."""
    from dataclasses import replace

    from goodfit.errors import GoodfitError
    from goodfit.findings import of_data, of_run
    from goodfit.program import GRAVITY
    from goodfit.screen import counted

    if what.endswith(".ipynb"):
        raise GoodfitError(f"{what} is a notebook; in it: %load_ext goodfit, then %%goodfit on top of the cell")
    if (Path(what) / "plan.json").is_file():
        if rest:
            raise GoodfitError(f"{rest[0]}: a run folder is checked without further arguments")
        checked = of_run(Path(what))
        summary: Any = ()
    else:
        target = None
        if rest:
            name, _, value = rest[0].partition("=")
            value = value or (rest[1] if len(rest) > 1 else "")
            if name != "--target" or not value:
                raise GoodfitError(f"{rest[0]}: of a data set only --target COLUMN can be said")
            target = value
        checked, summary = of_data(what, target=target)
    order = sorted(checked.findings, key=lambda one: -GRAVITY[one.severity])
    checked = replace(checked, findings=tuple(one for one in order if one.rule not in ignore))
    if not quiet:
        screen.rows(summary)
        for one in checked.findings:
            screen.finding(one)
        for rule, reason in checked.not_checked:
            screen.line(f"not checked  {rule}: {reason}")
        screen.line(counted(checked.findings))
    return checked


@app.command()
def explain(
    name: Annotated[str, typer.Argument(help="A recipe key, technique, model, metric or rule; or a recipe file.")],
) -> None:
    """Show the page of NAME: what it does, its formula and source, when it helps and when it hurts.

    A recipe file (.toml) is explained key by key, and its schedule is drawn.
    """
    from goodfit.pages import explain as page

    print(page(name, width=min(shutil.get_terminal_size().columns, 100)))


@app.command("list")
def list_names() -> None:
    """Show every name that a recipe may hold and that can be explained."""
    from goodfit.pages import listing
    from goodfit.screen import Screen

    Screen().rows((slot, "  ".join(names)) for slot, names in listing())


study_cli.register(app)


def main() -> None:
    """Run the command line: a user's mistake is one clear line and exit code 2, never a traceback."""
    # Threads that spin while they wait are slowed tenfold by one other busy program on two cores (168 ms a step
    # against 14 when they sleep); on an idle machine sleeping costs a small net's step some milliseconds.
    # The variable is read when PyTorch is imported, which happens below.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from goodfit.errors import GoodfitError

    shown = warnings.showwarning
    if getattr(shown, "__module__", "") == "warnings":  # else somebody is collecting them
        warnings.showwarning = _warned
    try:
        app(standalone_mode=False)
    except GoodfitError as error:
        code = int(getattr(error, "code", 2))
        if not getattr(error, "told", False):  # of several processes one tells
            _complain(f"goodfit: {error}")
        sys.exit(code)
    except typer.Exit as stop:
        sys.exit(stop.exit_code)
    except typer.Abort:
        sys.exit(130)
    except KeyboardInterrupt:
        print("goodfit: stopped", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # What reads our output has gone (goodfit list | head); Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        _complain("goodfit: a file's name is longer than any can be; check the path")
        sys.exit(2)
    except Exception as error:
        # The parser's errors come from click, or from the copy of it that newer typers carry within.
        if not hasattr(error, "format_message"):
            raise
        bare = type(error).__name__ == "NoArgsIsHelpError"
        _complain(error.format_message() if bare else f"goodfit: {_usage(error)}")
        sys.exit(2)
    finally:
        warnings.showwarning = shown


def _warned(message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any, **__: Any) -> None:
    """Print a warning of ours as a line of ours, and all others as Python does."""
    if category.__module__.startswith("goodfit."):
        _complain(f"goodfit: {message}")
    else:
        print(warnings.formatwarning(message, category, filename, lineno), file=sys.stderr, end="")


def _complain(text: str) -> None:
    """Print to stderr, safe to show, wrapped between words where a person reads it; commands, indented, stay whole."""
    text = message(text)
    if sys.stderr.isatty():
        width = shutil.get_terminal_size().columns
        lines = [
            line
            if line.startswith("  ") and not line.startswith("  -")
            else textwrap.fill(line, width, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
            for line in text.split("\n")
        ]
        text = "\n".join(lines)
    print(text, file=sys.stderr)


def _usage(error: Any) -> str:
    """What is wrong with the words of a command, and where to read on."""
    message = str(error.format_message()).rstrip(".").split(" (Possible")[0]
    close = list(getattr(error, "possibilities", None) or [])
    message = message[:1].lower() + message[1:]
    command = getattr(getattr(error, "ctx", None), "command_path", "goodfit")
    option = str(getattr(error, "option_name", "") or "").removeprefix("--").replace("-", "_")
    if option and command.endswith("train"):
        from goodfit.recipe import keys

        known = [k for k in keys() if k == option or k.endswith("." + option)]
        if known:
            return f"{message}; it is a key of the recipe: --set {known[0]}=VALUE"
    return f"{message}; " + (f"did you mean {close[0]}? See" if close else "see") + f" {command} --help"
