"""Names in slipway.toml become engines, embedders and vector stores, or one clear error."""

from pathlib import Path

import pytest

from slipway.config.reader import parse_settings
from slipway.config.settings import Settings
from slipway.domain.errors import ConfigError, NotFound, SecretMissing
from slipway.engines.echo import Echo
from slipway.engines.openai import OpenAI
from slipway.models.choice import choose_embedder, choose_engine, choose_index_store, engine_names

HERE = Path()


def settings(**engines) -> Settings:
    return parse_settings({"application": {"name": "a"}, "engines": engines})


def test_an_engine_of_the_file_with_its_secret(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FAST_KEY", "sk-1")
    table = {"kind": "openai", "base_url": "http://a/v1", "api_key": "env:FAST_KEY", "first_byte_s": 5}
    engine = choose_engine(settings(fast=table), "fast", folder=HERE)
    assert isinstance(engine, OpenAI)
    assert (engine.name, engine.base_url, engine.first_byte_s) == ("fast", "http://a/v1", 5.0)
    assert engine.api_key.reveal() == "sk-1"
    assert "sk-1" not in repr(engine)


def test_an_engine_without_kind_is_openai_shaped():
    assert isinstance(choose_engine(settings(fast={"base_url": "http://a/v1"}), "fast", folder=HERE), OpenAI)


def test_engines_that_need_no_table():
    assert choose_engine(settings(), "echo", folder=HERE, environment={}) == Echo()
    assert engine_names(settings(), environment={}) == ["echo", "extractive"]


@pytest.mark.parametrize(
    ("environment", "base_url"),
    [
        pytest.param({"OPENAI_API_KEY": "sk-1"}, "https://api.openai.com/v1", id="a key means OpenAI"),
        pytest.param({"OPENAI_BASE_URL": "http://a/v1"}, "http://a/v1", id="an address needs no key"),
    ],
)
def test_the_openai_variables_make_an_engine(monkeypatch: pytest.MonkeyPatch, environment, base_url):
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    engine = choose_engine(settings(), "openai", folder=HERE)
    assert isinstance(engine, OpenAI)
    assert engine.base_url == base_url
    assert "openai" in engine_names(settings())


def test_a_table_called_openai_comes_before_the_environment():
    given = settings(openai={"kind": "echo"})
    assert isinstance(choose_engine(given, "openai", folder=HERE, environment={"OPENAI_API_KEY": "x"}), Echo)


WRONG = [
    pytest.param({}, "fsat", NotFound, r"no engine 'fsat'.*\[engines\.fsat\]", id="an engine that is not there"),
    pytest.param({"fast": {}}, "fsat", NotFound, "Did you mean 'fast'", id="a slip of the pen"),
    pytest.param({"fast": {"kind": "opnai"}}, "fast", ConfigError, "Did you mean 'openai'", id="an unknown kind"),
    pytest.param({"fast": {"kind": "echo", "replay": ""}}, "fast", ConfigError, "Did you mean 'reply'", id="a key"),
    pytest.param({"fast": {"kind": "echo", "delay_s": "x"}}, "fast", ConfigError, r"\[engines\.fast\]", id="a type"),
    pytest.param({"fast": {"kind": "openai"}}, "fast", ConfigError, "key 'base_url' is missing", id="a missing key"),
    pytest.param(
        {"fast": {"base_url": "http://a", "api_key": "sk-1"}},
        "fast",
        SecretMissing,
        "never written",
        id="a bare secret",
    ),
    pytest.param(
        {"fast": {"base_url": "http://a", "api_key": "env:NOT_SET_ANYWHERE"}},
        "fast",
        SecretMissing,
        "NOT_SET_ANYWHERE",
        id="a variable that is not set",
    ),
]


@pytest.mark.parametrize(("tables", "name", "error", "reason"), WRONG)
def test_what_is_wrong_is_named(tables, name, error, reason):
    with pytest.raises(error, match=reason):
        choose_engine(settings(**tables), name, folder=HERE, environment={})


def test_embedders():
    assert choose_embedder({"kind": "none"}) is None
    remote = choose_embedder({"kind": "openai", "base_url": "http://a/v1", "model": "m"})
    assert remote is not None
    assert remote.id == "openai:http://a/v1:m"
    with pytest.raises(ConfigError, match=r"\[retrieve\] embedder.*Did you mean 'openai'"):
        choose_embedder({"kind": "opnai"})


def test_the_vector_store_follows_the_database(tmp_path: Path):
    store = choose_index_store({"kind": "auto"}, folder=tmp_path / "indexes", url="")
    assert type(store).__module__ == "slipway.vectors.sqlite"
    with pytest.raises(ConfigError, match=r"\[retrieve\] vectors.*unknown key 'x'"):
        choose_index_store({"kind": "sqlite", "x": 1}, folder=tmp_path, url="")
