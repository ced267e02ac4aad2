"""mirrored-symbols: images are mirrored whose mirror image means something else, such as digits and text."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding

PHOTOGRAPH, ONE_WAY, INK = 0.6, 0.75, 0.8


def check(log: Log) -> Finding | str:
    """Images are mirrored whose mirror image means something else, such as digits, letters and text.

    A mirrored cat is a cat; a mirrored 2 is no 2, a mirrored b is a d, and a sign that points left then points right.
    A model that is shown such images learns wrong things, and test-time augmentation asks it about them. Only
    looked at where ``batch.flip`` or ``tta`` mirrors. Evidence: names of classes or of the source that speak of
    symbols or sides, and how often a linear look at the pixels tells an image from its mirror image: a half is
    guessing, as on photographs (0.51 on CIFAR-10), and 0.82 on 8x8 digits. Ink on paper counts without a name.
    Fix: leave the flip out. False alarms: things that always face one way (shoes in a catalogue) but could turn.
    Classes called by single characters, of images that cannot be told from their mirror images, are advice only: they
    may be numbered photographs, or digits among much else (house numbers).
    """
    by = log["mirror.by"]
    if not by:
        return "nothing mirrors the inputs"
    apart, ink = log.get("mirror.told_apart"), log.get("mirror.ink", 0.0)
    names, source = log.get("mirror.names", ""), log.get("mirror.source", "")
    does = " and ".join(by) + (" mirror" if len(by) > 1 else " mirrors")
    evidence = {"mirrored_by": list(by)} | ({} if apart is None else {"told_apart": apart, "ink": ink})
    pixels = "" if apart is None else f", and {apart:.0%} of images can be told from their mirror images"
    fix = " ".join(f"--set {key}={'none' if key == 'tta' else 'false'}" for key in by)
    patch = {key: "none" if key == "tta" else False for key in by}
    why = f"the source's name speaks of '{source}'" if source else names
    if not why and apart is not None and apart >= ONE_WAY and ink >= INK:
        why = "they look like ink on paper"
    if not why:
        return f"{does}; a mirror image means the same as far as names and pixels tell{pixels}"
    doubtful = not source and apart is not None and apart < PHOTOGRAPH
    message = (
        f"{does} images that may be symbols ({why}{pixels})"
        if doubtful
        else f"{does} images, and mirrored ones seem to mean something else: {why}{pixels}"
    )
    return Finding(
        "mirrored-symbols", "advice" if doubtful else "warning", message, "batch", evidence, fix, patch
    )  # fmt: skip


RULE = Rule("mirrored-symbols", check, ("mirror.by",))
