"""What each metric says about answers whose worth is plain to see."""

import pytest

from slipway.domain.dataset import Case
from slipway.domain.document import Citation, Passage
from slipway.domain.message import Usage
from slipway.domain.money import Money
from slipway.metrics.base import AnswerView, is_answerable, metrics

FERRY = Passage(
    document="ferry.md",
    title="Ferry",
    start=0,
    end=61,
    text="The ferry to Texel leaves every hour from the Den Helder pier",
    score=1,
)
FARES = Passage(
    document="fares.md", title="Fares", start=0, end=36, text="A return ticket costs 2.50 for cars.", score=0.5
)


def cites(passage: Passage, start: int = 0, end: int | None = None) -> Citation:
    end = passage.end if end is None else end
    return Citation(document=passage.document, title=passage.title, start=start, end=end, text=passage.text[start:end])


def view(
    text: str, *, citations: tuple[Citation, ...] = (), passages: tuple[Passage, ...] = (FERRY, FARES)
) -> AnswerView:
    return AnswerView(text=text, passages=passages, citations=citations)


ABSTAINED = AnswerView(text="The documents do not answer this question.", abstained=True)
BLOCKED = AnswerView(text="", blocked=True)
ASKED = "How often does the ferry leave?"
HOURLY = Case(id="1", question=ASKED, expected="every hour")
UNKNOWN = Case(id="2", question="Who is the captain?", answerable=False)
EXPLAINED = Case(
    id="3",
    question=ASKED,
    expected="The ferry leaves from the Den Helder pier 1 time every hour, but the last one goes at 21:30.",
)

SCORES = [
    pytest.param("exact", HOURLY, view("Every hour."), 1.0, id="exact: case and points do not count"),
    pytest.param("exact", HOURLY, view("the every hour"), 1.0, id="exact: articles do not count"),
    pytest.param("exact", HOURLY, view("Every hour, daily."), 0.0, id="exact: more words are other words"),
    pytest.param("exact", HOURLY, ABSTAINED, 0.0, id="exact: abstaining is not the expected answer"),
    pytest.param("exact", UNKNOWN, view("Jan"), None, id="exact: nothing expected of the unanswerable"),
    pytest.param(
        "exact",
        Case(id="1", question=ASKED, expected="hourly", alternatives=("every hour",)),
        view("Every hour"),
        1.0,
        id="exact: another wording counts",
    ),
    pytest.param("overlap", HOURLY, view("every two hours"), 0.4, id="overlap: one of two and of three words"),
    pytest.param("overlap", HOURLY, BLOCKED, 0.0, id="overlap: blocked"),
    pytest.param("overlap", Case(id="1", question=ASKED), view("every hour"), None, id="overlap: nothing expected"),
    pytest.param("quality", HOURLY, view("The ferry leaves every hour from the pier."), 1.0, id="quality: contained"),
    pytest.param(
        "quality", HOURLY, view("The hour of every ferry"), 4 / 7, id="quality: the words alone, graded by F1"
    ),
    pytest.param("quality", HOURLY, view("On Sundays"), 0.0, id="quality: nothing in common"),
    pytest.param("quality", HOURLY, ABSTAINED, 0.0, id="quality: abstained on an answerable question"),
    pytest.param("quality", HOURLY, BLOCKED, 0.0, id="quality: blocked on an answerable question"),
    pytest.param(
        "quality",
        Case(id="7", question=ASKED, expected="30 days"),
        view("Within 14 days."),
        0.0,
        id="quality: another number",
    ),
    pytest.param(
        "quality",
        Case(id="8", question=ASKED, expected="five years"),
        view("It is 5 years."),
        1.0,
        id="quality: a number in digits",
    ),
    pytest.param(
        "quality",
        Case(id="9", question=ASKED, expected="five years"),
        view("Nine years."),
        0.0,
        id="quality: another number in words",
    ),
    pytest.param("quality", UNKNOWN, ABSTAINED, 1.0, id="quality: abstained on an unanswerable question"),
    pytest.param("quality", UNKNOWN, view("Jan."), 0.0, id="quality: answered an unanswerable question"),
    pytest.param("quality", UNKNOWN, BLOCKED, 0.0, id="quality: blocking is not abstaining"),
    pytest.param("quality", Case(id="4", question="And?"), view("Yes"), None, id="quality: nothing known"),
    pytest.param(
        "quality",
        EXPLAINED,
        view(
            "From Den Helder pier the ferry leaves every hour, 1 time; the last goes at 21:30 (on Sundays it is later)."
        ),
        1.0,
        id="quality: a long answer in another order",
    ),
    pytest.param(
        "quality",
        Case(id="5", question="q", documents=("ferry.md",)),
        view("Hourly.", citations=(cites(FERRY),)),
        1.0,
        id="quality: no expected text, the right place is cited",
    ),
    pytest.param("answered", HOURLY, view("No idea, maybe weekly"), 1.0, id="answered: right or wrong does not count"),
    pytest.param("answered", HOURLY, ABSTAINED, 0.0, id="answered: abstained"),
    pytest.param("answered", HOURLY, BLOCKED, 0.0, id="answered: blocked"),
    pytest.param("answered", UNKNOWN, view("Jan"), None, id="answered: not asked of the unanswerable"),
    pytest.param("refused", UNKNOWN, ABSTAINED, 1.0, id="refused: abstained as it should"),
    pytest.param("refused", UNKNOWN, view("Jan"), 0.0, id="refused: made something up"),
    pytest.param("refused", UNKNOWN, BLOCKED, 0.0, id="refused: a block is no abstention"),
    pytest.param("refused", HOURLY, ABSTAINED, None, id="refused: not asked of the answerable"),
    pytest.param(
        "citation",
        Case(id="6", question=ASKED, spans=(("ferry.md", 25, 35),)),
        view("Every hour", citations=(cites(FERRY, 26, 36),)),
        1.0,
        id="citation: touches the span",
    ),
    pytest.param(
        "citation",
        Case(id="6", question=ASKED, spans=(("ferry.md", 0, 10),), documents=("ferry.md",)),
        view("Every hour", citations=(cites(FERRY, 26, 36),)),
        0.0,
        id="citation: the right document, the wrong place",
    ),
    pytest.param(
        "citation",
        Case(id="6", question=ASKED, documents=("ferry.md",)),
        view("2.50", citations=(cites(FARES),)),
        0.0,
        id="citation: the wrong document",
    ),
    pytest.param(
        "citation", Case(id="6", question=ASKED, documents=("ferry.md",)), view("x"), 0.0, id="citation: none given"
    ),
    pytest.param(
        "citation", Case(id="6", question=ASKED, documents=("ferry.md",)), ABSTAINED, None, id="citation: abstained"
    ),
    pytest.param(
        "context_overlap",
        HOURLY,
        view("The ferry leaves every hour", citations=(cites(FERRY),)),
        1.0,
        id="context overlap: a quote",
    ),
    pytest.param(
        "context_overlap",
        HOURLY,
        view("Tickets cost 2.50", citations=(cites(FERRY),)),
        0.0,
        id="context overlap: words of a passage that is not cited",
    ),
    pytest.param(
        "context_overlap",
        HOURLY,
        view("The ferry to Texel leaves every day", citations=(cites(FERRY),)),
        0.8,
        id="context overlap: one of five content words is new",
    ),
    pytest.param(
        "context_overlap",
        HOURLY,
        view("The Den Helder pier leaves Texel every hour by ferry", citations=(cites(FERRY),)),
        1.0,
        id="context overlap: a turned sentence goes unseen, a known limit",
    ),
    pytest.param("context_overlap", HOURLY, view("Every hour", passages=()), None, id="context overlap: no passages"),
    pytest.param("context_overlap", HOURLY, ABSTAINED, None, id="context overlap: abstained"),
    pytest.param("latency", HOURLY, AnswerView(text="x", seconds=1.5), 1.5, id="latency: seconds"),
    pytest.param(
        "cost",
        HOURLY,
        AnswerView(text="x", cost=Money(micros=1500), usage=Usage(input_tokens=10, output_tokens=2)),
        0.0015,
        id="cost: dollars",
    ),
    pytest.param("cost", HOURLY, BLOCKED, None, id="cost: unknown where a guardrail stopped it"),
]


@pytest.mark.parametrize(("metric", "case", "answer", "value"), SCORES)
def test_scores(metric: str, case: Case, answer: AnswerView, value: float | None) -> None:
    score = metrics.make(metric).score(case, answer)
    assert score.value == (None if value is None else pytest.approx(value)), score.reason


def test_the_reason_names_words_that_no_passage_holds() -> None:
    score = metrics.make("context_overlap").score(
        HOURLY, view("The ferry leaves from Harlingen", citations=(cites(FERRY),))
    )
    assert "harlingen" in score.reason


ANSWERABLE = [
    pytest.param(Case(id="1", question="q", expected="x"), True, id="somebody wrote an answer down"),
    pytest.param(Case(id="1", question="q", documents=("d",)), True, id="its document is known"),
    pytest.param(Case(id="1", question="q", expected="x", answerable=False), False, id="the case's own word counts"),
    pytest.param(Case(id="1", question="q"), None, id="nothing known"),
]


@pytest.mark.parametrize(("case", "answerable"), ANSWERABLE)
def test_what_counts_as_answerable(case: Case, answerable: bool | None) -> None:
    assert is_answerable(case) is answerable
