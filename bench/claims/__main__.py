"""``python -m bench.claims [NAMES] --data DIR --budget 10m``: measure claims, and write ``docs/claims.md``."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from bench import record
from bench.claims import page
from bench.claims.claim import Claim, Measured, judge, overall
from bench.claims.place import NoTime, Place
from bench.claims.registry import CLAIMS
from bench.data_sets import default_folder
from goodfit.errors import nearest
from goodfit.studies.ablation import seconds_from


def chosen(names: Sequence[str], measured: dict[str, Measured]) -> list[Claim]:
    """The claims of these names; of no names all, first those that were not measured yet."""
    known = {one.name: one for one in CLAIMS}
    if wrong := [name for name in names if name not in known]:
        raise SystemExit(f"there is no claim '{wrong[0]}'{nearest(wrong[0], known)}; --list names them")
    return [known[name] for name in names] or sorted(CLAIMS, key=lambda one: one.name in measured)


def measure(claim: Claim, place: Place) -> Measured:
    """Measure one claim now."""
    began = time.monotonic()
    with record.shared_cpu() as others:
        findings = claim.measure(place)
    spent = round(time.monotonic() - began, 1)
    return Measured(claim.name, findings, spent, others[0] if others else None, record.this_machine())


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.claims", description="Measure what courses claim.")
    parser.add_argument("names", nargs="*", help="claims; all unless given, first those that were not measured yet")
    parser.add_argument("--data", type=Path, default=default_folder(), help="the folder with the real data")
    parser.add_argument("--budget", help="such as 10m; what does not fit is left for the next time")
    parser.add_argument("--seeds", type=int, help="pairs, in place of each claim's own number")
    parser.add_argument("--out", type=Path, default=Path("runs/claims"), help="runs are kept here and not made again")
    parser.add_argument("--quick", action="store_true", help="two pairs of 20 steps each, shown and not kept")
    parser.add_argument("--list", action="store_true", help="the names of the claims and their minutes")
    parser.add_argument("--page", action="store_true", help="write docs/claims.md anew from the numbers that there are")
    asked = parser.parse_args(arguments)
    if asked.list:
        for one in CLAIMS:
            print(f"{one.name:24}{one.pairs:3} pairs  {one.minutes:4.1f} min  {one.title}")
        print(f"{sum(one.minutes for one in CLAIMS):.0f} minutes in all, on one quiet core")
        return
    if asked.page:
        page.PAGE.write_text(page.render(page.read()), encoding="utf-8")
        return
    if asked.seeds is not None and asked.seeds < 2:
        parser.error("--seeds: two at least")
    limit = seconds_from(asked.budget)
    deadline = None if limit is None else time.monotonic() + limit
    claims, left = chosen(asked.names, page.read()), []
    asked.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    for claim in claims:
        if deadline is not None and time.monotonic() > deadline - 2:
            left.append(claim.name)
            continue
        missing = [one for one in claim.needs if asked.data is None or not (asked.data / one).is_file()]
        if missing:
            print(f"{claim.name}: not measured, {missing[0]} is missing; give --data DIR")
            continue
        seeds = 2 if asked.quick else asked.seeds or claim.pairs
        print(f"{claim.name}: {claim.title}, {seeds} pairs", flush=True)
        try:
            made = measure(claim, Place(asked.data, asked.out, seeds, deadline, _say, 20 if asked.quick else None))
        except NoTime as late:
            print(f"    {late}; what was run is kept for the next time")
            left.append(claim.name)
            continue
        told = judge(made.findings)
        for each in told:
            found = f"{page.number(each.interval.mean, sign=True)} {each.finding.metric}, {each.word}"
            print(f"  {each.finding.what}: {found}")
        print(f"  {overall(told)}, {made.seconds:.0f} s", flush=True)
        if not asked.quick:
            page.keep(made)
    if left:
        print(f"the time ended before: {' '.join(left)}; the same command goes on")


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
