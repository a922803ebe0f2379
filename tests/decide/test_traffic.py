"""Traffic from a CSV of two columns, of three, and from own traces."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from slipway.decide.traffic import Arrival, measure_traffic, read_time, read_traces, read_traffic
from slipway.domain.errors import FileBroken, FileMissing, InputError
from slipway.domain.trace import Span
from slipway.workspace import Workspace

AZURE = Path(__file__).parents[3] / "shared" / "data" / "workloads" / "azure2023_conv_first60pct.csv"


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


SPELLINGS = [
    pytest.param("time,tokens\n2026-11-02T00:00:00Z,100\n2026-11-02T12:00:00Z,300\n", id="ISO dates with a zone"),
    pytest.param("2026-11-02 00:00:00;100\n2026-11-02 12:00:00;300\n", id="no head line, semicolons, no zone"),
    pytest.param("0\t100\n43200\t300\n", id="seconds from the start, tabs"),
    pytest.param("when,n\n1793577600000,100\n1793620800000,300\n", id="milliseconds since 1970, own words"),
    pytest.param("tokens,time\n300,43200\n100,0\n", id="the other way round, not in order"),
    pytest.param("id,time,tokens\na,0,100\nb,43200,300\n", id="more columns than are needed"),
    pytest.param("\ufefftime,tokens\r\n0,100\r\n\r\n43200,300\r\n", id="as a spreadsheet saves it"),
]


@pytest.mark.parametrize("text", SPELLINGS)
def test_two_columns_are_enough(tmp_path: Path, text: str) -> None:
    traffic = read_traffic(write(tmp_path / "traffic.csv", text), output_share=0.25)
    assert traffic.requests == 2
    assert traffic.days == pytest.approx(1.0), "two requests span two gaps of half a day"
    assert traffic.requests_per_day == pytest.approx(2.0)
    assert (traffic.input_tokens, traffic.output_tokens) == (150, 50)
    assert traffic.split_assumed


def test_three_columns_say_what_is_input_and_what_is_output(tmp_path: Path) -> None:
    path = write(tmp_path / "azure.csv", "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,374,44\n"
                 "2023-11-16 18:15:50.9951690,396,109\n")  # fmt: skip
    traffic = read_traffic(path)
    assert (traffic.input_tokens, traffic.output_tokens) == (385, 76.5)
    assert not traffic.split_assumed


BROKEN = [
    pytest.param("", "it is empty", id="nothing"),
    pytest.param("time\n1\n", "one column", id="one column"),
    pytest.param("time,tokens\n1,5\nsoon,7\n", "line 3 is no request", id="a word for a time"),
    pytest.param("time,tokens\n1,5\n2,\n", "line 3 is no request", id="a missing number"),
    pytest.param("time,tokens\n1,5\n2,-7\n", "line 3 has a number that makes no sense", id="negative tokens"),
    pytest.param("time,tokens\n1,5\n2,nan\n", "line 3 has a number that makes no sense", id="not a number"),
    pytest.param("city,colour,size\nBonn,red,3\n", "names no time and tokens", id="other columns"),
]


@pytest.mark.parametrize(("text", "reason"), BROKEN)
def test_a_broken_file_names_the_line(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(FileBroken, match=reason):
        read_traffic(write(tmp_path / "bad.csv", text))


def test_a_missing_file_and_too_few_requests_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileMissing):
        read_traffic(tmp_path / "none.csv")
    with pytest.raises(InputError, match="holds 1 requests"):
        read_traffic(write(tmp_path / "one.csv", "time,tokens\n1,5\n"))
    with pytest.raises(InputError, match="at the same time"):
        read_traffic(write(tmp_path / "same.csv", "time,tokens\n1,5\n1,6\n"))
    with pytest.raises(InputError, match="output share"):
        read_traffic(write(tmp_path / "two.csv", "time,tokens\n1,5\n2,6\n"), output_share=1.5)


def test_a_busy_hour_shows_in_the_peak_and_in_the_day() -> None:
    day = 86_400
    calm = [Arrival(second, 100, 10) for second in range(0, 3 * day, 60)]
    busy = [Arrival(d * day + 12 * 3600 + second, 100, 10) for d in range(3) for second in range(0, 3600, 2)]
    traffic = measure_traffic([*calm, *busy], source="made")
    assert len(traffic.by_hour) == 24
    assert max(traffic.by_hour) == traffic.by_hour[12]
    assert sum(traffic.by_hour) == pytest.approx(24)
    assert 8 < traffic.peak_factor < 20, "31 requests a minute at noon against 2.25 on average"
    assert traffic.levels[0] <= traffic.levels[-1] == traffic.peak_factor
    assert measure_traffic(calm[:100], source="short").by_hour == (), "an hour says nothing about a day"


def test_instants_are_read_in_any_unit() -> None:
    second = datetime(2026, 11, 2, tzinfo=UTC).timestamp()
    for text in (f"{second}", f"{second * 1e3:.0f}", f"{second * 1e9:.0f}", "2026-11-02T00:00:00.0000000+00:00"):
        assert read_time(text) == pytest.approx(second)
    assert read_time("12.5") == 12.5


@pytest.mark.skipif(not AZURE.exists(), reason="the Azure trace of the development data is not here")
def test_the_azure_hour_has_the_shape_that_is_known_of_it() -> None:
    traffic = read_traffic(AZURE)
    assert traffic.requests == 12_340
    assert traffic.peak_factor == pytest.approx(1.44, abs=0.02)


def test_own_traces_are_traffic_too(workspace: Workspace) -> None:
    with pytest.raises(InputError, match="holds 0 requests"):
        read_traces(workspace.store.traces)
    start = datetime(2026, 11, 2, tzinfo=UTC)
    workspace.store.traces.add([a_span(number, start + timedelta(minutes=number)) for number in range(3)])
    traffic = read_traces(workspace.store.traces)
    assert (traffic.requests, traffic.input_tokens, traffic.output_tokens) == (3, 120, 30)
    assert traffic.requests_per_day == pytest.approx(1440)


def a_span(number: int, start: datetime) -> Span:
    started = int(start.timestamp()) * 1_000_000_000
    return Span(
        trace=f"{number:032x}",  # type: ignore[arg-type]
        span=f"{number:016x}",  # type: ignore[arg-type]
        name="answer",
        kind="request",
        start_ns=started,
        end_ns=started + 1000,
        project="lamps",
        input_tokens=120,
        output_tokens=30,
    )
