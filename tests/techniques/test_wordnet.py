from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from goodfit.errors import RecipeError
from goodfit.techniques.wordnet import find_wordnet, usual_places
from tests.reference.wordnet import Set, write_wordnet

SETS = [
    Set("noun", ("film", "movie", "moving_picture"), 3),
    Set("noun", ("film", "plastic_film"), 0),
    Set("noun", ("cover", "screen"), 1),
    Set("verb", ("film", "shoot"), 0),
    Set("verb", ("cover", "wrap"), 4),
    Set("verb", ("cover", "report"), 2),
    Set("adj", ("good", "fine", "galore(ip)"), 5),
    Set("adj", ("many", "numerous")),
    Set("noun", ("helium", "He", "atomic_number_2")),
    Set("adv", tuple(f"word{number}" for number in range(12))),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_wordnet(tmp_path / "dict", SETS)


def test_synonyms_are_the_other_words_of_the_most_common_sense(folder: Path) -> None:
    wordnet = find_wordnet(str(folder))
    assert wordnet.synonyms("film") == ("movie", "moving picture")
    assert wordnet.synonyms("film", senses=2) == ("movie", "moving picture", "plastic film")
    assert wordnet.synonyms("Movie") == ("film", "moving picture")
    assert wordnet.synonyms("shoot") == ("film",)
    assert wordnet.synonyms("unheard") == ()


def test_a_word_counts_as_the_part_of_speech_with_most_tagged_senses(folder: Path) -> None:
    # "cover" has two tagged senses as a verb and one as a noun.
    assert find_wordnet(str(folder)).synonyms("cover", senses=9) == ("wrap", "report")


def test_marks_of_adjectives_are_left_out_and_counts_are_hexadecimal(folder: Path) -> None:
    wordnet = find_wordnet(str(folder))
    assert wordnet.synonyms("good") == ("fine", "galore")
    assert len(wordnet.synonyms("word3")) == 11


def test_function_words_have_no_synonyms(folder: Path) -> None:
    wordnet = find_wordnet(str(folder))
    assert wordnet.synonyms("he") == ()
    assert wordnet.synonyms("many") == ()
    assert wordnet.synonyms("numerous") == ("many",)


def test_a_zip_file_gives_what_its_folder_gives(folder: Path, tmp_path: Path) -> None:
    packed = tmp_path / "wordnet.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for file in folder.iterdir():
            archive.write(file, f"wordnet/{file.name}")
    first, second = find_wordnet(str(folder)), find_wordnet(str(packed))
    assert first.digest == second.digest
    assert second.synonyms("film") == first.synonyms("film")


def test_the_usual_places_are_searched_the_user_s_own_first(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WNSEARCHDIR", "WNHOME", "NLTK_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WNHOME", str(folder.parent))
    assert find_wordnet().path == folder
    monkeypatch.delenv("WNHOME")
    data = tmp_path / "nltk" / "corpora"
    data.mkdir(parents=True)
    folder.rename(data / "wordnet")
    monkeypatch.setenv("NLTK_DATA", str(tmp_path / "nltk"))
    assert data / "wordnet" in list(usual_places())


def test_without_wordnet_one_line_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("goodfit.techniques.wordnet.usual_places", lambda: iter([tmp_path]))
    with pytest.raises(RecipeError, match=r"needs WordNet.*--set batch.synonyms.wordnet=FOLDER") as caught:
        find_wordnet()
    assert "\n" not in str(caught.value)
    with pytest.raises(RecipeError, match=r"index.noun is missing"):
        find_wordnet(str(tmp_path))


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("index.noun", "film n 1 two @ ~ 1 0 00000000\n", "line 1 of index.noun is damaged"),
        ("index.noun", "film n\n", "line 1 of index.noun is damaged"),
        ("data.noun", "nothing", "do not fit together"),
    ],
)
def test_a_damaged_file_is_named(folder: Path, file: str, text: str, said: str) -> None:
    (folder / file).write_text(text)
    with pytest.raises(RecipeError, match=said):
        find_wordnet(str(folder)).synonyms("film")
