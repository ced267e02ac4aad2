"""scheduler-unit: a scheduler is stepped in another unit than it was made for."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> list[Finding] | str:
    """A scheduler made for steps is stepped once an epoch, or one made for epochs is stepped for every batch.

    ``OneCycleLR`` whose ``total_steps`` is a multiple of the updates of an epoch (epochs times batches), stepped once
    in the first epoch: the warm-up never ends. ``CosineAnnealingLR`` whose ``T_max`` was passed in the first epoch, so
    that the rate rises again; or a rate that stays at nothing for 20 updates.

    Look-alikes that do not count: a schedule that ends with the training; restarts (``CosineAnnealingWarmRestarts``).

    Fix: give the number of scheduler steps that will really be made.
    """
    found = []
    for one in log["schedules"].values():
        said = ""
        if (
            one.kind == "OneCycleLR"
            and one.epochs >= 1
            and one.batches >= 4
            and one.steps_first_epoch <= 1
            and one.horizon >= 2 * one.batches
            and one.horizon % one.batches == 0
        ):
            said = f"OneCycleLR is made for {one.horizon:,} steps and has made {one.steps} in {one.updates:,} updates"
            fix = "call scheduler.step() after every optimizer.step()"
        elif one.rose_again >= 2:
            said = f"{one.kind} passed its T_max of {one.horizon} steps and the rate rises again"
            fix = "make T_max the number of scheduler steps, or step once an epoch"
        elif one.dead >= 20:
            fell = f"from {one.highest:.3g} to {one.lr:.3g}"
            said = f"{one.kind} has brought the rate {fell}, and {one.dead} updates followed"
            fix = "make the schedule as long as the training, or step it once an epoch"
        if said:
            found.append(
                Finding(
                    "scheduler-unit",
                    "error",
                    said,
                    one.where,
                    {"scheduler steps": one.steps, "made for": one.horizon, "updates": one.updates, "lr": one.lr},
                    fix,
                    why="the rate is not what the schedule was drawn to be",
                )
            )
    return found or "schedulers step in their own unit"


RULE = Rule("scheduler-unit", check, ("schedules",), status="stable")
