"""POST of the calls in `gateway.operations` that have no module of their own: a plain release passes them on."""

from __future__ import annotations

from slipway.domain.errors import RequestInvalid
from slipway.gateway.call import Call
from slipway.gateway.fields import Fields, read_model, read_user
from slipway.gateway.forward import forward
from slipway.gateway.operations import OF_THEIR_OWN, OPERATIONS, Operation
from slipway.gateway.routing import find_route
from slipway.gateway.services import Services
from slipway.gateway.targets import Target
from slipway.wire.completions import count_prompts
from slipway.wire.forms import Form
from slipway.wire.openai import read_fields

OPERATED: dict[str, Operation] = {
    f"/v1/{path}": operation for path, operation in OPERATIONS.items() if path not in OF_THEIR_OWN
}
"""By the path that clients call."""
MOST_PROMPTS = 100_000


async def operate(call: Call, services: Services) -> None:
    operation = OPERATED[call.path]
    body = await call.body()
    form = Form(body, call.headers.get(b"content-type", b"")) if operation.form else None
    fields = read_fields(body) if form is None else form.fields()
    call.model = read_model(fields)
    call.identify(read_user(fields))
    target = find_route(call)
    # A recording is no text: what it costs is known once it was heard.
    asked = body if form is None else form.texts
    times = _prompts(fields) if operation.writes else 0
    services.admission.reserve(call, target, body=asked, fields=_with_best_of(fields), times=times)
    if not target.plain or operation.path not in target.endpoints:
        raise _not_passed_on(call, target)
    await forward(call, services, path=operation.path, fields=fields, body=body, target=target, form=form)


def _not_passed_on(call: Call, target: Target) -> RequestInvalid:
    why = (
        "it answers from its own prompt and documents"
        if not target.plain
        else f"its engine '{target.engine}' does not speak the OpenAI API"
    )
    return RequestInvalid(
        f"'{call.model}' takes no {call.path}: {why}. Call /v1/chat/completions, or a release without prompt and "
        "documents whose engine is of kind openai.",
        param="model",
    )


def _prompts(fields: Fields) -> int:
    return min(MOST_PROMPTS, count_prompts(fields["prompt"])) if "prompt" in fields else 1


def _with_best_of(fields: Fields) -> Fields:
    """With as many answers as are made, of which perhaps not all come back."""
    return fields | {"n": fields["best_of"]} if "best_of" in fields else fields
