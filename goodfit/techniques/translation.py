"""Texts said again in other words: translated into another language, by sampling, and back."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from goodfit import keyed
from goodfit.errors import RecipeError, optional

_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_LONGEST = 60
"""Words that are translated at once at most: translation models learned from sentences."""


class Translator:
    """A translation model of the library transformers, for one direction.

    name: a folder with a saved sequence-to-sequence model and its tokenizer, or a name on the hub that was downloaded
    before; with ``download`` it is fetched where it was not. Raises RecipeError where it cannot be loaded, MissingExtra
    without the library.
    """

    def __init__(self, name: str, *, download: bool = False, device: torch.device | None = None) -> None:
        library = optional("transformers", "text")
        where = {"trust_remote_code": False, "local_files_only": not download}
        log = library.utils.logging
        bars = log.is_progress_bar_enabled()
        log.disable_progress_bar()
        try:
            self.tokenizer: Any = library.AutoTokenizer.from_pretrained(name, **where)
            model: Any = library.AutoModelForSeq2SeqLM.from_pretrained(name, **where)
        except ImportError as error:
            raise RecipeError(
                [f"the tokenizer of '{name}' needs another package ({_line(error)}); run: pip install 'goodfit[text]'"]
            ) from error
        except Exception as error:  # a hub out of reach, a missing or damaged file: each its own
            if not download and not Path(name).expanduser().exists():
                raise RecipeError(
                    [
                        f"the translation model '{name}' is not on this machine; give the folder of a saved model, or "
                        "fetch it once with batch.back_translation.download = true"
                    ]
                ) from error
            raise RecipeError(
                [
                    f"the translation model '{name}' cannot be loaded ({_line(error)}); give the folder of a saved "
                    "sequence-to-sequence model with its tokenizer, or another name"
                ]
            ) from error
        finally:
            if bars:
                log.enable_progress_bar()
        self.device = device or torch.device("cpu")
        self.model = model.to(self.device).eval()
        self.library = library

    @torch.inference_mode()
    def __call__(self, texts: Sequence[str], *, places: Tensor | None = None, temperature: float = 1.0) -> list[str]:
        """One translation of each text; the likeliest token at each step, or with ``places`` sampled ones.

        places: ``(texts,)`` int64, what each text's random numbers are keyed by, so that a text's translation does not
        depend on its neighbours. temperature: logits are divided by it before sampling.
        """
        if not texts:
            return []
        encoded = self.tokenizer(list(texts), return_tensors="pt", padding=True, truncation=True).to(self.device)
        encoded.pop("token_type_ids", None)
        processors = self.library.LogitsProcessorList()
        if places is not None:
            processors.append(Sampled(places.to(self.device), temperature))
        made = self.model.generate(
            **encoded,
            do_sample=False,
            num_beams=1,
            max_new_tokens=int(encoded["input_ids"].shape[1]) * 2 + 8,
            logits_processor=processors,
        )
        return [str(one).strip() for one in self.tokenizer.batch_decode(made, skip_special_tokens=True)]


class Sampled:
    """Turns the likeliest next token into a sampled one: adds keyed Gumbel noise to the logits.

    Formula: ``argmax(z / temperature - log(-log u))`` is a draw from ``softmax(z / temperature)``. Source: Gumbel 1954;
    as a sampler, Yellott 1977.
    """

    def __init__(self, places: Tensor, temperature: float) -> None:
        self.places, self.temperature = places, temperature

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """scores: ``(texts, vocabulary)`` logits of the next token."""
        place = keyed.key(0, "token", int(input_ids.shape[1]))
        uniform = keyed.uniform(place, self.places, scores.shape[1]).double() + 2.0**-25
        return scores.double() / self.temperature - torch.log(-torch.log(uniform))


def pieces(text: str) -> list[str]:
    """A text cut into its sentences, and those into runs of at most 60 words."""
    words = [sentence.split() for sentence in _SENTENCE.split(text.strip()) if sentence]
    return [" ".join(one[at : at + _LONGEST]) for one in words for at in range(0, len(one), _LONGEST)]


def back_translated(
    texts: Sequence[str], there: Translator, back: Translator, *, variants: int, temperature: float
) -> list[list[str]]:
    """``variants`` paraphrases of each text: sampled translations, translated back by the likeliest tokens.

    A pure function of each text: sampling is keyed by the piece of text and the variant's number.
    """
    cut = [pieces(text) for text in texts]
    flat = [piece for one in cut for piece in one]
    found: list[list[str]] = [[] for _ in texts]
    for number in range(variants):
        digests = [hashlib.blake2b(f"{number}\x1f{piece}".encode(), digest_size=8).digest() for piece in flat]
        places = torch.tensor([int.from_bytes(one, "little", signed=True) for one in digests], dtype=torch.int64)
        returned = iter(back(there(flat, places=places, temperature=temperature)))
        for into, one in zip(found, cut, strict=True):
            into.append(" ".join(next(returned) for _ in one))
    return found


def identity(name: str) -> str:
    """What tells a model from another of the same name: of a folder, the names, sizes and times of its files."""
    folder = Path(name).expanduser()
    if not folder.is_dir():
        return name
    files = sorted((one.name, one.stat().st_size, one.stat().st_mtime_ns) for one in folder.iterdir() if one.is_file())
    return f"{name} {files}"


def _line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
