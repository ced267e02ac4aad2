"""A text file as a stream of tokens, cut into windows: at each position the next token is to be foreseen."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from goodfit import keyed
from goodfit.data.data import Data
from goodfit.data.delimited import decode
from goodfit.data.files import refuse_special
from goodfit.data.like import language_tokenizer, run_encoder
from goodfit.data.words import plain_json, tokenizer_from, train_bpe
from goodfit.errors import DataError
from goodfit.recipe import DataSettings, TaskSettings
from goodfit.types import Batch, Inputs, InputSpec, Task

PAD, UNKNOWN = 0, 1
_SHARES = (0.05, 0.05)
_LENGTH = 128
_BPE_VOCABULARY = 4096
_CHUNK = 4096


@dataclass(frozen=True)
class Windows:
    """A part of a token stream as windows that touch each other and do not overlap.

    stream: ``(tokens,)`` int64. Window ``i`` reads tokens ``offset + i * length`` on and foresees each one's
    successor, so every token but the first is foreseen once. A last window that is not full is padded; its targets
    there are -100.
    full: leave that last window out. characters: how many characters of text the targets are.
    """

    stream: Tensor
    length: int
    offset: int = 0
    full: bool = False
    characters: int = 0

    def __len__(self) -> int:
        tokens = len(self.stream) - 1 - self.offset
        return max(tokens // self.length if self.full else -(-tokens // self.length), 1)

    @property
    def index(self) -> Tensor:
        """Window numbers."""
        return torch.arange(len(self))

    @property
    def targets(self) -> Tensor:
        """``(windows, length)`` int64: all successors, -100 behind the end."""
        return self.take(self.index).targets

    def take(self, positions: Tensor) -> Batch:
        """The windows at these positions: inputs and targets ``(batch, length)`` int64."""
        at = (self.offset + positions.cpu() * self.length)[:, None] + torch.arange(self.length)
        last = len(self.stream) - 1
        behind = at >= last
        inputs = self.stream[at.clamp_max(last)].masked_fill_(at > last, PAD)
        targets = self.stream[(at + 1).clamp_max(last)].masked_fill_(behind, -100)
        return Batch(inputs, targets, None, positions.cpu())

    def batches(self, plan: Sequence[Tensor]) -> Iterator[Batch]:
        """One gathered batch for each tensor of positions."""
        for positions in plan:
            yield self.take(positions)

    def shifted(self, seed: int, epoch: int) -> Windows:
        """The same stream cut elsewhere: an offset keyed by seed and epoch; the number of windows stays.

        With it a model sees other left contexts in every epoch. The train part keeps one window in reserve for that.
        """
        room = len(self.stream) - 1 - len(self) * self.length
        if room <= 0:
            return self
        offset = int(keyed.integers(keyed.key(seed, "windows", epoch), torch.zeros(1, dtype=torch.int64), 0, room + 1))
        return replace(self, offset=offset)


@dataclass(frozen=True)
class LanguageEncoder:
    """Text as token numbers: characters (0 padding, 1 unknown, then the train part's characters) or byte pairs."""

    length: int
    characters: str = ""
    bpe: str = ""
    kind: ClassVar[str] = "language"

    @property
    def size(self) -> int:
        """How many token numbers there are."""
        return tokenizer_from(self.bpe).get_vocab_size() if self.bpe else len(self.characters) + 2

    @property
    def spec(self) -> InputSpec:
        """What the inputs look like."""
        return InputSpec("language", shape=(self.length,), vocabulary=self.size, length=self.length)

    @property
    def names(self) -> tuple[str, ...]:
        """What each token number stands for."""
        if not self.bpe:
            return ("\u2400", "\ufffd", *self.characters)
        tokenizer = tokenizer_from(self.bpe)
        return tuple(str(tokenizer.id_to_token(number)) for number in range(tokenizer.get_vocab_size()))

    @property
    def silent(self) -> tuple[int, ...]:
        """Token numbers that stand for no text: padding and unknown. In a borrowed tokenizer 0 and 1 may be others."""
        if not self.bpe:
            return PAD, UNKNOWN
        tokenizer = tokenizer_from(self.bpe)
        return tuple(number for number in (PAD, UNKNOWN) if tokenizer.id_to_token(number) in ("<pad>", "<unknown>"))

    def tokens(self, text: str) -> Tensor:
        """``(1, T)`` int64, T at least 1: a text's token numbers, as a model wants its prompt."""
        numbers = self.stream(text)
        return (numbers if len(numbers) else torch.full((1,), UNKNOWN))[None]

    def stream(self, text: str) -> Tensor:
        """``(T,)`` int64: a text's token numbers."""
        if self.bpe:
            encoded = tokenizer_from(self.bpe).encode_batch_fast(_chunks(text), add_special_tokens=False)
            return torch.tensor([number for one in encoded for number in one.ids], dtype=torch.int64)
        known = np.asarray([ord(one) for one in self.characters], np.int64)
        codes = np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), np.uint32).astype(np.int64)
        order = np.argsort(known)
        place = np.minimum(np.searchsorted(known[order], codes), len(known) - 1)
        return torch.from_numpy(np.where(known[order][place] == codes, order[place] + 2, UNKNOWN))

    def text(self, tokens: Tensor) -> str:
        """The text that token numbers of any shape stand for."""
        numbers = [int(one) for one in tokens.flatten().tolist()]
        if self.bpe:
            return str(tokenizer_from(self.bpe).decode(numbers))
        return "".join(self.names[number] for number in numbers if number != PAD)

    def encode(self, source: Any, *, targets: bool = False) -> Windows:
        """A text file, or a text itself, as windows; the targets are always there."""
        if isinstance(source, str | Path) and (isinstance(source, Path) or _is_file(source)):
            text = _read(Path(source))[0]
        elif isinstance(source, str):
            text = source
        else:
            raise DataError(f"a {type(source).__name__} is no text; give a .txt file or a string")
        stream = self.stream(text)
        if len(stream) < 2:
            raise DataError("a text of fewer than two tokens has nothing to foresee; give more")
        return self.windows(stream, text)

    def windows(self, stream: Tensor, text: str, *, full: bool = False) -> Windows:
        """A text's tokens as windows that know how many characters they foresee: all but the first token's."""
        return Windows(stream, self.length, full=full, characters=len(text) - len(self.text(stream[:1])))

    def prepare(self, inputs: Inputs) -> Inputs:
        """Token numbers go to the model as they are."""
        return inputs

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "kind": self.kind,
            "length": self.length,
            "characters": self.characters,
            "bpe": json.loads(self.bpe) if self.bpe else None,
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The encoder that ``to_json`` described."""
        return cls(int(values["length"]), values["characters"], json.dumps(values["bpe"]) if values["bpe"] else "")


def read_language(path: Path, settings: DataSettings, task: TaskSettings) -> Data:
    """A text file as language-modelling data: the first 90 % for training, then 5 % each for validation and test.

    Other shares where ``data.valid`` or ``data.test`` differ from their defaults. With ``data.test_source`` that file
    is the test part, and nothing else is set aside for it. Raises DataError for a text too short.
    """
    if task.kind not in ("auto", "language"):
        raise DataError(
            f"task.kind = '{task.kind}' needs a table, and {path.name} is a text; give a CSV with a text column"
        )
    if settings.tokens == "words":
        raise DataError("data.tokens = 'words' is for classifying texts; for language modelling say characters or bpe")
    text, findings, digest = _read(path)
    default = DataSettings()
    valid, test = (
        _SHARES if (settings.valid, settings.test) == (default.valid, default.test) else (settings.valid, settings.test)
    )
    held = 0.0 if settings.test_source is not None else test
    ends = [round(len(text) * (1 - valid - held)), round(len(text) * (1 - held)), len(text)]
    pieces = [text[: ends[0]], text[ends[0] : ends[1]], text[ends[1] :]]
    if settings.test_source is not None:
        pieces[2], more, other = _read(Path(settings.test_source).expanduser())
        test, findings = 1.0, [*findings, *more]
        digest = hashlib.sha256(f"{digest}:{other}".encode()).hexdigest()
    known = run_encoder(settings.like, "language")
    own = language_tokenizer(settings.like)
    length = settings.length or (int(known["length"]) if known else _LENGTH)
    if known is not None:
        encoder = replace(LanguageEncoder.from_json(known), length=length)
    elif own:
        encoder = LanguageEncoder(length, bpe=own)
    elif settings.tokens == "bpe":
        encoder = LanguageEncoder(
            length, bpe=plain_json(train_bpe(_chunks(pieces[0]), settings.vocabulary or _BPE_VOCABULARY))
        )
    else:
        if settings.vocabulary is not None:
            raise DataError("data.vocabulary goes with data.tokens = 'bpe'; characters are all kept")
        encoder = LanguageEncoder(length, characters="".join(sorted(set(pieces[0]))))
    streams = [encoder.stream(piece) for piece in pieces]
    for piece, stream, share in zip(("train", "valid", "test"), streams, (1.0, valid, test), strict=True):
        if share > 0 and len(stream) < min(length, 32) + 1:
            raise DataError(
                f"{path.name} is too short: its {piece} part has {len(stream)} tokens, fewer than one window of "
                f"{length}; give a longer text, or set data.length lower"
            )
    parts = [
        encoder.windows(stream, piece, full=number == 0 and len(stream) > 2 * length)
        for number, (stream, piece) in enumerate(zip(streams, pieces, strict=True))
    ]
    unknown = int(sum((stream == UNKNOWN).sum() for stream in streams[1:]))
    size = encoder.size
    summary = (
        ("text", f"{len(text):,} characters"),
        ("tokens", f"{size:,} different {'byte pairs' if encoder.bpe else 'characters'}, windows of {length}"),
        ("task", f"language: foresee the next {'token' if encoder.bpe else 'character'} of a .txt file"),
        (
            "split",
            f"{len(streams[0]):,} train, {len(streams[1]):,} valid, {len(streams[2]):,} test tokens, "
            + ("by position" if settings.test_source is None else "by position; the test part is its own file"),
        ),
        *((("unknown", f"{unknown:,} characters of valid and test never occur in train"),) if unknown else ()),
    )
    return Data(
        path.name,
        encoder.spec,
        Task("language", "next token", size, encoder.names if size <= 1000 else ()),
        parts[0],
        parts[1],
        parts[2],
        encoder,
        encoder.prepare,
        summary,
        tuple(findings),
        digest,
    )


def _chunks(text: str) -> list[str]:
    """The text in pieces that end with a line: a tokenizer takes far longer for one long text than for its pieces."""
    pieces, start = [], 0
    while start < len(text):
        end = text.find("\n", start + _CHUNK)
        end = len(text) if end < 0 else end + 1
        pieces.append(text[start:end])
        start = end
    return pieces


def _read(path: Path) -> tuple[str, list[Any], str]:
    refuse_special(path)
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; check the path") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
    if not raw:
        raise DataError(f"{path.name} is empty (0 bytes); give a text")
    text, findings = decode(raw, path.name)
    if not text.strip():
        raise DataError(f"{path.name} holds nothing but white space; give a text")
    return text.replace("\r\n", "\n"), findings, hashlib.sha256(raw).hexdigest()


def _is_file(source: str) -> bool:
    try:
        return len(source) < 4096 and "\n" not in source and Path(source).is_file()
    except (OSError, ValueError):
        return False
