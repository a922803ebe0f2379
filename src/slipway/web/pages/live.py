"""What goes through at this moment? Rates, latency, errors and cost by release, and engines that are left alone."""

from slipway.watch.live import LiveRow, read_live
from slipway.watch.upstreams import read_health
from slipway.web.frame import Crumb
from slipway.web.number import UNKNOWN, count, money, seconds, share, significant
from slipway.web.page import View, Visit, page
from slipway.web.pages.traces import release_labels
from slipway.web.table import Column, Row, Table

COLUMNS = (
    Column(key="channel", label="Channel"),
    Column(key="release", label="Release"),
    Column(key="rate", label="Requests / s", number=True),
    Column(key="errors", label="Errors", number=True),
    Column(key="p50", label="p50", number=True),
    Column(key="p95", label="p95", number=True),
    Column(key="first", label="First token", number=True),
    Column(key="tokens", label="Tokens / s", number=True),
    Column(key="cost", label="An hour", number=True),
)


def show(visit: Visit) -> View:
    workers = visit.workspace.state / "workers"
    live = read_live(workers, labels=release_labels(visit.workspace))
    failing = sum(row.requests_per_second * (row.error_rate or 0.0) for row in live.rows)
    rate = sum(row.requests_per_second for row in live.rows)
    data = {
        "running": live.workers > 0,
        "figures": [
            ("Requests / s", significant(rate), f"{count(live.in_flight)} in flight"),
            ("Errors", share(failing / rate if rate else None), "not what clients did wrong"),
            ("Tokens / s", significant(sum(row.tokens_per_second for row in live.rows)), "in and out"),
            ("Cost an hour", money(sum(row.dollars_per_hour for row in live.rows)), "at this rate"),
        ],
        "table": Table(caption="Traffic by release", columns=COLUMNS, rows=[_row(row) for row in live.rows]),
        "upstreams": read_health(workers),
    }
    return View("live.html", "Live traffic", data, (Crumb("Watch", "/watch"), Crumb("Live traffic")))


def _row(row: LiveRow) -> Row:
    return Row(
        cells={
            "channel": row.channel or UNKNOWN,
            "release": row.release or UNKNOWN,
            "rate": significant(row.requests_per_second),
            "errors": share(row.error_rate),
            "p50": seconds(row.p50_s),
            "p95": seconds(row.p95_s),
            "first": seconds(row.first_token_p50_s),
            "tokens": significant(row.tokens_per_second),
            "cost": money(row.dollars_per_hour),
        }
    )


ROUTES = [page("/watch/live", show)]
