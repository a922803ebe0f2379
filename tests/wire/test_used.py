"""What answers say that they used, as different makers write it."""

import json

import pytest

from slipway.domain.message import Usage
from slipway.wire.used import read_used

TOLD = [
    pytest.param(
        {"usage": {"prompt_tokens": 3, "completion_tokens": 4}}, Usage(input_tokens=3, output_tokens=4), id="OpenAI"
    ),
    pytest.param(
        {"usage": {"input_tokens": 3, "output_tokens": 4}}, Usage(input_tokens=3, output_tokens=4), id="pictures"
    ),
    pytest.param({"usage": {"total_tokens": 9}}, Usage(input_tokens=9), id="Jina and vLLM, reranking"),
    pytest.param({"meta": {"tokens": {"input_tokens": 5.0}}}, Usage(input_tokens=5), id="Cohere, tokens"),
    pytest.param({"meta": {"billed_units": {"search_units": 1}}}, None, id="Cohere, searches: no tokens"),
    pytest.param({"usage": {"type": "duration", "seconds": 3}}, None, id="seconds of sound"),
    pytest.param({"usage": {"total_tokens": -9}}, None, id="less than nothing"),
    pytest.param({"results": []}, None, id="nothing"),
    pytest.param([], None, id="a list"),
]


@pytest.mark.parametrize(("answer", "usage"), TOLD)
def test_what_was_used(answer, usage):
    assert read_used(json.dumps(answer).encode())[0] == usage


def test_the_model_is_named_where_it_is_told():
    assert read_used(b'{"model": "m-1"}') == (None, "m-1")
    assert read_used(b"no JSON") == (None, "")
