from __future__ import annotations

import collections
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydantic
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from goodfit.data.variants import Rewritten
from goodfit.errors import RecipeError
from goodfit.techniques.batch import ALL
from goodfit.techniques.batch_text import BackTranslation, Synonyms, Variants, pick, with_synonyms
from goodfit.techniques.batch_words import Layout, TokenNoise, WordDrop, WordSwap, layout_of, move_words
from goodfit.techniques.fitted import Fitted, fit_batch
from goodfit.techniques.translation import Sampled, Translator, back_translated, pieces
from goodfit.techniques.wordnet import WordNet
from goodfit.types import Batch, InputSpec, Moment, Tensors
from tests.reference.wordnet import Set, write_wordnet

CPU = torch.device("cpu")
MOMENT = Moment(seed=3, epoch=2, step=17, total=100, steps_per_epoch=8, classes=2)
WORDS = InputSpec("text", shape=(9,), vocabulary=50, length=9)
SETS = [
    Set("noun", ("film", "movie", "picture"), 3),
    Set("adj", ("good", "fine"), 2),
    Set("adj", ("bad", "poor", "ill-made"), 2),
    Set("noun", ("actor", "player"), 1),
]


def rewritten_part(count: int = 40, variants: int = 3) -> Rewritten:
    """Each sample's tokens tell its row and which variant they are."""
    tokens = torch.arange(1, count + 1)[:, None] + torch.zeros(9, dtype=torch.int64)
    made = torch.stack([(tokens + 100 * number) for number in range(1, variants + 1)]).int()
    index = torch.arange(count).flip(0) * 7 + 3
    return Rewritten(tokens, torch.arange(count) % 2, index, None, None, {"synonyms": made, "back_translation": made})


def whole(part: Tensors) -> Batch:
    return part.take(torch.arange(len(part)))


@pytest.fixture(scope="module")
def wordnet(tmp_path_factory: pytest.TempPathFactory) -> WordNet:
    return WordNet(write_wordnet(tmp_path_factory.mktemp("wordnet"), SETS))


# --- words left out and moved ---------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 7), min_size=1, max_size=6), st.integers(0, 10**6), st.floats(0, 1))
def test_moved_words_change_places_in_one_cycle(lengths: list[int], seed: int, p: float) -> None:
    tokens = torch.zeros(len(lengths), 7, dtype=torch.int64)
    for row, length in enumerate(lengths):
        tokens[row, :length] = torch.arange(1, length + 1)
    draws = np.random.default_rng(seed)
    moved, rank = draws.uniform(size=tokens.shape) < p, draws.uniform(size=tokens.shape)
    after = move_words(tokens, torch.from_numpy(moved), torch.from_numpy(rank))
    for row, length in enumerate(lengths):
        expected = tokens[row].tolist()
        places = sorted((k for k in range(length) if moved[row, k]), key=lambda k: rank[row, k])
        for at, place in enumerate(places):
            expected[place] = int(tokens[row, places[at - 1]])
        assert after[row].tolist() == expected
        if len(places) > 1:
            assert all(after[row, k] != tokens[row, k] for k in places)


def test_swapping_keeps_every_word_and_the_padding() -> None:
    tokens = torch.randint(1, 50, (200, 30))
    tokens[:, 20:] = 0
    after = WordSwap(p=0.3)(Batch(tokens, torch.zeros(200).long(), None, torch.arange(200)), MOMENT).inputs
    assert isinstance(after, Tensor)
    assert torch.equal(after.sort(1).values, tokens.sort(1).values)
    assert (after[:, 20:] == 0).all()
    share = float((after != tokens)[:, :20].float().mean())
    assert 0.24 < share < 0.31  # of 30 per cent, those that met an equal word or were alone stay


@pytest.mark.parametrize("cls", [WordDrop, WordSwap])
def test_n_grams_behind_the_words_never_come_among_them(cls: type[Any]) -> None:
    spec = InputSpec("text", shape=(12,), cardinalities=(50, 30, 20), vocabulary=100, length=6)
    words = torch.randint(1, 50, (64, 6))
    words[:, 4:] = 0
    grams = torch.randint(50, 100, (64, 6)).sort(1).values
    part = Tensors(torch.cat([words, grams], 1), torch.zeros(64).long(), torch.arange(64))
    (made,) = fit_batch([cls(p=0.5)], part, spec, device=CPU)
    after = made(whole(part), MOMENT).inputs
    assert (after[:, :6] < 50).all()
    assert ((after[:, 6:] >= 50) | (after[:, 6:] == 0)).all()
    assert not torch.equal(after[:, :6], words)
    if cls is WordSwap:
        assert torch.equal(after[:, 6:], grams)
    else:
        for row, before in zip(after[:, 6:].tolist(), grams.tolist(), strict=True):
            left = [number for number in row if number]
            assert row == left + [0] * (6 - len(left))
            assert not collections.Counter(left) - collections.Counter(before)


@pytest.mark.parametrize("cls", [WordDrop, WordSwap])
def test_marks_at_the_ends_of_every_text_stay(cls: type[Any]) -> None:
    lengths = torch.randint(4, 9, (64, 1))
    tokens = torch.randint(5, 50, (64, 9))
    tokens[:, 0] = 2
    tokens.scatter_(1, lengths, 3)
    tokens = torch.where(torch.arange(9) > lengths, 0, tokens)
    part = Tensors(tokens, torch.zeros(64).long(), torch.arange(64))
    assert sorted(layout_of(part, WORDS, CPU).fixed.tolist()) == [2, 3]
    (made,) = fit_batch([cls(p=0.9)], part, WORDS, device=CPU)
    after = made(whole(part), MOMENT).inputs
    assert (after[:, 0] == 2).all()
    assert ((after == 3).sum(1) == 1).all()
    last = (after != 0).sum(1) - 1
    assert (after.gather(1, last[:, None]) == 3).all()


def test_texts_without_marks_have_no_fixed_words() -> None:
    part = Tensors(torch.randint(1, 50, (64, 9)), torch.zeros(64).long(), torch.arange(64))
    layout = layout_of(part, WORDS, CPU)
    assert layout.columns == 9
    assert layout.fixed.tolist() == []
    made = Fitted(WordDrop(p=0.4), layout)
    assert torch.equal(made(whole(part), MOMENT).inputs, WordDrop(p=0.4)(whole(part), MOMENT).inputs)


@pytest.mark.parametrize("cls", [WordDrop, WordSwap])
def test_fitted_word_techniques_change_a_sample_alike_in_any_batch_and_on_tables(cls: type[Any]) -> None:
    tokens = torch.randint(1, 50, (12, 9))
    part = Tensors(tokens, torch.zeros(12).long(), torch.arange(12) * 5)
    made = Fitted(cls(p=0.4), Layout(7, torch.tensor([4])))
    after = made(whole(part), MOMENT).inputs
    for one in range(12):
        assert torch.equal(made(part.take(torch.tensor([one])), MOMENT).inputs[0], after[one])
    table = whole(part)._replace(inputs={"numeric": torch.randn(12, 2), "tokens": tokens})
    assert torch.equal(made(table, MOMENT).inputs["tokens"], after)
    assert made.until is None
    assert made.name == cls.name


# --- language -------------------------------------------------------------------------------------------------------


def test_token_noise_replaces_the_share_asked_for_by_tokens_of_the_same_window() -> None:
    tokens = torch.arange(1, 33)[None] + torch.arange(300)[:, None] * 100  # every token tells its window
    tokens[0, 20:] = 0
    targets = tokens.roll(-1, 1)
    batch = Batch(tokens, targets, None, torch.arange(300) * 2)
    before = tokens.clone()
    after = TokenNoise(p=0.25)(batch, MOMENT)
    assert isinstance(after.inputs, Tensor)
    assert torch.equal(tokens, before)
    assert after.targets is targets
    assert (after.inputs[0, 20:] == 0).all()
    assert torch.equal(after.inputs[1:] // 100, tokens[1:] // 100)
    changed = (after.inputs != tokens)[1:].float().mean()
    assert abs(float(changed) - 0.25 * 31 / 32) < 0.02  # one in 32 is replaced by itself
    assert torch.equal(TokenNoise(p=0.25)(batch, MOMENT).inputs, after.inputs)
    for one in (0, 7, 299):
        alone = Batch(tokens[one : one + 1], targets[one : one + 1], None, batch.index[one : one + 1])
        assert torch.equal(TokenNoise(p=0.25)(alone, MOMENT).inputs[0], after.inputs[one])
    assert TokenNoise(until="10%")(batch, MOMENT) is batch
    assert torch.equal(TokenNoise(p=0.0)(batch, MOMENT).inputs, tokens)


# --- synonyms -------------------------------------------------------------------------------------------------------


def test_synonyms_replace_the_share_asked_for_and_leave_the_rest(wordnet: WordNet) -> None:
    text = "A good film, with a bad actor -- but the film of the year."
    options = {"film": ("movie", "picture"), "good": ("fine",), "bad": ("poor", "ill-made"), "actor": ("player",)}
    for p, wanted in ((0.0, 1), (0.15, 2), (0.3, 4), (0.9, 5)):
        for variant in with_synonyms([text], wordnet, p=p, variants=6)[0]:
            before, after = text.replace(",", " ,").replace(".", " .").split(), variant.replace(",", " ,")
            pairs = list(zip(before, after.replace(".", " .").split(), strict=True))
            changed = [(old, new) for old, new in pairs if old != new]
            assert len(changed) == wanted
            assert all(new in options[old] for old, new in changed)


def test_synonyms_are_written_as_the_word_was(wordnet: WordNet) -> None:
    made = with_synonyms(["Good", "GOOD", "good"], wordnet, p=0.1, variants=1)
    assert made == [["Fine"], ["FINE"], ["fine"]]


def test_a_text_without_synonyms_stays(wordnet: WordNet) -> None:
    assert with_synonyms(["the of and", ""], wordnet, p=0.5, variants=2) == [["the of and"] * 2, [""] * 2]


def test_a_text_s_variants_depend_on_the_text_alone(wordnet: WordNet) -> None:
    texts = [f"good film number {number} and a bad actor" for number in range(20)]
    together = with_synonyms(texts, wordnet, p=0.2, variants=3)
    assert together[7] == with_synonyms([texts[7]], wordnet, p=0.2, variants=3)[0]
    # All synonyms and all places occur.
    words = collections.Counter(word for one in together for variant in one for word in variant.split())
    assert {"movie", "picture", "fine", "poor", "ill-made", "player"} <= set(words)


def test_only_words_that_the_vocabulary_knows_come_in(wordnet: WordNet) -> None:
    known = {"movie", "fine", "ill"}.__contains__
    made = with_synonyms(["good film, bad actor"] * 1, wordnet, p=0.9, variants=20, known=known)[0]
    assert set(made) == {"fine movie, bad actor"}


# --- the pick -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [Synonyms, BackTranslation])
def test_each_sample_shows_its_own_text_or_one_of_its_variants(cls: type[Any]) -> None:
    part = rewritten_part()
    (made,) = fit_batch([cls()], part, WORDS, device=CPU)
    seen: collections.Counter[int] = collections.Counter()
    for epoch in range(60):
        batch = whole(part)
        after = made(batch, replace(MOMENT, epoch=epoch))
        assert after.inputs.dtype == torch.int64
        assert (after.inputs == after.inputs[:, :1]).all()
        assert torch.equal(after.inputs % 100, batch.inputs)
        assert after.targets is batch.targets
        seen.update((after.inputs[:, 0] // 100).tolist())
    assert set(seen) == {0, 1, 2, 3}
    assert all(500 < count < 700 for count in seen.values())


@pytest.mark.parametrize("cls", [Synonyms, BackTranslation])
def test_the_pick_is_the_same_in_any_batch_and_order_and_changes_with_the_epoch(cls: type[Any]) -> None:
    part = rewritten_part()
    (made,) = fit_batch([cls(until="50%")], part, WORDS, device=CPU)
    batch = whole(part)
    after = made(batch, MOMENT).inputs
    assert torch.equal(batch.inputs, part.inputs)
    assert torch.equal(made(batch, MOMENT).inputs, after)
    assert not torch.equal(made(batch, replace(MOMENT, epoch=3)).inputs, after)
    assert not torch.equal(made(batch, replace(MOMENT, seed=4)).inputs, after)
    order = torch.tensor([5, 0, 31, 3])
    assert torch.equal(made(part.take(order), MOMENT).inputs, after[order])
    for one in range(len(part)):
        assert torch.equal(made(part.take(torch.tensor([one])), MOMENT).inputs[0], after[one])
    late = replace(MOMENT, step=50)
    assert made(batch, late) is batch
    table = batch._replace(inputs={"numeric": torch.randn(40, 2), "tokens": batch.inputs})
    assert torch.equal(made(table, MOMENT).inputs["tokens"], after)


def test_a_sample_without_variants_keeps_its_text() -> None:
    variants = Variants(torch.tensor([4, 9]), torch.tensor([1, 0]), torch.full((3, 2, 5), 7, dtype=torch.int32))
    tokens = torch.ones(3, 5, dtype=torch.int64)
    for place in range(20):
        after = pick(tokens, torch.tensor([5, 3, 100]), variants, place=place)
        assert torch.equal(after, tokens)


@pytest.mark.parametrize("cls", [Synonyms, BackTranslation])
def test_without_texts_they_are_refused_in_one_line(cls: type[Any]) -> None:
    part = rewritten_part()
    with pytest.raises(RecipeError, match=f"batch.{cls.name}.*training texts"):
        cls()(whole(part), MOMENT)
    plain = Tensors(part.inputs, part.targets, part.index)
    with pytest.raises(RecipeError, match=f"batch.{cls.name}.*needs texts in memory"):
        fit_batch([cls()], plain, WORDS, device=CPU)


def test_word_changes_come_after_the_texts_are_picked() -> None:
    names = [one.name for one in ALL]
    assert names.index("synonyms") < names.index("back_translation") < names.index("word_drop")
    assert names.index("word_drop") < names.index("embedding_mixup")


@pytest.mark.parametrize(
    ("cls", "wrong", "range_"),
    [
        (Synonyms, {"p": 1.0}, "less than 1"),
        (Synonyms, {"variants": 0}, "greater than or equal to 1"),
        (Synonyms, {"senses": 0}, "greater than or equal to 1"),
        (BackTranslation, {"temperature": 0.0}, "greater than 0"),
        (BackTranslation, {"variants": 0}, "greater than or equal to 1"),
        (WordSwap, {"p": -0.1}, "greater than or equal to 0"),
        (WordSwap, {"p": 1.0}, "less than 1"),
        (TokenNoise, {"p": 1.0}, "less than 1"),
    ],
)
def test_settings_out_of_range_are_refused_with_the_range(cls: type[Any], wrong: dict[str, Any], range_: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=range_):
        cls(**wrong)


@pytest.mark.parametrize("cls", [WordDrop, WordSwap, Synonyms, BackTranslation])
def test_a_table_without_text_is_refused(cls: type[Any]) -> None:
    assert "no text column" in cls.refuses(InputSpec("table", numeric=3), "tabular")


def test_words_are_not_moved_where_no_order_is_read() -> None:
    assert "takes their mean" in WordSwap.refuses(InputSpec("table", numeric=3, vocabulary=9, length=4), "tabular")
    assert "takes their mean" in WordSwap.refuses(WORDS, "mlp")
    grams = InputSpec("text", shape=(12,), cardinalities=(50, 30, 20), vocabulary=100, length=6)
    assert "set data.tokens = 'words'" in WordSwap.refuses(grams, "bag")
    assert WordSwap.refuses(WORDS, "bag") == ""
    assert WordSwap.refuses(grams, "gru") == ""


# --- translation ----------------------------------------------------------------------------------------------------

SAME = {"good": ("gut", "prima"), "fine": ("gut", "prima"), "bad": ("schlecht", "mies"), "poor": ("schlecht", "mies")}
BACK = {"gut": "good", "prima": "fine", "schlecht": "bad", "mies": "poor"}


@pytest.fixture(scope="module")
def translator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, trained here in a second, that knows eight words of two languages, and translates both ways."""
    transformers = pytest.importorskip("transformers", reason="back-translation needs transformers")
    tokenizers = pytest.importorskip("tokenizers", reason="comes with goodfit")
    words = ["<pad>", "</s>", "<unk>", ".", *SAME, *BACK]
    made = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>")
    )
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.post_processor = tokenizers.processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    torch.manual_seed(0)
    config = transformers.T5Config(
        vocab_size=len(words), d_model=32, d_kv=16, d_ff=32, num_layers=1, num_heads=2, dropout_rate=0.0,
        decoder_start_token_id=0, pad_token_id=0, eos_token_id=1,
    )  # fmt: skip
    model = transformers.T5ForConditionalGeneration(config)
    pairs = [(one, other) for one, others in SAME.items() for other in others]
    pairs += [pair for pair in BACK.items() for _ in range(2)]
    given_ = tokenizer([f"{one}." for one, _ in pairs], return_tensors="pt", padding=True)
    wanted = tokenizer([f"{other}." for _, other in pairs], return_tensors="pt", padding=True)["input_ids"]
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(90):
        model(input_ids=given_["input_ids"], attention_mask=given_["attention_mask"], labels=wanted).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    folder = tmp_path_factory.mktemp("translator")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_texts_come_back_in_other_words(translator: Path) -> None:
    both = Translator(str(translator))
    assert both(["prima.", "mies.", "schlecht.", "gut."]) == ["fine .", "poor .", "bad .", "good ."]
    texts = ["good.", "bad. fine.", "poor."]
    made = back_translated(texts, both, both, variants=12, temperature=0.5)
    assert [len(one) for one in made] == [12, 12, 12]
    assert set(made[0]) == {"good .", "fine ."}
    assert set(made[1]) <= {f"{a} . {b} ." for a in ("bad", "poor") for b in ("good", "fine")}
    assert len(set(made[1])) >= 3
    assert set(made[2]) == {"bad .", "poor ."}


def test_a_translation_does_not_depend_on_its_neighbours(translator: Path) -> None:
    both = Translator(str(translator))
    texts = ["good.", "bad. fine. poor.", "poor. bad.", "fine."]
    together = back_translated(texts, both, both, variants=4, temperature=1.0)
    for text, expected in zip(texts, together, strict=True):
        assert back_translated([text], both, both, variants=4, temperature=1.0) == [expected]


def test_likeliest_tokens_are_those_of_the_model_s_own_steps(translator: Path) -> None:
    both = Translator(str(translator))
    encoded = both.tokenizer(["mies."], return_tensors="pt")
    written = [0]
    while written[-1] != 1 and len(written) < 9:
        decoder = torch.tensor([written])
        logits = both.model(input_ids=encoded["input_ids"], decoder_input_ids=decoder).logits
        written.append(int(logits[0, -1].argmax()))
    assert both.tokenizer.decode(written, skip_special_tokens=True).strip() == both(["mies."])[0]


def test_sampled_tokens_have_the_distribution_of_the_tempered_softmax() -> None:
    logits = torch.tensor([[0.5, -1.0, 2.0, 0.0, -torch.inf]])
    for temperature in (0.5, 1.0, 2.0):
        draws = Sampled(torch.arange(40_000), temperature)(torch.zeros(1, 3), logits.expand(40_000, -1)).argmax(1)
        found = np.bincount(draws.numpy(), minlength=5) / 40_000
        exponent = np.exp(logits[0].double().numpy() / temperature)
        assert np.abs(found - exponent / exponent.sum()).max() < 0.01


def test_sampling_never_meets_an_infinite_number() -> None:
    made = Sampled(torch.arange(2000), 1.0)(torch.zeros(1, 3), torch.zeros(2000, 500))
    assert torch.isfinite(made).all()


def test_long_texts_are_cut_into_sentences_and_those_into_pieces() -> None:
    long = " ".join(str(number) for number in range(130))
    assert pieces(f"One. Two!  Three? {long}") == [
        "One.",
        "Two!",
        "Three?",
        " ".join(map(str, range(60))),
        " ".join(map(str, range(60, 120))),
        " ".join(map(str, range(120, 130))),
    ]
    assert pieces("  ") == []


def test_a_model_that_is_not_here_is_never_downloaded(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="back-translation needs transformers")
    for name in (str(tmp_path / "nowhere"), "somebody/never-downloaded"):
        with pytest.raises(RecipeError, match=r"batch.back_translation.download = true") as caught:
            Translator(name)
        assert "\n" not in str(caught.value)
