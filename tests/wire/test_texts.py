"""Texts in JSON of any shape."""

import pytest

from slipway.wire.texts import NumbersForText, named_texts, rewrite_named, rewrite_texts, texts_in

PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}}
VALUES = [
    pytest.param("a", ["a"], id="a text"),
    pytest.param(["a", "b"], ["a", "b"], id="a list of texts"),
    pytest.param([{"type": "text", "text": "a"}, PICTURE], ["a"], id="parts, of which one is a picture"),
    pytest.param({"title": "a", "url": "b", "year": 3}, ["a", "b"], id="a document"),
    pytest.param(
        {"type": "image_url", "image_url": {"url": "not an address"}}, ["not an address"], id="words for an address"
    ),
    pytest.param([1, 2, 3], ["[3 tokens]"], id="token ids"),
    pytest.param([[1, 2], [3]], ["[3 tokens]"], id="lists of token ids"),
    pytest.param(None, [], id="nothing"),
]


@pytest.mark.parametrize(("value", "texts"), VALUES)
def test_the_texts_of_a_value(value, texts):
    assert texts_in(value) == texts


@pytest.mark.parametrize("value", [[1], [[1, 2]], ["a", [1]], {"x": [1.5]}])
def test_numbers_of_tokens_are_no_texts(value):
    with pytest.raises(NumbersForText):
        rewrite_texts(value, str.upper)


def test_what_is_no_text_stays():
    value = [{"type": "text", "text": "a", "n": 1}, PICTURE, None, True]
    with pytest.raises(NumbersForText):
        rewrite_texts(value, str.upper)
    assert rewrite_texts(value[:3], str.upper) == [{"type": "text", "text": "A", "n": 1}, PICTURE, None]


def test_texts_under_a_name_wherever_they_stand():
    answer = {"text": "a", "segments": [{"id": 0, "text": "b", "tokens": [1, 2]}], "language": "en"}
    assert named_texts(answer, {"text"}) == ["a", "b"]
    assert rewrite_named(answer, {"text"}, str.upper) == {
        "text": "A",
        "segments": [{"id": 0, "text": "B", "tokens": [1, 2]}],
        "language": "en",
    }
