"""Records: what is saved comes back, with versions, states, links, people and edges."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from sqlalchemy import select

from slipway.config.secrets import Secret
from slipway.domain.access import ApiKey
from slipway.domain.dataset import Case, Dataset
from slipway.domain.decoding import Decoding
from slipway.domain.errors import ContentDamaged, ContentErased, NotFound
from slipway.domain.evaluation import CaseResult, Comparison, Evaluation, Interval, Score
from slipway.domain.feedback import Feedback, Finding
from slipway.domain.guardrail import Guardrails, RailSpec
from slipway.domain.ids import ReleaseId, SubjectId, TraceId, hash_text
from slipway.domain.model import Model
from slipway.domain.prompt import Example, Prompt
from slipway.domain.release import Channel, Evidence, Measure, PartRef, Release, Share
from slipway.store.records import KINDS, MOST_RECENT, Kind, id_of, register
from slipway.store.schema import record, record_part
from slipway.store.store import Store, open_store

MASTER = Secret("0f" * 32)
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def a_key(name: str) -> ApiKey:
    return ApiKey(id=name, name=name, hash=hash_text(name), prefix="sk-slip", scopes=("chat",), created_at=NOON)


def a_prompt(version: int = 1, **fields: Any) -> Prompt:
    defaults: dict[str, Any] = {
        "name": "answer",
        "version": version,
        "hash": hash_text(f"answer {version}"),
        "system": "Answer from the passages.",
        "user": "{{ question }}",
        "variables": ("question",),
        "examples": (Example(input="a", output="b"),),
        "created_at": NOON + timedelta(seconds=version),
    }
    return Prompt(**{**defaults, **fields})


def a_dataset(*cases: Case, version: int = 1) -> Dataset:
    return Dataset(
        name="support",
        version=version,
        hash=hash_text(str(version)),
        cases=cases,
        source="test",
        created_at=NOON,
    )


NOUNS = [
    pytest.param(a_prompt(), "answer@1", id="a prompt goes by name and version"),
    pytest.param(a_dataset(Case(id="1", question="Why?", spans=(("a.md", 1, 2),))), "support@1", id="a dataset"),
    pytest.param(
        Channel(name="support", shares=(Share(release=ReleaseId("r"), weight=0.5),), changed_at=NOON),
        "support",
        id="a channel goes by its name",
    ),
    pytest.param(
        Release(
            id=ReleaseId("r1"),
            application="support",
            number=3,
            model=Model(engine="echo", name="m"),
            decoding=Decoding(stop=("x",)),
            prompt=PartRef(name="answer", version=1, hash=hash_text("x")),
            index=None,
            guardrails=Guardrails(before=(RailSpec(name="length", settings={"most": 3, "soft": True}),)),
            created_at=NOON,
        ),
        "r1",
        id="a release with nested parts",
    ),
    pytest.param(
        Evidence(
            id="e1",
            release=ReleaseId("r1"),
            kind="evaluation",
            suite="quality",
            measures=(Measure(name="exact", value=0.5, low=0.4, high=0.6, n=10),),
            passed=True,
            summary="fine",
            created_at=NOON,
        ),
        "e1",
        id="evidence goes by its id",
    ),
]


@pytest.mark.parametrize(("noun", "id"), NOUNS)
def test_what_is_saved_comes_back(store: Store, noun: Any, id: str) -> None:
    assert store.records.save(noun) == id
    assert store.records.get(type(noun), id) == noun


def test_every_registered_kind_has_a_name_of_its_own() -> None:
    names = [kind.kind for kind in KINDS.values()]
    assert len(names) == len(set(names))


def test_a_noun_without_id_goes_by_the_hash_of_its_content(store: Store) -> None:
    comparison = Comparison(
        metric="exact",
        before=0.1,
        after=0.2,
        difference=0.1,
        interval=Interval(0.0, 0.2),
        n=5,
        wins=1,
        losses=0,
        ties=4,
        before_release=ReleaseId("a"),
        after_release=ReleaseId("b"),
    )
    first = store.records.save(comparison)
    assert store.records.save(comparison) == first
    assert store.records.save(replace(comparison, n=6)) != first
    assert store.records.list(Comparison, where={"before_release": "a"})[0].interval.high == 0.2


def test_an_unknown_id_is_answered_with_a_near_one(store: Store) -> None:
    store.records.save(a_prompt())
    with pytest.raises(NotFound, match=r"There is no prompt 'anser@1'\. Did you mean 'answer@1'\?"):
        store.records.get(Prompt, "anser@1")
    assert store.records.find(Prompt, "anser@1") is None


def test_versions_are_counted_by_name(store: Store) -> None:
    assert store.records.next_version(Prompt, "answer") == 1
    for version in (1, 2, 10):
        store.records.save(a_prompt(version))
    assert store.records.next_version(Prompt, "answer") == 11
    assert store.records.next_version(Prompt, "other") == 1
    latest = store.records.latest(Prompt, "answer")
    assert latest is not None
    assert latest.version == 10
    assert store.records.latest(Prompt, "other") is None
    assert store.records.names(Prompt) == ["answer"]


def test_lists_are_newest_first_and_can_be_cut(store: Store) -> None:
    for version in (1, 2, 3):
        store.records.save(a_prompt(version))
    store.records.save(a_prompt(4, name="other"))
    records = store.records
    assert [prompt.version for prompt in records.list(Prompt, name="answer")] == [3, 2, 1]
    assert [prompt.version for prompt in records.list(Prompt, name="answer", newest_first=False)] == [1, 2, 3]
    assert [prompt.version for prompt in records.list(Prompt, limit=2)] == [4, 3]
    assert [prompt.version for prompt in records.list(Prompt, before=NOON + timedelta(seconds=3))] == [2, 1]
    assert records.count(Prompt) == 4
    assert records.count(Prompt, name="other") == 1


WHERE = [
    pytest.param({"route": "prompt"}, ["b"], id="a linked field"),
    pytest.param({"title": "A"}, ["a"], id="a field that only the body holds"),
    pytest.param({"route": "knowledge", "title": "A"}, ["a"], id="both"),
    pytest.param({"route": "guard"}, [], id="nothing has it"),
]


@pytest.mark.parametrize(("where", "ids"), WHERE)
def test_records_are_found_by_their_fields(store: Store, where: dict[str, str], ids: list[str]) -> None:
    for id, route in (("a", "knowledge"), ("b", "prompt")):
        store.records.save(
            Finding(id=id, kind="gap", title=id.upper(), detail="", route=route, created_at=NOON)  # type: ignore[arg-type]
        )
    assert [finding.id for finding in store.records.list(Finding, where=where)] == ids


def test_writes_are_counted_for_those_who_keep_records_in_memory(store: Store) -> None:
    def look() -> tuple[int, ...]:
        return store.records.writes(Channel, ApiKey)

    seen = [look()]
    assert look() == seen[0]
    channel = Channel(name="production", shares=(), changed_at=NOON)
    for change in (
        lambda: store.records.save(channel),
        lambda: store.records.save(channel),  # who writes the same again has written
        lambda: store.records.set_state(Channel, "production", "kept"),
        lambda: store.plain_records.rewrite("channel", "production", msgspec.to_builtins(channel)),
        lambda: store.records.save(a_key("shop")),
        lambda: store.records.delete(Channel, "production"),
    ):
        change()
        seen.append(look())
        assert seen[-1] not in seen[:-1]
        assert look() == seen[-1]
    store.of("another").records.save(channel)
    store.records.save(Feedback(id="f", trace=TraceId("1" * 32), name="thumbs", score=1.0, created_at=NOON))
    assert look() == seen[-1]
    with pytest.raises(ValueError, match="record_writes"):
        store.records.writes(Feedback)


def test_many_records_are_written_at_once_as_one_by_one(store: Store) -> None:
    nouns = [a_dataset(), a_dataset(version=2)]
    store.records.save_all(nouns, parents=lambda noun: [("trace", f"t{noun.version}")], transform="draft")
    assert [store.records.get(Dataset, id_of(noun)) for noun in nouns] == nouns
    assert [edge.parent for edge in store.lineage.ancestors([("dataset", id_of(nouns[1]))])] == [("trace", "t2")]
    keys = [a_key(f"key-{number}") for number in range(3)]
    store.records.save_all(keys, parents=lambda _: [])
    assert {key.name for key in store.records.list(ApiKey, where={"hash": str(keys[1].hash)})} == {"key-1"}
    findings = [
        Finding(id=id, kind="gap", title=id, detail="", route="knowledge", created_at=NOON)  # type: ignore[arg-type]
        for id in ("a", "b")
    ]
    store.records.set_state(Dataset, id_of(nouns[0]), "kept")
    store.records.save_all([nouns[0]], parents=lambda _: [])
    assert store.records.state(Dataset, id_of(nouns[0])) == "kept"
    store.records.save_all(findings, parents=lambda _: [])
    assert [store.records.state(Finding, one.id) for one in findings] == ["open", "open"]
    store.records.save_all([], parents=lambda _: [])


def test_records_that_were_not_written_since_are_not_opened_again(store: Store) -> None:
    with store.transaction():
        for number in range(1200):
            store.records.save(a_key(f"key-{number}"))
    first = store.records.read_again(ApiKey, {})
    assert {read.noun for read in first.values()} == set(store.records.list(ApiKey))
    store.records.save(replace(a_key("key-7"), revoked_at=NOON))
    store.records.save(a_key("one-more"))
    store.records.delete(ApiKey, "key-9")
    second = store.records.read_again(ApiKey, first)
    assert {read.noun for read in second.values()} == set(store.records.list(ApiKey))
    assert sum(second.get(id) is read for id, read in first.items()) == 1198


def test_what_every_request_needs_is_not_read_again_within_a_second(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("slipway.store.records.monotonic", lambda: now)
    records = store.records
    records.save(a_prompt())
    first = records.recent(Prompt, "answer@1")
    assert first == a_prompt()
    assert records.recent(Prompt, "answer@1") is first
    with open_store(store.database.dialect.url, project=store.project, folder=store.folder, master_key=MASTER) as other:
        other.records.save(a_prompt(note="changed elsewhere"))
    now += 0.9
    assert records.recent(Prompt, "answer@1") is first
    now += 0.2
    assert records.recent(Prompt, "answer@1").note == "changed elsewhere"
    # What this process writes is seen at once, and inside a transaction before it ends.
    records.save(a_prompt(note="here"))
    assert records.recent(Prompt, "answer@1").note == "here"
    with store.transaction():
        records.save(a_prompt(note="not yet"))
        assert records.recent(Prompt, "answer@1").note == "not yet"
    assert records.recent(Prompt, "answer@1").note == "not yet"
    records.delete(Prompt, "answer@1")
    with pytest.raises(NotFound):
        records.recent(Prompt, "answer@1")


def test_of_recent_records_only_some_are_kept(store: Store) -> None:
    for version in range(1, MOST_RECENT + 3):
        store.records.save(a_prompt(version))
    for version in range(1, MOST_RECENT + 3):
        assert store.records.recent(Prompt, f"answer@{version}").version == version
    assert len(store.records._recent) <= MOST_RECENT


def test_saving_again_replaces_and_keeps_the_state(store: Store) -> None:
    store.records.save(a_prompt(), state="live")
    store.records.save(a_prompt(note="changed"))
    assert store.records.get(Prompt, "answer@1").note == "changed"
    assert store.records.state(Prompt, "answer@1") == "live"
    store.records.set_state(Prompt, "answer@1", "retired")
    assert [prompt.version for prompt in store.records.list(Prompt, state="retired")] == [1]
    with pytest.raises(NotFound):
        store.records.set_state(Prompt, "answer@2", "live")


def test_a_noun_with_a_state_of_its_own_is_listed_by_it(store: Store) -> None:
    finding = Finding(id="f", kind="gap", title="", detail="", route="prompt", created_at=NOON)
    store.records.save(finding)
    store.records.save(replace(finding, state="closed"))
    assert store.records.list(Finding, state="open") == []
    assert [found.id for found in store.records.list(Finding, state="closed")] == ["f"]


def test_a_deleted_record_is_gone(store: Store) -> None:
    store.records.save(a_prompt())
    store.records.delete(Prompt, "answer@1")
    assert store.records.find(Prompt, "answer@1") is None
    assert store.records.list(Prompt) == []


def test_a_transaction_writes_all_or_nothing(store: Store) -> None:
    def write_and_fail() -> None:
        with store.transaction():
            store.records.save(a_prompt(1))
            with store.transaction():
                store.records.save(a_prompt(2), subject="person")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_and_fail()
    assert store.records.list(Prompt) == []
    # The keys that were made inside went with it, and new ones are made.
    store.records.save(a_prompt(2), subject="person")
    assert store.records.get(Prompt, "answer@2").version == 2


def test_projects_do_not_see_each_other(store: Store) -> None:
    store.records.save(a_prompt())
    other = store.of(f"{store.project}-other")
    assert other.records.find(Prompt, "answer@1") is None
    other.records.save(a_prompt(note="theirs"))
    assert store.records.get(Prompt, "answer@1").note == ""


def test_parents_become_edges(store: Store) -> None:
    store.records.save(
        a_dataset(Case(id="1", question="Why?")), parents=[("trace", "t1"), ("trace", "t2")], transform="case"
    )
    edges = store.lineage.descendants([("trace", "t2")])
    assert [(edge.child, edge.transform) for edge in edges] == [(("dataset", "support@1"), "case")]


def test_bodies_are_sealed(store: Store) -> None:
    store.records.save(a_prompt(system="the secret of the house"))
    with store.database.reading() as connection:
        bodies = list(connection.execute(select(record.c.body)).scalars())
    assert bodies
    assert not any(b"secret of the house" in body for body in bodies)


def test_a_body_cannot_stand_in_for_another(store: Store) -> None:
    for version in (1, 2):
        store.records.save(a_prompt(version))
    with store.database.transaction() as connection:
        mine = (record.c.project == store.project) & (record.c.kind == "prompt")
        other = connection.execute(select(record.c.body).where(mine, record.c.id == "answer@2")).scalar_one()
        connection.execute(record.update().where(mine, record.c.id == "answer@1").values(body=other))
    with pytest.raises(ContentDamaged, match="answer@1"):
        store.records.get(Prompt, "answer@1")


def test_erasing_a_persons_key_erases_what_it_sealed(store: Store) -> None:
    feedback = Feedback(id="f", trace=TraceId("t"), score=1, comment="x", subject=SubjectId("anna"), created_at=NOON)
    store.records.save(feedback)
    store.records.save(replace(feedback, id="g", subject=SubjectId("bert")))
    assert store.keys.subjects() == ["anna", "bert"]
    assert store.keys.erase("anna") == 1
    with pytest.raises(ContentErased, match="feedback 'f'"):
        store.records.get(Feedback, "f")
    assert [left.id for left in store.records.list(Feedback)] == ["g"]
    assert store.keys.subjects() == ["bert"]


def test_a_person_who_comes_back_gets_a_new_key(store: Store) -> None:
    feedback = Feedback(id="f", trace=TraceId("t"), score=1, subject=SubjectId("anna"), created_at=NOON)
    store.records.save(feedback)
    store.keys.erase("anna")
    store.records.save(replace(feedback, id="g"))
    assert store.records.get(Feedback, "g").id == "g"
    assert store.records.find(Feedback, "f") is None


def test_cases_of_a_dataset_are_sealed_for_their_own_people(store: Store) -> None:
    cases = [
        Case(id="1", question="first"),
        Case(id="2", question="Anna asks", subject=SubjectId("anna")),
        Case(id="3", question="third"),
        Case(id="4", question="Bert asks", subject=SubjectId("bert")),
    ]
    dataset = a_dataset(*cases)
    store.records.save(dataset)
    assert store.records.get(Dataset, "support@1") == dataset
    store.keys.erase("anna")
    assert [case.id for case in store.records.get(Dataset, "support@1").cases] == ["1", "3", "4"]
    store.records.save(a_dataset(cases[0]))
    with store.database.reading() as connection:
        mine = record_part.c.project == store.project
        assert connection.execute(select(record_part.c.id).where(mine)).all() == []


def test_results_of_an_evaluation_are_sealed_for_their_own_people(store: Store) -> None:
    results = (
        CaseResult(case="1", question="q", answer="a", scores=(Score(metric="exact", value=None),)),
        CaseResult(case="2", question="q", answer="a", scores=(), subject=SubjectId("anna")),
    )
    evaluation = Evaluation(
        id="e",
        release=ReleaseId("r"),
        suite="quality",
        dataset=None,
        results=results,
        measures=(),
        seed=0,
        started_at=NOON,
        seconds=1,
    )
    store.records.save(evaluation)
    assert store.records.get(Evaluation, "e") == evaluation
    store.keys.erase("anna")
    assert [result.case for result in store.records.get(Evaluation, "e").results] == ["1"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """A noun of a room above."""

    id: str
    height: float


def test_a_room_may_register_its_own_noun(store: Store) -> None:
    register(Shelf, Kind(kind="shelf"))
    register(Shelf, Kind(kind="shelf"))
    store.records.save(Shelf(id="s", height=1.5))
    assert store.records.get(Shelf, "s").height == 1.5
    with pytest.raises(ValueError, match="already stands for"):
        register(Prompt, Kind(kind="shelf"))


def test_a_class_that_is_no_record_is_refused(store: Store) -> None:
    with pytest.raises(TypeError, match="add a line to KINDS"):
        store.records.save(Case(id="1", question="?"))


def test_ids_of_nouns() -> None:
    assert id_of(a_prompt(7)) == "answer@7"
