"""A prompt from text, for every test of this room."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from slipway.domain.prompt import Prompt
from slipway.prompt.files import parse_prompt

Make = Callable[..., Prompt]


@pytest.fixture
def make() -> Make:
    """A prompt with this system and user text; `front` is YAML for the front matter."""

    def prompt(user: str, system: str = "", *, front: str = "", name: str = "answer") -> Prompt:
        text = f"---\n{front}\n---\n" if front else ""
        text += f"# system\n{system}\n" if system else ""
        return parse_prompt(f"{text}# user\n{user}\n", name=name, created_at=datetime(2026, 1, 1, tzinfo=UTC))

    return prompt
