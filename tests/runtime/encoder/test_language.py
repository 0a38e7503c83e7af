import json
import warnings
from importlib.resources import files

import pytest

from spladelet import Encoder, read_documents
from spladelet.encoder.language import is_plainly_not_english
from spladelet.encoder.notices import LanguageWarning

FOREIGN = [
    "Die Katze sitzt auf der Matte und schnurrt, das ist nicht laut.",
    "Le chat est sur le tapis et il ronronne dans la maison avec les enfants.",
    "El gato está en la alfombra y ronronea con los niños de la casa.",
    "Il gatto è sul tappeto e fa le fusa con i bambini della casa, non è rumoroso.",
    "O gato está no tapete e ronrona com as crianças da casa, não é uma surpresa para os pais.",
    "De kat zit op het kleed en spint, dat is niet luid voor een kat.",
    "Katten sitter på mattan och spinner, det är inte högt för en katt som är nöjd.",
    "Кошка сидит на коврике и мурлычет.",
    "猫はマットの上に座っている。",
    "고양이가 매트 위에 앉아 있다.",
    "القط جالس على السجادة",
    "η γάτα κάθεται στο χαλί",
    "बिल्ली चटाई पर बैठी है",
]
ENGLISH = [
    "",
    "?",
    "42",
    "α-synuclein",
    "Das Kapital",
    "El Niño and La Niña years in Los Angeles",
    "de novo synthesis of (E)-β-caryophyllene",
    "the Rue de la Paix in Paris",
    "coq au vin recipe",
    "don quijote de la mancha",
    "TP53 IL-6 TNF-α NF-κB p65",
    "Der Spiegel is a German news magazine; die Zeit is another, and das Bild a paper.",
    "x = y + z for all i in 1..n",
]


@pytest.mark.parametrize("text", FOREIGN)
def test_other_languages_are_noticed(text):
    assert is_plainly_not_english(text)


@pytest.mark.parametrize("text", ENGLISH)
def test_english_names_and_formulas_pass(text):
    assert not is_plainly_not_english(text)


def test_no_document_or_question_of_the_demo_is_taken_for_another_language():
    folder = files("spladelet") / "data"
    lines = (folder / "demo-questions.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [d.content for d in read_documents(folder / "demo.jsonl")]
    texts += [json.loads(line)["question"] for line in lines]
    assert [text for text in texts if is_plainly_not_english(text)] == []


def test_a_model_for_english_says_so(copy_bundle, redescribe):
    folder = copy_bundle()
    redescribe(folder, source={"language": "en"})
    encoder = Encoder.load(folder)
    with pytest.warns(LanguageWarning, match=r"2 of 3 texts are not in English, .* number 0"):
        encoder.encode_documents([FOREIGN[0], "A cat.", FOREIGN[7]], progress=False)
    with pytest.warns(LanguageWarning, match="1 of 1 texts"):
        encoder.encode_query(FOREIGN[1])


def test_a_model_that_states_no_language_does_not(copy_bundle, redescribe):
    folder = copy_bundle()
    redescribe(folder, source={})
    encoder = Encoder.load(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(encoder.encode_documents(FOREIGN, progress=False)) == len(FOREIGN)
