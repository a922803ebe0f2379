"""Programs in browsers: which web pages may call, and the headers without which a browser hides the answer from them.

As the Fetch standard has it (CORS), without credentials: keys travel in headers, and cookies are of no use here.
"""

from __future__ import annotations

import re

from slipway.config.origins import ANY
from slipway.domain.errors import OriginNotAllowed
from slipway.gateway.call import Call
from slipway.wire.errors import write_slipway_error

METHODS = b"GET, POST"
REMEMBERED_S = b"600"
"""How long a browser may go without asking again."""
HEADER_NAMES = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~, -]{1,4096}")
ASKED_METHOD, ASKED_HEADERS = b"access-control-request-method", b"access-control-request-headers"


async def meet_page(call: Call) -> bool:
    """Notes whether the page that calls may read the answer. True where the browser only asked that beforehand, which
    is answered then: without a key, since browsers send none."""
    origin, allowed = call.headers[b"origin"], call.snapshot.workspace.settings.server.allow_origins
    if ANY in allowed:
        call.for_page = ((b"access-control-allow-origin", b"*"),)
    elif origin.decode("latin-1") in allowed:
        call.for_page = ((b"access-control-allow-origin", origin), (b"vary", b"Origin"))
    if call.for_page:
        call.for_page += ((b"access-control-expose-headers", b"*"),)
    if call.scope["method"] != "OPTIONS" or ASKED_METHOD not in call.headers:
        return False
    call.path = "preflight"  # for the counts: it is no request for the path that it asks about
    if not call.for_page:
        refused = OriginNotAllowed(origin.decode("latin-1"))
        call.outcome = refused.code
        await call.reply(refused.http_status, write_slipway_error(refused), more=[(b"vary", b"Origin")])
        return True
    more = [(b"access-control-allow-methods", METHODS), (b"access-control-max-age", REMEMBERED_S)]
    asked = call.headers.get(ASKED_HEADERS, b"")
    if HEADER_NAMES.fullmatch(asked):
        # None of them is dangerous: what the gateway does not know, it passes over.
        more += [(b"access-control-allow-headers", asked), (b"vary", b"Access-Control-Request-Headers")]
    await call.reply(200, b"", more=more)
    return True
