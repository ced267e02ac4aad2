"""A small WordNet in the format of its database files, written from the description wndb(5WN)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

LICENCE = "".join(f"  {number} A licence of several lines, each indented by two blanks.  \n" for number in range(1, 4))


class Set(NamedTuple):
    """Words of one meaning. tagged: how often a lemma's sense was counted in texts, as the index tells."""

    part: str
    words: tuple[str, ...]
    tagged: int = 0


def write_wordnet(folder: Path, sets: Sequence[Set]) -> Path:
    """Write ``index.*`` and ``data.*`` for these sets; of a lemma's senses the first given is the most common."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, letter in (("noun", "n"), ("verb", "v"), ("adj", "a"), ("adv", "r")):
        data, places = LICENCE, {}
        for one in sets:
            if one.part != part:
                continue
            place = len(data.encode())
            words = " ".join(f"{word} {number:x}" for number, word in enumerate(one.words))
            data += f"{place:08d} 03 {letter} {len(one.words):02x} {words} 001 @ 00001740 {letter} 0000 | a gloss  \n"
            for word in one.words:
                lemma = word.partition("(")[0].lower()
                places.setdefault(lemma, []).append((place, one.tagged))
        index = LICENCE
        for lemma, found in sorted(places.items()):
            senses, tagged = len(found), sum(count > 0 for _, count in found)
            offsets = " ".join(f"{place:08d}" for place, _ in found)
            index += f"{lemma} {letter} {senses} 2 @ ~ {senses} {tagged} {offsets}  \n"
        (folder / f"data.{part}").write_text(data)
        (folder / f"index.{part}").write_text(index)
    return folder
