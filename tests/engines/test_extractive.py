"""The extractive engine: quotes what answers, literally; keeps silent where nothing does; streams the same."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway.domain.document import Passage
from slipway.domain.errors import BackendSettingInvalid, FileMissing, PackageMissing
from slipway.domain.message import ABSTENTION, Message, Reply, Request
from slipway.embedders.base import Embedder
from slipway.engines.base import Tools, engines
from slipway.engines.extractive import WEIGHTS, Extractive, asked_part, rank_sentences
from slipway.text.evidence import FEATURES
from slipway.upstream.client import HttpClient

RETURNS = """# Returns

## How long can I return a parcel?

You can return a parcel within 30 days after delivery. After that date we only repair.

## Who pays for the return?

We pay for returns inside the European Union. From other countries, the customer pays.
"""
SHIPPING = """# Shipping

Standard shipping takes three to five working days. Express shipping arrives the next working day.

| Kind | Price |
| --- | --- |
| Standard shipping | 4.90 euros |
| Express shipping | 12 euros |
"""
KEYS = """## Rotate the master key

To rotate the master key, run these commands:

```
slipway privacy rotate
slipway doctor
```

Old keys stay readable. The rotation was invented in 1987 by Ada Miller, because keys leak.
"""


def passage(text: str, document: str, score: float = 1.0) -> Passage:
    title = text.split("\n")[0].strip("# ")
    return Passage(document=document, title=title, start=100, end=100 + len(text), text=text, score=score)


PASSAGES = (passage(RETURNS, "returns.md"), passage(SHIPPING, "shipping.md", 0.9), passage(KEYS, "keys.md", 0.8))


def request(question: str, passages: tuple[Passage, ...] = PASSAGES) -> Request:
    return Request(
        model="extractive",
        messages=(Message(role="user", text=f"Answer from the passages: {question}"),),
        question=question,
        passages=passages,
    )


@pytest.fixture(params=["words", "vectors"])
def tools(request: pytest.FixtureRequest) -> Tools:
    embedder: Embedder | None = None
    if request.param == "vectors":
        from slipway.embedders.minilm import MiniLM

        try:
            embedder = MiniLM()
        except (PackageMissing, FileMissing) as missing:
            pytest.skip(str(missing))
    return Tools(http=HttpClient(), embedder=embedder)


def check_quotes(reply: Reply, passages: tuple[Passage, ...]) -> None:
    """Every quote stands in the answer word for word, and the answer holds nothing else."""
    rest = reply.text
    for quote in reply.quotes:
        text = passages[quote.passage].text[quote.start : quote.end]
        assert text.strip() == text != ""
        before, found, rest = rest.partition(text)
        assert found
        assert before.strip() == ""
    assert rest == ""


ANSWERS = [
    pytest.param("Within how many days can I return a parcel?", "within 30 days", id="a number"),
    pytest.param("How long can I return a parcel?", "within 30 days", id="in the words of the heading"),
    pytest.param("Who pays for returns from other countries?", "the customer pays", id="a second sentence"),
    pytest.param("What is the price of express shipping?", "Express shipping | 12 euros", id="a row of a table"),
    pytest.param("When does express shipping arrive?", "arrives the next working day", id="a time in words"),
    pytest.param(
        "How do I rotate the master key?", "slipway privacy rotate", id="commands come with their introduction"
    ),
    pytest.param("Who invented the rotation?", "Ada Miller", id="a person"),
    pytest.param("In what year was the rotation invented?", "1987", id="a year"),
]


@pytest.mark.parametrize(("question", "answer"), ANSWERS)
async def test_the_sentence_that_answers_is_quoted(tools: Tools, question: str, answer: str) -> None:
    reply = await Extractive().complete(request(question), tools=tools)
    assert answer in reply.text
    assert not reply.abstained
    check_quotes(reply, PASSAGES)


async def test_a_block_of_code_is_quoted_with_its_fences(tools: Tools) -> None:
    reply = await Extractive(sentences=1).complete(request("How do I rotate the master key?"), tools=tools)
    assert reply.text.startswith("To rotate the master key, run these commands:\n\n```\nslipway privacy rotate")
    assert reply.text.endswith("```")


UNANSWERED = [
    pytest.param("What is the name of the managing director's dog?", id="another subject"),
    pytest.param("How do I bake sourdough bread?", id="nothing in common"),
    pytest.param("What is the capital of Mongolia?", id="general knowledge"),
    pytest.param("", id="nothing asked"),
    pytest.param("?!", id="no word"),
    pytest.param("the of and", id="stop words only"),
]


@pytest.mark.parametrize("question", UNANSWERED)
async def test_it_keeps_silent_where_nothing_answers(tools: Tools, question: str) -> None:
    reply = await Extractive().complete(request(question), tools=tools)
    assert (reply.text, reply.abstained, reply.quotes) == (ABSTENTION, True, ())


NO_TEXT = [
    pytest.param((), id="no passage"),
    pytest.param((passage("", "a"),), id="an empty passage"),
    pytest.param((passage("# Only a heading\n", "a"),), id="a heading alone"),
    pytest.param((passage("---\n***\n", "a"),), id="rules alone"),
]


@pytest.mark.parametrize("passages", NO_TEXT)
async def test_without_text_it_abstains(tools: Tools, passages: tuple[Passage, ...]) -> None:
    reply = await Extractive(threshold=0.0).complete(request("How long can I return it?", passages), tools=tools)
    assert reply.abstained


@pytest.mark.parametrize(
    "question", ["Within how many days can I return a parcel?", "What is the capital of Mongolia?"]
)
async def test_a_stream_says_what_the_whole_reply_says(tools: Tools, question: str) -> None:
    whole = await Extractive().complete(request(question), tools=tools)
    deltas = [delta async for delta in Extractive().stream(request(question), tools=tools)]
    assert "".join(delta.text for delta in deltas) == whole.text
    assert tuple(quote for delta in deltas for quote in delta.quotes) == whole.quotes
    assert deltas[-1].finish == "stop"
    assert deltas[-1].usage == whole.usage
    assert any(delta.abstained for delta in deltas) == whole.abstained


async def test_tokens_are_estimated_and_said_to_be(tools: Tools) -> None:
    reply = await Extractive().complete(request("How long can I return a parcel?"), tools=tools)
    assert reply.usage.estimated
    assert reply.usage.input_tokens > 5
    assert reply.usage.output_tokens > 5


async def test_a_plain_chat_takes_the_last_thing_said_as_the_question(tools: Tools) -> None:
    messages = (
        Message(role="user", text="Hello"),
        Message(role="assistant", text="Yes?"),
        Message(role="user", text="How long can I return a parcel?"),
    )
    asked = Request(model="extractive", messages=messages, passages=PASSAGES)
    assert "30 days" in (await Extractive().complete(asked, tools=tools)).text


async def test_settings_count(tools: Tools) -> None:
    question = "How long can I return a parcel?"
    one = await Extractive(sentences=1).complete(request(question), tools=tools)
    assert len(one.quotes) == 1
    strict = await Extractive(threshold=1.0).complete(request(question), tools=tools)
    assert strict.abstained


@pytest.mark.parametrize("wrong", [{"threshold": 1.5}, {"sentences": 0}, {"sentence": 2}])
def test_wrong_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(BackendSettingInvalid, match="extractive"):
        engines.make("extractive", wrong)


async def test_the_same_sentence_in_two_passages_is_quoted_once(tools: Tools) -> None:
    twice = (passage(RETURNS, "a.md"), passage(RETURNS, "b.md"))
    reply = await Extractive().complete(request("Within how many days can I return a parcel?", twice), tools=tools)
    assert reply.text.count("within 30 days") == 1


async def test_quotes_come_in_reading_order(tools: Tools) -> None:
    question = "Who pays for returns inside the European Union and from other countries?"
    reply = await Extractive().complete(request(question), tools=tools)
    places = [(quote.passage, quote.start) for quote in reply.quotes]
    assert places == sorted(places)
    assert reply.text.startswith("We pay for returns inside the European Union. From other countries")


@pytest.mark.parametrize("told", ["I am a pensioner in my old age.", "I am a Buddhist.", "My name is Chidi Eze."])
def test_what_is_told_about_who_asks_does_not_decide_whether_it_is_answered(told: str) -> None:
    question = "How long can I return a parcel?"
    [alone] = Extractive().find_quotes(question, PASSAGES)
    [found] = Extractive().find_quotes(f"{told} {question}", PASSAGES)
    assert found == alone
    assert asked_part(f"{told} {question}") == question
    assert Extractive().find_quotes(f"{told} Who painted the Sistine Chapel?", PASSAGES) == []


def test_a_question_with_hardly_a_word_of_its_own_needs_what_was_told() -> None:
    told = "A parcel arrived broken. What then?"
    assert asked_part(told) == told
    assert asked_part("Return the parcel.") == "Return the parcel."


def test_an_announcement_without_its_list_falls_behind() -> None:
    text = "The lamp has these colours:\n\nThe lamp is sold in the colours red and blue."
    [best, *_] = rank_sentences("Which colours does the lamp have?", (passage(text, "a.md"),))
    assert text[best.quote.start : best.quote.end] == "The lamp is sold in the colours red and blue."


def test_every_feature_has_its_weight() -> None:
    assert set(WEIGHTS) == set(FEATURES)


@settings(max_examples=80, deadline=None)
@given(
    text=st.text(alphabet=st.sampled_from("lamp cost 12.\n#-`|:*> ?"), max_size=300),
    question=st.text(alphabet=st.sampled_from("lamp cost 12? "), max_size=40),
)
def test_any_passage_gives_exact_quotes(text: str, question: str) -> None:
    passages = (passage(text, "a.md"), passage(f"Intro.\n\n{text}", "b.md", 0.7))
    for quote in Extractive(threshold=0.0).find_quotes(question, passages):
        piece = passages[quote.passage].text[quote.start : quote.end]
        assert piece
        assert piece.strip() == piece
