"""What the terminal shows: data, plan, progress and results; line by line where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import markup
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from torch import Tensor

from goodfit.program import Checked
from goodfit.report.next import Suggestion, cost
from goodfit.report.words import training_words
from goodfit.types import Batch, Finding, Moment
from goodfit.visible import visible

if TYPE_CHECKING:  # a plan brings everything that reads data with it: seconds, which other programs need not wait
    from goodfit.plan import Plan

MARKS = {"error": "[bold red]error[/]", "warning": "[yellow]warning[/]", "advice": "[cyan]advice[/]"}


def escape(text: str) -> str:
    """A text as it may be printed: neither its brackets nor its control characters mean anything."""
    return markup.escape(visible(text))


def flat(text: str) -> str:
    """The same on one line: a line break in a name could forge a line of ours."""
    return markup.escape(visible(text, keep=""))


class Screen:
    """Prints a run as it happens. It only reads.

    quiet: nothing but warnings and errors.
    """

    def __init__(self, console: Console | None = None, *, quiet: bool = False) -> None:
        self.console = console or Console(highlight=False, soft_wrap=False)
        self.quiet = quiet
        self._progress: Progress | None = None
        self._job: Any = None
        self._total = 0
        self._step = 0
        self._began = 0.0
        self._first = 0
        self._samples = 0
        self._drawn = 0.0
        self._printed = 0.0
        self._loss: Tensor | None = None
        self._lr = 0.0
        self._metric = ""
        self._valid = ""

    @classmethod
    def silent(cls) -> Screen:
        """A screen that shows nothing, not even warnings: of all processes of a run but the first."""
        return cls(Console(quiet=True), quiet=True)

    def heading(self, text: str) -> None:
        """A line that names what happens now."""
        if not self.quiet:
            self.console.print(f"[bold]{escape(text)}[/]")

    def line(self, text: str) -> None:
        """A plain line."""
        if not self.quiet:
            self.console.print(escape(text))

    def warn(self, text: str) -> None:
        """A line that is shown even when quiet."""
        self.console.print(f"[yellow]{escape(text)}[/]", soft_wrap=True)

    def rows(self, rows: Iterable[Sequence[str]]) -> None:
        """Left column names, right column values."""
        if self.quiet:
            return
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 2))
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in rows:
            table.add_row(escape(name), escape(value))
        self.console.print(table)

    def findings(self, findings: Sequence[Finding], *, most: int = 8) -> None:
        """Findings, the gravest first; the rest is counted."""
        order = {"error": 0, "warning": 1, "advice": 2}
        shown = sorted(findings, key=lambda f: order[f.severity])
        table = Table(box=None, show_header=False, padding=(0, 1, 0, 0), pad_edge=False)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for one in shown[:most]:
            if self.quiet and one.severity == "advice":
                continue
            where = f"{flat(one.where)}: " if one.where else ""
            fix = f"\n[dim]-> {escape(one.fix)}[/]" if one.fix else ""
            table.add_row(MARKS[one.severity], f"{where}{flat(one.message)}{fix}")
        if table.row_count:
            self.console.print(table)
        if len(shown) > most and not self.quiet:
            self.console.print(f"  [dim]and {len(shown) - most} more in findings.json and the report[/]")

    def finding(self, one: Finding) -> None:
        """One finding in full: what, where, the numbers, why it matters, the fix."""
        step = "" if one.step is None else f" [dim](step {one.step})[/]"
        where = f"{flat(one.where)}: " if one.where else ""
        mark = f"{MARKS[one.severity]} [bold]{escape(one.rule)}[/]"
        self.console.print(f"{mark} {where}{flat(one.message)}{step}", soft_wrap=True)
        numbers = ", ".join(f"{name} {_number(value)}" for name, value in one.evidence.items())
        texts = (("seen", numbers), ("why", one.why), ("fix", one.fix), ("tried", one.proof))
        for label, text in (*texts, *(("also", f) for f in one.folded)):
            if text:
                self.console.print(f"    [dim]{label}[/]  {escape(text)}", soft_wrap=True)

    def checked(self, checked: Checked) -> None:
        """The last lines of a checked program; its findings were shown as they came."""
        if checked.steps == 0:
            self.warn("saw no optimizer step: nothing was trained, or by other means than torch.optim")
        reasons: dict[str, list[str]] = {}
        for rule, reason in checked.not_checked:
            # Where nothing was trained, every rule would say so.
            if checked.steps or rule == "child processes":
                reasons.setdefault(reason, []).append(rule)
        for reason, rules in reasons.items():
            self.console.print(f"[dim]not checked  {escape(', '.join(rules))}: {escape(reason)}[/]", soft_wrap=True)
        if checked.steps == 0 and not checked.findings:
            return
        ended = {"done": "", "stopped": "; stopped there", "failed": "; then the program failed"}
        steps = f"{checked.steps:,} step{'s' * (checked.steps != 1)}"
        self.console.print(f"{counted(checked.findings)} in {steps}{ended.get(checked.ended, '; interrupted')}")
        self.pages(checked)

    def pages(self, checked: Checked) -> None:
        """Where to read on about what was found."""
        if checked.findings:
            self.console.print(f"  [dim]what a rule looks for: goodfit explain {escape(checked.findings[0].rule)}[/]")

    def plan(self, plan: Plan, *, everything: bool = False) -> None:
        """The plan as a table; without ``everything`` only what is no class default."""
        if self.quiet:
            return
        shown = [
            (k, c) for k, c in plan.choices.items() if everything or (c.source != "its page" and c.value is not None)
        ]
        table = Table(box=None, padding=(0, 1, 0, 1), show_header=False)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold", style="bold", max_width=24)
        table.add_column(overflow="fold", style="dim")
        for key, choice in shown:
            value = _value(key, choice.value)
            plain = not everything or choice.source in ("-", "its page", "recipe")
            source = "" if plain else f" ({choice.source})"
            table.add_row(
                escape(key),
                escape(value),
                escape(choice.reason + source if choice.reason != "-" else source.strip(" ()")),
            )
        self.console.print(table)
        if not everything:
            self.console.print(
                "  [dim]every value with its reason: --dry-run; what a key means: goodfit explain KEY[/]"
            )

    def begin(self, total: int, step: int, metric: str) -> None:
        """Training starts (or goes on at ``step``)."""
        self._total, self._first, self._step, self._metric = total, step, step, metric
        self._began = time.monotonic()
        self._samples = 0
        if self.quiet or not self.console.is_terminal:
            return
        self._progress = Progress(
            TextColumn("  "),
            BarColumn(bar_width=18),
            TextColumn("{task.fields[text]}"),
            console=self.console,
            transient=True,
            refresh_per_second=4,
        )
        self._job = self._progress.add_task("", total=total, completed=step, text="first step")
        self._progress.start()

    def step(self, moment: Moment, loss: Tensor, lr: float, samples: int) -> None:
        """Called after every step; draws at most four times a second, and only then reads the loss."""
        self._step, self._loss, self._lr = moment.step + 1, loss, lr
        self._samples += samples
        now = time.monotonic()
        if self._progress is not None and now - self._drawn > 0.25:
            self._drawn = now
            self._progress.update(self._job, completed=self._step, text=self._text())

    def evaluated(self, moment: Moment, row: Mapping[str, float], best: bool) -> None:
        """Called after a validation; where there is no terminal a line at most every two seconds."""
        self._valid = f"{self._metric} {row[self._metric]:.4f}"
        if self._progress is not None:
            self._progress.update(self._job, completed=self._step, text=self._text())
        elif not self.quiet:
            now = time.monotonic()
            if now - self._printed > 2 or moment.step + 1 >= self._total:
                self._printed = now
                mark = " (best)" if best else ""
                self.console.print(
                    f"  step {self._step:,}/{self._total:,}  {escape(self._text())}{mark}", soft_wrap=True
                )

    def end(self) -> None:
        """Training is over; the progress line goes."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def results(
        self, results: Mapping[str, Any], folder: Path, report: Path, *, source: str, then: Sequence[Suggestion] = ()
    ) -> None:
        """One screen: how good, how sure, against what, and the next commands to type.

        then: experiments, the strongest first.
        """
        name = results["headline"]
        main = results["metrics"][name]
        self.console.print()
        self.console.print(
            f"[bold]{escape(main['title'])} {escape(figure(main))}[/] on validation  [dim]{escape(interval(main))}[/]"
        )
        if self.quiet:
            self.console.print(f"  {folder}")
            return
        others = [m for k, m in results["metrics"].items() if k != name and m["value"] is not None]
        table = Table(box=None, padding=(0, 2, 0, 2), header_style="dim")
        for column in ("metric", "value", "95 % interval"):
            table.add_column(column, justify="left" if column == "metric" else "right", no_wrap=True)
        for one in others:
            table.add_row(escape(one["title"]), figure(one), interval(one).strip("()"))
        self.console.print(table)
        self._baselines(results, name)
        heat = results.get("temperature")
        if heat:
            self.line(
                f"  calibrated: temperature {heat['value']:.3f}, log loss {heat['log_loss_before']:.4f} -> "
                f"{heat['log_loss_after']:.4f}"
                if heat["value"] != 1.0
                else f"  calibration: temperature {heat['note']}"
            )
        self.line(
            f"  {results['steps']:,} steps in {clock(results['seconds'])} ({results['ended']}); "
            f"{results['parameters']:,} parameters"
        )
        for sentence in training_words(results):
            self.line(f"  {sentence}")
        warning = (results.get("clipping") or {}).get("warning")
        if warning:
            self.warn(f"  {warning}")
        self.console.print(f"\n  report   [link=file://{report.resolve()}]{escape(str(report))}[/link]")
        self.console.print(
            f"  [dim]next:[/]    goodfit test {escape(str(folder))}      [dim]opens the locked test part[/]"
        )
        use = 'generate {} --prompt "..."' if results["task"] == "language" else "predict {} NEW_DATA"
        self.console.print(f"           goodfit {use.format(escape(str(folder)))}", soft_wrap=True)
        for one in then:
            self.command(one.command, f"{cost(one.minutes)}; {one.why}", mark="try:")

    def command(self, text: str, does: str = "", *, mark: str = "next:") -> None:
        """A command to type, in one line whatever its length so that it can be copied, and what it does."""
        if self.quiet:
            return
        self.console.print(f"  [dim]{mark:<8}[/] {escape(text)}", soft_wrap=True)
        if does:
            self.console.print(f"           [dim]{escape(does)}[/]", soft_wrap=True)

    def test(self, results: Mapping[str, Any], folder: Path) -> None:
        """The metrics of the test part, and how often it was opened."""
        table = Table(box=None, padding=(0, 2, 0, 2), header_style="dim")
        for column in ("metric", "test", "95 % interval"):
            table.add_column(column, justify="left" if column == "metric" else "right", no_wrap=True)
        for name, one in results["metrics"].items():
            if one["value"] is not None:
                bold = ("[bold]", "[/]") if name == results["headline"] else ("", "")
                table.add_row(bold[0] + escape(one["title"]) + bold[1], figure(one), interval(one).strip("()"))
        self.console.print(table)
        times = results["openings"]
        self.console.print(
            f"  {results['samples']:,} test samples, opened {times} time{'s' if times > 1 else ''}"
            + ("; choices made after the first look are no longer unbiased" if times > 1 else "")
        )
        self.console.print(f"  [dim]written to[/] {escape(str(folder / 'test.json'))}")

    def batch(self, batch: Batch, step: int) -> None:
        """A batch: which samples, and what numbers are in it."""
        named = batch.inputs if isinstance(batch.inputs, dict) else {"inputs": batch.inputs}
        rows = [("samples", ", ".join(str(one) for one in batch.index.tolist()))]
        for name, values in {**named, "targets": batch.targets}.items():
            numbers = values.double()
            fine = numbers[numbers.isfinite()]
            spread = f"{fine.min():.4g} to {fine.max():.4g}, mean {fine.mean():.4g}" if fine.numel() else "none finite"
            broken = batch.index[~numbers.isfinite().reshape(len(numbers), -1).all(1)].tolist()
            bad = f"; NOT FINITE in samples {', '.join(map(str, broken))}" if broken else ""
            rows.append((name, f"{tuple(values.shape)} {str(values.dtype)[6:]}, {spread}{bad}"))
        self.heading(f"The batch of step {step:,}")
        self.rows(rows)

    def ensemble(self, found: Mapping[str, Any]) -> None:
        """An ensemble's metrics next to its members'."""
        names = [n for n, one in found["ensemble"].items() if one["value"] is not None]
        names = [found["headline"], *(n for n in names if n != found["headline"])][:4]
        table = Table(box=None, padding=(0, 2, 0, 2), header_style="dim")
        table.add_column("", no_wrap=True)
        for name in names:
            table.add_column(found["ensemble"][name]["title"], justify="right", no_wrap=True)
        for folder, metrics in found["members"].items():
            table.add_row(escape(folder), *(figure(metrics[name]) for name in names))
        table.add_row("[bold]together[/]", *(f"[bold]{figure(found['ensemble'][name])}[/]" for name in names))
        self.console.print(table)
        main = found["ensemble"][found["headline"]]
        self.console.print(f"  on {found['samples']:,} validation samples; together {escape(interval(main))}")

    def soup(self, told: Mapping[str, Any], folder: Path) -> None:
        """What went into a soup and what came out."""
        table = Table(box=None, padding=(0, 2, 0, 2), header_style="dim")
        for column in ("", told["metric"], ""):
            table.add_column(column, no_wrap=True)
        for run, value in told["alone"].items():
            table.add_row(escape(run), f"{value:.4f}", "taken" if run in told["taken"] else "left out")
        table.add_row("[bold]together[/]", f"[bold]{told['together']:.4f}[/]", "")
        self.console.print(table)
        if len(told["taken"]) == 1:
            self.line("  averaging made none better: these are the best run's own weights")
        self.console.print(f"  [dim]written to[/] {escape(str(folder))}")

    def _baselines(self, results: Mapping[str, Any], name: str) -> None:
        rows = results.get("baselines") or []
        better = results["metrics"][name]["better"]
        if not rows:
            return
        table = Table(box=None, padding=(0, 2, 0, 2), header_style="dim")
        table.add_column("against", no_wrap=False)
        table.add_column(results["metrics"][name]["title"], justify="right", no_wrap=True)
        table.add_column("")
        own = results["metrics"][name]["value"]
        for row in rows:
            value = row["metrics"].get(name)
            if value is None:
                table.add_row(escape(row["name"]), "-", escape(row.get("note", "")))
                continue
            won = own > value if better == "higher" else own < value
            table.add_row(escape(row["name"]), f"{value:.4f}", "[green]beaten[/]" if won else "[yellow]not beaten[/]")
        self.console.print(table)

    def _text(self) -> str:
        spent = max(time.monotonic() - self._began, 1e-6)
        done = self._step - self._first
        left = spent / max(done, 1) * (self._total - self._step)
        loss = f"loss {float(self._loss):.4f}" if self._loss is not None else ""
        parts = [loss, self._valid, f"lr {self._lr:.1e}", f"{self._samples / spent:,.0f}/s", f"{clock(left)} left"]
        return "  ".join(p for p in parts if p)


def counted(findings: Sequence[Finding]) -> str:
    """How much was found; advice is no finding.

    >>> counted([]), counted([Finding("a", "error", "x"), Finding("b", "advice", "y")])
    ('nothing wrong was found', '1 finding, 1 certain, and 1 piece of advice')
    """
    advice = sum(f.severity == "advice" for f in findings)
    graver, count = sum(f.severity == "error" for f in findings), len(findings) - advice
    what = "nothing wrong was found" if not count else f"{count} finding{'s' * (count > 1)}, {graver} certain"
    return what + (f", and {advice} piece{'s' * (advice > 1)} of advice" if advice else "")


def _value(key: str, value: Any) -> str:
    """A plan's value as a table has room for it."""
    if value is True and key.startswith("batch."):
        return "on"
    if isinstance(value, list | tuple) and len(value) > 4:
        return f"{len(value)} values"
    if isinstance(value, list | tuple):
        return ", ".join(f"{one:.4g}" if isinstance(one, float) else str(one) for one in value)
    return "-" if value is None else value[:12] if key.endswith(".digest") else str(value)


def clock(seconds: float) -> str:
    """Seconds as a person writes them.

    >>> clock(3), clock(75), clock(7300)
    ('3 s', '1:15', '2:01:40')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def figure(metric: Mapping[str, Any]) -> str:
    """A metric's value as people write it: shares as per cent."""
    value, unit = metric["value"], metric.get("unit") or ""
    if value is None:
        return "n/a"
    return f"{100 * value:.2f} %" if unit == "%" else f"{value:.4f}"


def interval(metric: Mapping[str, Any]) -> str:
    """A metric's interval, or why there is none."""
    if metric["low"] is None or metric["high"] is None:
        return f"({metric.get('note') or 'no interval'})"
    if (metric.get("unit") or "") == "%":
        return f"({100 * metric['low']:.2f} to {100 * metric['high']:.2f})"
    return f"({metric['low']:.4f} to {metric['high']:.4f})"


def _number(value: Any) -> str:
    """A number as short as it can be told, lists of them in brackets."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        more = f", ... {len(value)} in all" if len(value) > 6 else ""
        return f"[{', '.join(_number(one) for one in value[:6])}{more}]"
    return str(value)
