"""WordNet, read from its own database files: the words that can stand for a word."""

from __future__ import annotations

import hashlib
import os
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

from goodfit.errors import RecipeError

_PARTS = ("noun", "verb", "adj", "adv")
_FUNCTION_WORDS = """
a about above after again against ago all almost alone along already also although always am among an and another any
anybody anyone anything anywhere are around as at away back be because become been before behind being below beneath
beside besides between beyond both but by can cannot could did do does doing done down during each either else enough
even ever every everybody everyone everything except few for from further had has have having he hence her here hers
herself him himself his how however i if in inside instead into is it its itself just least less lest like many may me
might mine more most much must my myself near neither never no nobody none nor not nothing now nowhere of off often on
once one only onto or other others ought our ours ourselves out outside over own per perhaps quite rather same shall
she should since so some somebody someone something sometimes somewhere still such than that the their theirs them
themselves then there these they this those though through thus till to together too toward towards two under unless
unlike until up upon us very was we well were what whatever when whenever where wherever whether which while who
whoever whom whose why will with within without would yes yet you your yours yourself
"""
"""Words that hold a sentence together. WordNet lists some as other things: "a" is an angstrom, "he" is helium."""


class WordNet:
    """Princeton's lexical database, or another in its format (WNDB): files ``index.noun``, ``data.noun`` and so on.

    path: the folder of the files, or a zip file that holds them. Raises RecipeError where they are not there.
    Source: Fellbaum 1998; the format is wndb(5WN) of WordNet 3.0.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        files = {f"{kind}.{part}": b"" for part in _PARTS for kind in ("index", "data")}
        for name in files:
            found = _content(path, name)
            if found is None:
                raise RecipeError([f"{path} is no WordNet: {name} is missing; give the folder with index.noun in it"])
            files[name] = found
        self._data = {part: files[f"data.{part}"] for part in _PARTS}
        self._senses: dict[str, tuple[int, str, list[int]]] = {}
        for part in _PARTS:
            for number, line in enumerate(files[f"index.{part}"].decode("utf-8", "replace").splitlines(), 1):
                if not line or line[0] == " ":  # the licence stands above, indented
                    continue
                try:
                    self._enter(line.split(), part)
                except (ValueError, IndexError):
                    raise RecipeError(
                        [f"{path}: line {number} of index.{part} is damaged; fetch WordNet anew"]
                    ) from None
        self.digest = hashlib.sha256(b"".join(hashlib.sha256(one).digest() for one in files.values())).hexdigest()
        self._left_alone = frozenset(_FUNCTION_WORDS.split())
        self._known: dict[tuple[str, int], tuple[str, ...]] = {}

    def synonyms(self, word: str, *, senses: int = 1) -> tuple[str, ...]:
        """Words that share one of a word's ``senses`` most common senses, as the part of speech it is mostly used as.

        Function words have none, and neither have inflected forms: WordNet lists base forms.
        """
        key = (word.lower(), senses)
        if key not in self._known:
            self._known[key] = tuple(dict.fromkeys(self._found(*key)))
        return self._known[key]

    def _enter(self, fields: list[str], part: str) -> None:
        """A line of an index: lemma, kind, senses, pointers and which, senses, tagged ones, and each sense's place."""
        lemma, pointers = fields[0], int(fields[3])
        tagged = int(fields[5 + pointers])
        if lemma not in self._senses or tagged > self._senses[lemma][0]:
            self._senses[lemma] = (tagged, part, [int(place) for place in fields[6 + pointers :]])

    def _found(self, word: str, senses: int) -> Iterator[str]:
        if word in self._left_alone or word not in self._senses:
            return
        _, part, places = self._senses[word]
        for place in places[:senses]:
            for other in self._words(part, place):
                if other.lower() != word:
                    yield other

    def _words(self, part: str, place: int) -> Iterator[str]:
        """The words of the set at this byte: place, file, kind, how many (hexadecimal), then word and number each."""
        data = self._data[part]
        fields = data[place : data.find(b"\n", place)].decode("utf-8", "replace").split()
        if len(fields) < 6 or fields[0] != f"{place:08d}":
            raise RecipeError([f"{self.path}: index.{part} and data.{part} do not fit together; fetch WordNet anew"])
        for name in fields[4 : 4 + 2 * int(fields[3], 16) : 2]:
            # Adjectives may end in a mark of where they stand, such as "galore(ip)".
            yield name.partition("(")[0].replace("_", " ")


def find_wordnet(path: str | None = None) -> WordNet:
    """WordNet in this folder, or where it usually lies: ``WNSEARCHDIR``, ``WNHOME``, a system's package, NLTK's data.

    Raises RecipeError, with what to do, where it is not found. Nothing is downloaded.
    """
    if path is not None:
        return WordNet(Path(path).expanduser())
    for place in usual_places():
        if _content(place, "index.noun") is not None:
            return WordNet(place)
    raise RecipeError(
        [
            "'batch.synonyms' needs WordNet, which is not on this machine; install your system's package "
            "(wordnet-base), or NLTK's data (python -m nltk.downloader wordnet), or say where it lies: "
            "--set batch.synonyms.wordnet=FOLDER"
        ]
    )


def usual_places() -> Iterator[Path]:
    """Where WordNet may lie, the user's own word first."""
    if os.environ.get("WNSEARCHDIR"):
        yield Path(os.environ["WNSEARCHDIR"])
    if os.environ.get("WNHOME"):
        yield Path(os.environ["WNHOME"]) / "dict"
    yield from (Path("/usr/share/wordnet"), Path("/usr/local/WordNet-3.0/dict"), Path("/opt/homebrew/share/wordnet"))
    roots = [Path(one) for one in os.environ.get("NLTK_DATA", "").split(os.pathsep) if one]
    roots += [Path.home() / "nltk_data", *(Path(one, "nltk_data") for one in (sys.prefix, "/usr/share", "/usr/local"))]
    for root in roots:
        for name in ("wordnet", "wordnet31", "wordnet.zip", "wordnet31.zip"):
            yield root / "corpora" / name


def _content(path: Path, name: str) -> bytes | None:
    """A file of a folder, or of a zip that holds such a folder."""
    try:
        if path.is_dir():
            return (path / name).read_bytes()
        if path.suffix == ".zip" and path.is_file():
            with zipfile.ZipFile(path) as archive:
                inside = [one for one in archive.namelist() if one.rpartition("/")[2] == name]
                return archive.read(inside[0]) if inside else None
    except (OSError, zipfile.BadZipFile):
        return None
    return None
