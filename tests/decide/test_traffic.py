"""Traffic from a CSV of two columns, of three, and from own traces."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from slipway.decide.arrivals import Arrival, read_arrivals, read_time
from slipway.decide.traffic import measure_traffic, read_traces, read_traffic
from slipway.deploy.traffic import read_traffic as deployed
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


SECONDS = [
    pytest.param("time,tokens", "16/Nov/2026:09:00:00 +0100", "16/Nov/2026:09:00:04 +0100", id="a web server's log"),
    pytest.param("time,tokens", "2026-11-16 09:00:00 UTC", "2026-11-16 09:00:04 UTC", id="UTC in letters"),
    pytest.param("time,tokens", "2026-11-16T09:00:00+02:00", "2026-11-16T07:00:04Z", id="two zones"),
    pytest.param("time,tokens", "1793577600123456789", "1793577604123456789", id="nanoseconds since 1970"),
    pytest.param("timestamp_ms,tokens", "1793577600000", "1793577604000", id="since 1970 in a column of milliseconds"),
    pytest.param("arrival_ms,tokens", "0", "4000", id="milliseconds from zero"),
    pytest.param("Timestamp (ns),tokens", "0", "4000000000", id="nanoseconds from zero"),
    pytest.param("start_time_us,tokens", "2026-11-16T09:00:00Z", "2026-11-16T09:00:04Z", id="dates in such a column"),
    pytest.param("time;tokens", "0,5", "4,5", id="a comma for the decimal point, semicolons"),
]


@pytest.mark.parametrize(("head", "first", "second"), SECONDS)
def test_a_time_is_read_as_it_is_written(tmp_path: Path, head: str, first: str, second: str) -> None:
    between = ";" if ";" in head else ","
    text = f"{head}\n{first}{between}100\n{second}{between}300\n"
    (one, other) = read_arrivals(write(tmp_path / "traffic.csv", text))
    assert other.at_s - one.at_s == pytest.approx(4.0)


SAME = [
    pytest.param("time,input_tokens,output_tokens\n0,30,10\n4,60,20\n", id="CSV"),
    pytest.param("Timestamp,Model,Request tokens,Response tokens,Total tokens\n0,a,30,10,40\n4,a,60,20,80\n",
                 id="with totals beside"),
    pytest.param("time,output_tokens,total_tokens\n0,10,40\n4,20,80\n", id="answers and totals"),
    pytest.param('{"time": 0, "isl": 30, "osl": 10}\n\n{"time": 4, "isl": 60, "osl": 20}\n', id="JSON lines"),
    pytest.param('[{"time": 0, "isl": 30, "osl": 10}, {"osl": 20, "isl": 60, "time": 4}]', id="a JSON list"),
    pytest.param('{"timestamp": 0, "input_length": 30, "output_length": 10, "hash_ids": [1]}\n'
                 '{"timestamp": 4000, "input_length": 60, "output_length": 20, "hash_ids": [1]}\n', id="Mooncake's"),
]  # fmt: skip


@pytest.mark.parametrize("text", SAME)
def test_every_spelling_of_a_trace_is_the_same_traffic(tmp_path: Path, text: str) -> None:
    found = read_arrivals(write(tmp_path / "trace", text))
    assert [(one.at_s, *one.lengths(0.5)) for one in found] == [(0, 30, 10), (4, 60, 20)]


def test_a_deployment_reads_the_lengths_that_a_decision_reads(tmp_path: Path) -> None:
    for text in ("0,100\n4,300\n", "time,tokens\n0,100\n4,300\n", "time,input_tokens\n0,100\n4,300\n"):
        file = write(tmp_path / "trace.csv", text)
        decided, replayed = read_traffic(file), deployed(file)
        assert decided.input_tokens == pytest.approx(replayed.input_tokens.mean(), abs=1)
        assert decided.output_tokens == pytest.approx(replayed.output_tokens.mean(), abs=1)
    assert read_traffic(file).input_tokens == 200, "a prompt is not the total"


BROKEN = [
    pytest.param("", "it is empty", id="nothing"),
    pytest.param('[{"time": 0, "isl": 30}, 5]', "request 2 holds no JSON object", id="a list of other things"),
    pytest.param('[{"time": 0,', "it is not JSON", id="half a list"),
    pytest.param("time,tokens\n11/16/2026 09:00:00 AM,5\n", "neither seconds nor a date", id="month or day first"),
    pytest.param('time,tokens\n1,"1,561"\n', "'1,561' is not a number of tokens", id="a comma in a number"),
    pytest.param("time,tokens\n,5\n", "line 2 has no time", id="a missing time"),
    pytest.param("time\n1\n", "one column", id="one column"),
    pytest.param("time,tokens\n1,5\nsoon,7\n", "line 3: 'soon' is neither seconds nor a date", id="a word for a time"),
    pytest.param("time,tokens\n1,5\n2,\n", "line 3 has no tokens", id="a missing number"),
    pytest.param("time,tokens\n1,5\n2,-7\n", "line 3: -7 tokens; a length", id="negative tokens"),
    pytest.param("time,tokens\n1,5\n2,nan\n", "line 3: 'nan' is not a number of tokens", id="not a number"),
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
