"""Traces of every kind that is known are read, and a broken one is named with its line."""

from pathlib import Path

import pytest

from slipway.deploy.traffic import invented, read_traffic
from slipway.domain.errors import FileBroken, FileMissing

READ = [
    pytest.param(
        "arrival_s,input_tokens,output_tokens\n5,10,20\n1,30,40\n", [0, 4], [30, 10], [40, 20], id="ours, out of order"
    ),
    pytest.param(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2023-11-16 18:01:51.1630340,4808,10\n2023-11-16 18:01:52.1630340,3180,8\n",
        [0, 1], [4808, 3180], [10, 8], id="Azure's",
    ),
    pytest.param(
        '{"timestamp": 0, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1]}\n'
        '{"timestamp": 3000, "input_length": 7322, "output_length": 490, "hash_ids": [0, 14]}\n',
        [0, 3], [6758, 7322], [500, 490], id="Mooncake's, in milliseconds",
    ),
    pytest.param("0.0,100\n2.5,200\n", [0, 2.5], [85, 170], [15, 30], id="two columns without a header: total tokens"),
    pytest.param("arrival_s,input_tokens\n0,850\n", [0], [850], [150], id="two columns, prompts only"),
    pytest.param("time;tokens\n2026-11-16T00:00:01Z;1000\n2026-11-16T02:00:03+02:00;200\n",
                 [0, 2], [850, 170], [150, 30], id="total tokens, semicolons, zones"),
    pytest.param("\ufeffTimestamp\tRequest tokens\tResponse tokens\n1763251203000\t10\t20\n1763251201000\t30\t40\n",
                 [0, 2], [30, 10], [40, 20], id="milliseconds since 1970, tabs, a byte order mark, out of order"),
    pytest.param("arrival_ms,prompt_len,output_len\n500,10,20\n\n2500,30,40\n",
                 [0, 2], [10, 30], [20, 40], id="milliseconds since the start, an empty line"),
    pytest.param("2026-11-16T00:00:01Z,5,6\n2026-11-16T00:00:02Z,7,8\n", [0, 1], [5, 7], [6, 8],
                 id="three columns without a header"),
    pytest.param('{"timestamp_ms": 1000, "prompt_tokens": 5, "completion_tokens": 6}\n'
                 '{"timestamp_ms": 1500, "prompt_tokens": 7, "completion_tokens": 8}\n',
                 [0, 0.5], [5, 7], [6, 8], id="JSON lines in milliseconds"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "arrival", "asked", "said"), READ)
def test_a_trace_is_read(text: str, arrival: list[float], asked: list[int], said: list[int], tmp_path: Path) -> None:
    file = tmp_path / "trace"
    file.write_text(text)
    traffic = read_traffic(file)
    assert traffic.arrival_s.tolist() == pytest.approx(arrival)
    assert traffic.input_tokens.tolist() == asked
    assert traffic.output_tokens.tolist() == said


BROKEN = [
    pytest.param("", "it is empty", id="empty"),
    pytest.param("arrival_s,input_tokens,output_tokens\n", "no request", id="header only"),
    pytest.param("arrival_s,input_tokens,output_tokens\n0,-4,3\n", "line 2: -4 tokens", id="negative length"),
    pytest.param("arrival_s,input_tokens,output_tokens\nsoon,4,3\n", "line 2: 'soon' is neither", id="no time"),
    pytest.param("arrival_s,input_tokens\n0,nan\n", "line 2: 'nan' is not a number", id="no number"),
    pytest.param("arrival_s,input_tokens\ninf,3\n", "a time of inf makes no sense", id="endless arrival"),
    pytest.param("time,tokens\n5,10\n5,20\n", "all its 2 requests come at the same time", id="no rate"),
    pytest.param("time,in,out\n5,0,0\n6,0,0\n", "none of its requests has tokens", id="no tokens"),
    pytest.param("arrival_s|input_tokens\n0|3\n", "first line has one column", id="another delimiter"),
    pytest.param("a,b,c\nx,y,z\n", r"its head \(a, b, c\) names no time and tokens", id="unknown columns"),
    pytest.param('{"timestamp": 0}\n', r"its head \(timestamp\) names no time and tokens", id="JSON without lengths"),
    pytest.param('{"timestamp": \n', "line 1 is not JSON", id="broken JSON"),
]


@pytest.mark.parametrize(("text", "why"), BROKEN)
def test_a_broken_trace_is_named(text: str, why: str, tmp_path: Path) -> None:
    file = tmp_path / "trace.csv"
    file.write_text(text)
    with pytest.raises(FileBroken, match=why):
        read_traffic(file)
    with pytest.raises(FileMissing):
        read_traffic(tmp_path / "nothing")


def test_traffic_is_made_faster_and_cut() -> None:
    traffic = invented(per_second=5.0, input_tokens=100, output_tokens=20, requests=500)
    assert traffic.at_rate(50.0).per_second == pytest.approx(50.0)
    assert len(traffic.part(100, 200)) == 100
    assert traffic.part(100, 200).arrival_s[0] == 0
    assert 3 < traffic.per_second < 8
    assert traffic.input_tokens.mean() == pytest.approx(100, rel=0.1)
