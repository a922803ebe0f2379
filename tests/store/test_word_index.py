"""The word index: whatever is cut, shared, merged and taken out, it finds exactly the traces that hold a word."""

import random
from collections.abc import Callable, Iterable

import pytest
from sqlalchemy import Connection, func, select

from slipway.domain.trace import Span
from slipway.store.schema import word_block, word_members
from slipway.store.store import Store
from slipway.store.word_blocks import MOST_SLOTS, cut_in_buckets, decode, encode, find_in, postings_of, wanted
from slipway.store.word_index import LOOSE_BLOCKS, LOOSE_TRACES, WordIndex
from slipway.store.words import query_words, words_of

MakeSpan = Callable[..., Span]

VOCABULARY = [
    *("a", "to", "tea", "team", "teams", "zebra", "42", "4200", "parcel", "parcels", "internationalisation"),
    *("internationalised", "größe", "東京都", "x" * 64, "y" * 65, "naïve", "DE89", "3704-0044", "émile", "zz", "0"),
]


def some_texts(chance: random.Random, count: int) -> list[list[str]]:
    return [
        [" ".join(chance.choices(VOCABULARY, k=chance.randrange(6))) for _ in range(chance.randrange(3))]
        for _ in range(count)
    ]


def holders(texts: Iterable[tuple[int, list[str]]], word: str) -> set[int]:
    """What the index should find, the slow way."""
    found = set()
    for number, said in texts:
        words = words_of("\n".join(said))
        if word in words or (word.endswith("*") and any(held.startswith(word[:-1]) for held in words)):
            found.add(number)
    return found


def every_query() -> list[str]:
    words = sorted(set().union(*map(words_of, VOCABULARY)))
    return [*words, "absent", *(word + "*" for word in query_words("t te tea parc int 4 z de"))]


def check(index: WordIndex, connection: Connection, texts: list[tuple[int, list[str]]]) -> None:
    for word in every_query():
        numbers, exact = index.find(connection, [word])
        assert exact
        assert set(numbers.tolist()) == holders(texts, word), word


@pytest.mark.parametrize("seed", range(3))
def test_postings_come_back_and_words_are_found_in_their_bucket(seed: int) -> None:
    chance = random.Random(seed)
    texts = [(slot, said) for slot, said in enumerate(some_texts(chance, 50)) if said]
    lines = [" ".join(" ".join(sorted(words_of(" ".join(said)))) for said in [said]).encode() for _, said in texts]
    postings = postings_of(lines)
    assert (decode(encode(postings)) == postings).all()
    buckets = dict(cut_in_buckets(postings))
    assert sum(len(decode(body)) for body in buckets.values()) == len(postings)
    for word in every_query():
        what = wanted(word)
        body = buckets.get(what.bucket)
        found = set() if body is None else {texts[slot][0] for slot in find_in(body, what).tolist()}
        assert found == holders(texts, word), word


def test_a_beginning_of_more_than_four_letters_is_said_to_be_inexact() -> None:
    assert wanted("teas").exact
    assert wanted("team*").exact
    assert not wanted("teams*").exact


def test_batches_of_every_size_are_found_and_forgotten(store: Store) -> None:
    chance = random.Random(7)
    index = store.traces.words
    texts: list[tuple[int, list[str]]] = []
    with store.database.transaction() as connection:
        # Small batches are merged, large ones are cut; some say what all others say too.
        for size in [*[1] * (LOOSE_BLOCKS + 3), 40, LOOSE_TRACES + 10, 1, 2]:
            batch = [
                (
                    len(texts) + at + 1,
                    [*said, "You are a helpful zebra, answer in short sentences."] if at % 2 else said,
                )
                for at, said in enumerate(some_texts(chance, size))
            ]
            index.add(connection, batch)
            texts += batch
        check(index, connection, texts)
        gone = set(chance.sample([number for number, _ in texts], 120))
        index.remove(connection, gone)
        kept = [(number, said) for number, said in texts if number not in gone]
        check(index, connection, kept)
        index.remove(connection, [number for number, _ in kept])
        mine = word_block.c.project == store.project
        assert connection.execute(select(func.count()).where(mine)).scalar_one() == 0
        members = word_members.c.project == store.project
        assert connection.execute(select(func.count()).where(members)).scalar_one() == 0


def test_loose_blocks_do_not_pile_up(store: Store) -> None:
    with store.database.transaction() as connection:
        for number in range(1, 200):
            store.traces.words.add(connection, [(number, [f"word{number % 7} tea"])])
        blocks = connection.execute(
            select(func.count()).select_from(word_members).where(word_members.c.project == store.project)
        ).scalar_one()
        assert blocks <= LOOSE_BLOCKS
        assert len(store.traces.words.find(connection, ["tea"])[0]) == 199
        assert len(store.traces.words.find(connection, ["tea", "word3"])[0]) == 29


def test_more_traces_than_a_block_holds(store: Store) -> None:
    count = MOST_SLOTS + 5
    with store.database.transaction() as connection:
        store.traces.words.add(connection, [(number, [f"tea n{number}"]) for number in range(1, count + 1)])
        assert len(store.traces.words.find(connection, ["tea"])[0]) == count
        assert store.traces.words.find(connection, [f"n{count}"])[0].tolist() == [count]


def test_words_of_one_trace_may_come_in_several_batches(store: Store) -> None:
    with store.database.transaction() as connection:
        store.traces.words.add(connection, [(1, ["green tea"]), (2, ["green"])])
        store.traces.words.add(connection, [(1, ["milk"])])
        assert store.traces.words.find(connection, ["green", "milk"])[0].tolist() == [1]
        store.traces.words.remove(connection, [1])
        assert store.traces.words.find(connection, ["milk"])[0].tolist() == []
        assert store.traces.words.find(connection, ["green"])[0].tolist() == [2]


def test_of_many_traces_that_hold_a_word_the_newest_are_listed_page_by_page(
    store: Store, make_span: MakeSpan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slipway.store.traces.MANY_FOUND", 3)
    said = ["tea" if number % 3 else "milk" for number in range(1, 61)]
    store.traces.add([make_span(number, content={"question": one}) for number, one in enumerate(said, start=1)])
    seen: list[int] = []
    after = None
    while True:
        page = store.traces.list(text="tea", limit=7, after=after)
        seen += [int(row.id, 16) for row in page.rows]
        if page.next is None:
            break
        after = page.next
    assert seen == [number for number in range(60, 0, -1) if number % 3]
    assert store.traces.list(text="tea milk").rows == ()
    assert store.traces.count(text="tea") == 40
