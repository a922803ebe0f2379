"""The echo engine: repeats what it is asked or replies from a script, without a model."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Literal, assert_never

from slipway.domain.errors import EngineGarbled, EngineRefused, EngineTimeout, EngineUnreachable
from slipway.domain.message import Delta, Reply, Request, Usage
from slipway.engines.base import Tools, engines

Failure = Literal["", "unreachable", "timeout", "refused", "garbled"]


@engines.register("echo")
@dataclass(frozen=True, slots=True, kw_only=True)
class Echo:
    """Repeats the question, or replies from a script: for first steps and tests, no model needed.

    `script` maps a stretch of a question to the reply; its first match wins, `reply` answers the rest, and without
    either the question comes back. `fails` makes every call end in that error; `fails_after` words of a stream come
    first. A token is a word here.
    """

    reply: str = ""
    script: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    fails: Failure = ""
    fails_after: int = 0
    name: str = "echo"

    async def complete(self, request: Request, *, tools: Tools) -> Reply:
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        self._fail()
        text = self._reply_to(request)
        return Reply(text=text, model=request.model, usage=_usage(request, text))

    async def stream(self, request: Request, *, tools: Tools) -> AsyncIterator[Delta]:
        text = self._reply_to(request)
        words = text.split(" ")
        for number, word in enumerate(words):
            if self.delay_s:
                await asyncio.sleep(self.delay_s / len(words))
            if number >= self.fails_after:
                self._fail()
            yield Delta(text=word if number == 0 else f" {word}")
        yield Delta(finish="stop", usage=_usage(request, text))

    def _reply_to(self, request: Request) -> str:
        asked = request.question or next((turn.text for turn in reversed(request.messages) if turn.role == "user"), "")
        for part, reply in self.script.items():
            if part in asked:
                return reply
        return self.reply or asked

    def _fail(self) -> None:
        match self.fails:
            case "":
                return
            case "unreachable":
                raise EngineUnreachable(self.name, "echo:", "it was told to be unreachable")
            case "timeout":
                raise EngineTimeout(self.name, "answer", self.delay_s)
            case "refused":
                raise EngineRefused(self.name, 500, "it was told to refuse")
            case "garbled":
                raise EngineGarbled(self.name, "it was told to send garbage")
            case _:
                assert_never(self.fails)


def _usage(request: Request, text: str) -> Usage:
    asked = sum(len(message.text.split()) for message in request.messages)
    return Usage(input_tokens=asked, output_tokens=len(text.split()))
