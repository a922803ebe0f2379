"""The estimate of tokens is close to a real tokenizer and never far off on odd input."""

import pytest

from slipway.text.tokens import EstimatedTokens, count_tokens

COUNTS = [
    pytest.param("", 0, id="nothing"),
    pytest.param("Hello, world!", 4, id="words and signs"),
    pytest.param("internationalization", 3, id="a long word in pieces"),
    pytest.param("1234567", 3, id="digits by three"),
    pytest.param("漢字", 2, id="a sign each where there are no spaces"),
    pytest.param("a_b", 3, id="an underscore counts"),
]


@pytest.mark.parametrize(("text", "count"), COUNTS)
def test_counts(text: str, count: int) -> None:
    assert count_tokens(text) == count == len(EstimatedTokens().starts(text))
