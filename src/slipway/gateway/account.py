"""What clients are told of their limits: `x-ratelimit-…`, as clients of OpenAI read them."""

from __future__ import annotations

from slipway.access.leases import Account


def limit_lines(account: Account) -> bytes:
    """The headers as lines that end in CR LF."""
    requests, tokens = account.remaining()
    lines = b""
    if requests is not None:
        lines = (
            b"x-ratelimit-limit-requests: %d\r\nx-ratelimit-remaining-requests: %d\r\n"
            b"x-ratelimit-reset-requests: %ds\r\n"
        ) % requests
    if tokens is not None:
        lines += (
            b"x-ratelimit-limit-tokens: %d\r\nx-ratelimit-remaining-tokens: %d\r\nx-ratelimit-reset-tokens: %ds\r\n"
        ) % tokens
    return lines


def limits_left(account: Account) -> list[tuple[bytes, bytes]]:
    """The same, each as a pair."""
    pairs = (line.partition(b": ") for line in limit_lines(account).split(b"\r\n")[:-1])
    return [(name, value) for name, _, value in pairs]
