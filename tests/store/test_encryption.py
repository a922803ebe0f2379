"""Keys: wrapped by the master key, one a person, rotated without touching content, destroyed for good."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import select

from slipway.config.secrets import Secret
from slipway.domain.errors import ContentErased, MasterKeyInvalid, MasterKeyWrong
from slipway.domain.feedback import Feedback
from slipway.domain.ids import SubjectId, TraceId
from slipway.store.encryption import Keys
from slipway.store.schema import data_key
from slipway.store.store import Store, open_store

OTHER = Secret("ab" * 32)


def a_feedback(id: str, subject: str = "anna") -> Feedback:
    created = datetime(2026, 11, 22, tzinfo=UTC)
    return Feedback(id=id, trace=TraceId("t"), score=1, comment="words", subject=SubjectId(subject), created_at=created)


def open_again(store: Store, key: Secret, folder: Path) -> Store:
    url = store.database.engine.url.render_as_string(hide_password=False)
    return open_store(url, project=store.project, folder=folder, master_key=key)


def test_a_wrong_master_key_is_refused_at_once(store: Store, tmp_path: Path) -> None:
    store.records.save(a_feedback("f"))
    with pytest.raises(MasterKeyWrong, match=r"from the settings .* does not open this store"):
        open_again(store, OTHER, tmp_path)


def test_two_applications_may_share_a_database_under_keys_of_their_own(store: Store, tmp_path: Path) -> None:
    store.records.save(a_feedback("f"))
    url = store.database.engine.url.render_as_string(hide_password=False)
    with open_store(url, project=f"{store.project}-b", folder=tmp_path, master_key=OTHER) as other:
        other.records.save(a_feedback("f"))
        assert other.records.get(Feedback, "f").comment == "words"
        with pytest.raises(MasterKeyWrong):
            other.of(store.project)


@pytest.mark.parametrize("text", ["short", "zz" * 32, "ab" * 31, "ab" * 33, "password"])
def test_a_master_key_that_is_none_says_how_to_make_one(tmp_path: Path, text: str) -> None:
    with pytest.raises(MasterKeyInvalid, match="openssl rand -hex 32"):
        open_store(f"sqlite:///{tmp_path / 's.db'}", project="p", folder=tmp_path, master_key=Secret(text))


def test_a_master_key_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 's.db'}"
    with open_store(url, project="p", folder=tmp_path, master_key=Secret("")) as store:
        store.records.save(a_feedback("f"))
    path = tmp_path / "master.key"
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(bytes.fromhex(path.read_text())) == 32
    with open_store(url, project="p", folder=tmp_path, master_key=Secret("")) as store:
        assert store.records.get(Feedback, "f") == a_feedback("f")
    path.unlink()
    with pytest.raises(MasterKeyWrong, match="missing"):
        open_store(url, project="p", folder=tmp_path, master_key=Secret(""))
    assert not path.exists()


def test_the_master_key_can_be_changed_without_rewriting_content(store: Store, tmp_path: Path) -> None:
    store.records.save(a_feedback("f"))
    store.records.save(a_feedback("g", "bert"))
    assert store.keys.rewrap(OTHER) == 2
    assert store.records.get(Feedback, "f") == a_feedback("f")
    store.records.save(a_feedback("h", "carl"))
    with open_again(store, OTHER, tmp_path) as again:
        assert [found.id for found in again.records.list(Feedback)] == ["h", "g", "f"]


def test_another_process_hears_of_an_erasure(store: Store, tmp_path: Path) -> None:
    store.records.save(a_feedback("f"))
    with open_again(store, Secret("0f" * 32), tmp_path) as other:
        assert other.records.get(Feedback, "f").comment == "words"
        store.keys.erase("anna")
        # Its keys were in memory, and it must not use them any more: neither to read nor to write.
        with pytest.raises(ContentErased):
            other.records.get(Feedback, "f")
        other.records.save(a_feedback("g"))
    assert store.records.get(Feedback, "g").comment == "words"


def test_an_erased_key_keeps_neither_key_nor_person(store: Store) -> None:
    store.records.save(a_feedback("f"))
    store.keys.erase("anna")
    with store.database.reading() as connection:
        (row,) = connection.execute(select(data_key).where(data_key.c.project == store.project)).all()
    assert (row.subject, row.wrapped) == (None, None)
    assert row.erased_us > 0
    assert store.keys.erase("anna") == 0


def test_more_people_than_keys_in_memory(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slipway.store.encryption.KEYS_IN_MEMORY", 3)
    for number in range(10):
        store.records.save(a_feedback(str(number), f"person{number}"))
    assert {store.records.get(Feedback, str(number)).comment for number in range(10)} == {"words"}


def test_every_body_has_a_nonce_of_its_own(store: Store) -> None:
    with store.database.transaction() as connection:
        sealed = {store.keys.seal(connection, b"same", subject="anna", kind="k", id="1")[9:21] for _ in range(100)}
    assert len(sealed) == 100


def test_a_pseudonym_is_the_same_for_the_same_person_and_key(store: Store, tmp_path: Path) -> None:
    own = store.keys.pseudonym("anna")
    assert own == store.keys.pseudonym("anna") != store.keys.pseudonym("bert")
    assert Keys(store.database, store.project, bytes.fromhex("ab" * 32)).pseudonym("anna") != own


def test_handles_do_not_print_the_master_key(store: Store) -> None:
    shown = repr(store)
    assert "0f0f" not in shown
    assert "\\x0f" not in shown
