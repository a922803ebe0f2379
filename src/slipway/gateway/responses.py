"""POST /v1/responses, and what its input counts and is compacted to.

Where the engine speaks this API too and no guardrail has to read along, requests and answers go through as they are;
else they are translated into chat completions and back, without kept state.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec

from slipway.domain.errors import ItemUnknown, PreviousUnknown, RequestInvalid
from slipway.domain.routing import FAILURE_KINDS
from slipway.gateway.admission import check_model
from slipway.gateway.bound_ids import Bound
from slipway.gateway.call import Call
from slipway.gateway.chat import answer_and_copy, complete_routed
from slipway.gateway.fields import Fields, read_model, read_text, read_user
from slipway.gateway.forward import carry
from slipway.gateway.native_responses import ResponsesPassage, set_aside
from slipway.gateway.operations import RESPONSES
from slipway.gateway.routing import find_route
from slipway.gateway.services import Services
from slipway.gateway.side_calls import NO_SUCH_PATH, ask_alone
from slipway.gateway.targets import Target
from slipway.gateway.translation import ResponsesDialect, answer_in
from slipway.text.tokens import count_tokens
from slipway.wire.openai import read_fields
from slipway.wire.responses import NEEDS_STATE, ResponsesRequest, read_request
from slipway.wire.responses_native import references_in
from slipway.wire.texts import texts_of_chat

COUNT = "responses/input_tokens"
ONLY_NATIVE = frozenset({"previous_response_id", "background", "tools", "prompt"})
NOTHING = (b"", b"null", b"false", b'""')


async def respond(call: Call, services: Services) -> None:
    body, fields, previous, target = await _read(call, services)
    if not _passes(target):
        _refuse_what_rails_cannot_read(target, fields)
        request, chat = _read_translatable(body, target)
        answer_in(call, ResponsesDialect(call, request))
        await complete_routed(call, services, msgspec.json.encode(chat), target)
        return
    target = _checked(call, services, target, fields, previous)
    await _pass_on(call, services, body=body, fields=fields, target=target, previous=previous)


async def compact(call: Call, services: Services) -> None:
    """POST /v1/responses/compact: what an engine makes of a long conversation, so that it goes on with less."""
    body, fields, previous, target = await _read(call, services)
    if not _passes(target):
        raise RequestInvalid(
            f"'{call.model}' compacts nothing: call a release without prompt, documents and guardrails whose engine "
            "speaks the Responses API, or send the whole input.",
            param="model",
        )
    target = _checked(call, services, target, fields, previous)
    compacting = tuple(endpoint.below("POST", "/compact") for endpoint in target.endpoints[RESPONSES])
    target = replace(target, endpoints={RESPONSES: compacting})
    await _pass_on(call, services, body=body, fields=fields, target=target, previous=previous, stays=True)


async def count_input_tokens(call: Call, services: Services) -> None:
    """How many tokens such a request has: by the engine where it is asked as the request stands, else estimated from
    its texts, and said to be. Costs nothing and leaves no trace."""
    body, fields, previous, target = await _read(call, services)
    check_model(call, target)
    if _passes(target):
        target = _checked(call, services, target, fields, previous)
        if await _counted_there(call, services, fields, target, previous):
            return
    _, chat = read_request(body)
    counted = {"object": "response.input_tokens", "input_tokens": sum(map(count_tokens, texts_of_chat(chat)))}
    await call.reply(200, msgspec.json.encode(counted | {"slipway": {"estimated": True}}))


async def _read(call: Call, services: Services) -> tuple[bytes, Fields, Bound | None, Target]:
    """The body and its fields, what the id stands for that the request leans on, and who is asked: of a channel the
    release that made that. Raises what they raise."""
    body = await call.body()
    fields = read_fields(body)
    call.model = read_model(fields)
    call.identify(read_user(fields))
    previous = _previous(call, services, fields)
    return body, fields, previous, find_route(call, made_by="" if previous is None else previous.release_start)


async def _counted_there(
    call: Call, services: Services, fields: Fields, target: Target, previous: Bound | None
) -> bool:
    """Whether the engine has told it."""
    asked, _ = _as_known_there(call, services, fields, previous)
    counting = tuple(endpoint.below("POST", "/input_tokens") for endpoint in target.endpoints[RESPONSES])
    passed, _ = await ask_alone(
        call,
        services,
        replace(target, endpoints={COUNT: counting}),
        COUNT,
        body_for=lambda one: msgspec.json.encode(asked | {"model": one.model_json}),
    )
    status = passed.response.status
    if status in NO_SUCH_PATH:
        return False
    await call.reply(status, passed.body)
    return True


async def _pass_on(
    call: Call,
    services: Services,
    *,
    body: bytes,
    fields: Fields,
    target: Target,
    previous: Bound | None,
    stays: bool = False,
) -> None:
    there, items = _as_known_there(call, services, fields, previous)
    lean = {} if previous is None else {previous.id: services.ids.bind_again(previous, key=call.key)}
    services.admission.reserve(call, target, body=body, fields=set_aside(fields))
    stays = stays or previous is not None or _given(fields, "background")
    passage = ResponsesPassage(
        call, services, fields=fields, there=there, previous=lean, items=items, target=target, stays=stays
    )
    passing = carry(passage, call, body)
    if call.channel in call.snapshot.shadowed and (chat := passage.as_chat(body)) is not None:
        await answer_and_copy(call, services, passing, msgspec.json.encode(chat))
    else:
        await passing


def _read_translatable(body: bytes, target: Target) -> tuple[ResponsesRequest, dict[str, Any]]:
    """Raises `RequestInvalid`, with advice where the engine may know what a chat cannot say."""
    try:
        return read_request(body)
    except RequestInvalid as wrong:
        if wrong.param not in ONLY_NATIVE or not target.direct or not target.guardrails.read_nothing:
            raise
        advice = f"If the engine '{target.engine}' answers the Responses API, say so: responses = true in slipway.toml."
        raise RequestInvalid(f"{wrong} {advice}", param=wrong.param) from None


def _as_known_there(
    call: Call, services: Services, fields: Fields, previous: Bound | None
) -> tuple[Fields, dict[str, str]]:
    """The fields with ids as the engine knows them, the same where there are none; and what the client calls items.

    Raises `ItemUnknown` for a reference to what this key was not given."""
    items: dict[str, str] = {}
    changed: dict[str, msgspec.Raw] = {}
    if previous is not None:
        changed["previous_response_id"] = msgspec.Raw(msgspec.json.encode(previous.id))
    given = fields.get("input")
    if given is not None and bytes(memoryview(given)[:1]) == b"[":
        raw, items = services.ids.read_all(bytes(given), key=call.key)
        known = frozenset(items.values())
        for id in references_in(given):
            if id not in known:
                raise ItemUnknown(id)
        if items:
            changed["input"] = msgspec.Raw(raw)
    return (fields | changed if changed else fields), items


def _passes(target: Target) -> bool:
    """Whether requests and answers of this API go through as they are."""
    return target.plain and RESPONSES in target.endpoints and target.guardrails.read_nothing


def _previous(call: Call, services: Services, fields: Fields) -> Bound | None:
    """What the id stands for that the request leans on; None without one, and for one that is not of this key."""
    id = read_text(fields, "previous_response_id")
    return services.ids.read(id, key=call.key) if id else None


def _checked(call: Call, services: Services, target: Target, fields: Fields, previous: Bound | None) -> Target:
    """The target at the address that a request must go to. Raises `RequestInvalid`."""
    if _given(fields, "conversation"):
        raise RequestInvalid(
            "'conversation' is not possible here: it would be open to every key that knows its id. Send "
            "'previous_response_id', or the whole input.",
            param="conversation",
        )
    if previous is None:
        if id := read_text(fields, "previous_response_id"):
            raise PreviousUnknown(id)
        return target
    snapshot = call.snapshot
    stand_ins = [one for kind in FAILURE_KINDS for one in snapshot.fallbacks(call.channel, target, kind)]
    for one in [target, *stand_ins]:
        for endpoint in one.endpoints.get(RESPONSES, ()) if _passes(one) else ():
            if services.ids.place_of(one.engine, endpoint.origin) == previous.place:
                if one is not target:
                    call.fallback = one.label
                    call.release = one.release.id if one.release else call.release
                return replace(one, endpoints={RESPONSES: (endpoint,)})
    raise RequestInvalid(
        f"'previous_response_id' is kept by another engine than the one that '{call.model}' asks now: send the whole "
        "input.",
        param="previous_response_id",
    )


def _refuse_what_rails_cannot_read(target: Target, fields: Fields) -> None:
    if target.guardrails.read_nothing or RESPONSES not in target.endpoints:
        return
    for name in (*NEEDS_STATE, "prompt"):
        if _given(fields, name):
            raise RequestInvalid(
                f"'{name}' is not possible here: the guardrails of {target.label} cannot read what the engine keeps. "
                "Send the whole input.",
                param=name,
            )


def _given(fields: Fields, name: str) -> bool:
    return bytes(fields.get(name, b"")) not in NOTHING
