"""POST /v1/embeddings: forwarded to the engine of a plain release, else made by the embedder of the index."""

from __future__ import annotations

import asyncio

import msgspec

from slipway.domain.errors import RequestInvalid
from slipway.domain.guardrail import Verdict
from slipway.domain.message import Usage
from slipway.gateway.admission import check_model
from slipway.gateway.call import Call
from slipway.gateway.field_checks import check_fields
from slipway.gateway.fields import read_model, read_user
from slipway.gateway.forward import forward
from slipway.gateway.guarding import strongest
from slipway.gateway.operations import OPERATIONS
from slipway.gateway.routing import find_route
from slipway.gateway.services import Services
from slipway.store.call_records import shortened
from slipway.text.tokens import count_tokens
from slipway.wire.embeddings import read_embedding_request, write_embeddings
from slipway.wire.openai import read_fields

PATH = "embeddings"
MOST_TEXTS = 2048


async def embed(call: Call, services: Services) -> None:
    body = await call.body()
    fields = read_fields(body)
    call.model = read_model(fields)
    call.identify(read_user(fields))
    embedder = call.snapshot.workspace.embedder
    target = None if embedder is not None and call.model == embedder.id else find_route(call)
    if target is None:
        check_model(call, None)
    else:
        services.admission.reserve(call, target, body=body, fields=fields)
    if target is not None and target.plain and PATH in target.endpoints:
        await forward(call, services, path=PATH, fields=fields, body=body, target=target)
        return
    verdicts: list[Verdict] = []
    if target is not None:
        checked, verdicts = check_fields(fields, OPERATIONS[PATH], target.guardrails, label=target.label)
        body = body if checked is fields else msgspec.json.encode(checked)
    request = read_embedding_request(body)
    if embedder is None:
        raise RequestInvalid(
            f"'{call.model}' makes no embeddings: its search is lexical only. "
            "Configure an embedder: [retrieve] embedder in slipway.toml.",
            param="model",
        )
    if request.dimensions not in (None, embedder.dimensions):
        raise RequestInvalid(f"'dimensions' can only be {embedder.dimensions} here.", param="dimensions")
    texts = [request.input] if isinstance(request.input, str) else request.input
    if len(texts) > MOST_TEXTS:
        raise RequestInvalid(f"'input' holds {len(texts)} texts; at most {MOST_TEXTS} at once.", param="input")
    vectors = await asyncio.to_thread(embedder.embed, texts)
    tokens = sum(map(count_tokens, texts))
    services.ledger.write_call(
        call,
        name=f"embeddings {embedder.id}",
        kind="embeddings",
        status="ok",
        usage=Usage(input_tokens=tokens, estimated=True),
        verdicts=strongest(verdicts) if verdicts else None,
        content={"messages": [{"role": "user", "text": shortened(text)} for text in texts]},
    )
    answer = write_embeddings(vectors, model=call.model, as_base64=request.encoding_format == "base64", tokens=tokens)
    await call.reply(200, answer)
