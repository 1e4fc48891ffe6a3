"""The words, names and sentences of a text."""

import pytest

from llmstream.endpoint.words import names, sentences, stands_in, words


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("The Big Apple is far. She saw Anna.", ("Big Apple", "Anna")),
        ("Anna ran.", ("Anna",)),  # it may only begin the sentence, but there is no other
        ("In Paris, in Paris.", ("Paris",)),
        ("He met Jean-Luc O'Neil of NASA.", ("Jean-Luc O'Neil", "NASA")),
        ("Ngày ấy Đà Nẵng và Bà Nà đẹp.", ("Đà Nẵng", "Bà Nà")),
        ("Потом жила Анна в Москве.", ("Анна", "Москве")),
        ("no capitals, none", ("no", "capitals", "none")),
        ("The.", ("The",)),
        ("?! ...", ("Nothing",)),
        ("", ("nothing",)),
    ],
)
def test_names(text, found):
    assert names(text) == found


def test_words_and_sentences():
    assert words(" two  words ") == ("two", "words")
    assert words("") == ("nothing",)
    assert sentences("One. Two! 3.5 is three… End") == ("One.", "Two!", "3.5 is three…", "End")
    assert sentences("東京です。大阪です。") == ("東京です。", "大阪です。")
    assert sentences("") == ("Nothing.",)


@pytest.mark.parametrize(("word", "stands"), [("good", True), ("GOOD", True), ("goo", False), ("so good", True)])
def test_a_word_stands_in_a_text_as_a_whole(word, stands):
    assert stands_in(word, "It was so Good.") == stands
