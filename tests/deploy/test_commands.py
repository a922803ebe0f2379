"""`slipway deploy` from the outside."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from slipway.cli.main import app
from slipway.domain.errors import SlipwayError

runner = CliRunner()


def test_plan_emit_edit_check(application: Path) -> None:
    plan = runner.invoke(app, ["deploy", "plan", "--model", "llama-3.1-8b", "--dir", str(application), "--json"])
    assert plan.exit_code == 0, plan.output
    made = json.loads(plan.stdout)
    assert made["chosen"]["replicas"] >= 1
    assert json.loads(runner.invoke(app, ["deploy", "show", "--dir", str(application), "--json"]).stdout) == made

    emitted = runner.invoke(app, ["deploy", "emit", "kubernetes", "--dir", str(application), "--json"])
    assert emitted.exit_code == 0, emitted.output
    folder = application / "deploy"
    assert str(folder / "gateway.yaml") in json.loads(emitted.stdout)["files"]
    assert json.loads(runner.invoke(app, ["deploy", "check", str(folder), "--json"]).stdout) == {
        "ok": True,
        "problems": [],
    }

    manifest = folder / "gateway.yaml"
    manifest.write_text(manifest.read_text().replace("containers:", "contaners:", 1))
    checked = runner.invoke(app, ["deploy", "check", str(folder)])
    assert checked.exit_code == 1
    assert "gateway.yaml: spec.template.spec: unknown field 'contaners'. Did you mean 'containers'" in checked.stdout


TRAFFIC = ["--requests-per-day", "20000", "--input-tokens", "9000", "--output-tokens", "200"]


def test_a_plan_needs_no_application(tmp_path: Path) -> None:
    command = ["deploy", "plan", "--model", "llama-3.1-8b", "--hardware", "h100-sxm", "--dir", str(tmp_path), "--json"]
    done = runner.invoke(app, [*command, *TRAFFIC])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["chosen"]["hardware"] == "h100-sxm"
    assert "Not saved" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_plan_without_application_or_traffic_says_what_to_give(tmp_path: Path) -> None:
    lacking = runner.invoke(app, ["deploy", "plan", "--model", "llama-3.1-8b", "--dir", str(tmp_path), *TRAFFIC[:4]])
    assert "give --output-tokens, or --trace FILE" in str(lacking.exception)
    nothing = runner.invoke(app, ["deploy", "plan", "--dir", str(tmp_path)])
    assert isinstance(nothing.exception, SlipwayError)
    assert nothing.exception.exit_code == 2
    assert "slipway deploy plan --model llama-3.1-8b --trace FILE" in str(nothing.exception)
    assert not list(tmp_path.iterdir())


def test_a_plan_that_nothing_holds_ends_with_3(application: Path) -> None:
    command = ["deploy", "plan", "--model", "llama-3.1-405b", "--hardware", "l4", "--dir", str(application), "--json"]
    done = runner.invoke(app, command)
    assert done.exit_code == 3
    assert "GiB" in json.loads(done.stdout)["others"][0]["rejected"]


def test_the_catalogue_is_listed() -> None:
    models = json.loads(runner.invoke(app, ["deploy", "models", "--json"]).stdout)
    assert "dolly-v2-12b" in {model["name"] for model in models}
    hardware = json.loads(runner.invoke(app, ["deploy", "hardware", "--json"]).stdout)
    assert {"h100-sxm", "mi300x"} <= {one["hardware"]["name"] for one in hardware}
    assert "h100-sxm" in runner.invoke(app, ["deploy", "hardware"]).stdout


def test_replicas_are_counted_from_a_trace_and_nonsense_is_refused(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    rows = "".join(f"{number / 4},{200 + 37 * (number % 40)},{20 + number % 200}\n" for number in range(400))
    trace.write_text("arrival_s,input_tokens,output_tokens\n" + rows)
    call = ["deploy", "replicas", "--trace", str(trace)]
    done = runner.invoke(app, [*call, "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["replicas"] >= 1
    assert told["first_s"] <= 1.0
    assert told["token_s"] <= 0.05
    assert told["later"] >= told["replicas"]
    more = json.loads(runner.invoke(app, [*call, "--headroom", "20", "--json"]).stdout)
    assert more["per_second"] == pytest.approx(21 * told["per_second"])
    assert more["replicas"] > told["replicas"]
    for extra, code, said in (
        (["--rate", "-3"], 2, "A rate of -3"),
        (["--hardware", "abacus"], 2, "no hardware 'abacus'"),
        (["--share", "1.5"], 2, "A share of 1.5"),
        (["--headroom", "-1"], 2, "A headroom of -1"),
        (["--devices", "3"], 2, "cannot be split over 3 devices"),
        (["--devices", "16"], 2, "A machine holds 8 x h100-sxm"),
        (["--ttft-ms", "0"], 2, "A limit of 0 ms"),
        (["--ttft-p50-ms", "900", "--ttft-ms", "500"], 2, "half of the requests take no longer"),
        (["--tpot-p50-ms", "0.1"], 3, "half of the tokens take"),
        (["--ttft-ms", "900", "--end-to-end-ms", "500"], 2, "the first token comes before the whole answer"),
        (["--tpot-ms", "0.1"], 3, "No number of replicas holds"),
        (["--model", "llama-3.1-405b"], 3, "does not fit on 4 x h100-sxm"),
    ):
        refused = runner.invoke(app, [*call, *extra]).exception
        assert isinstance(refused, SlipwayError)
        assert refused.exit_code == code
        assert said in str(refused)


def test_requests_beyond_the_context_are_named(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    rows = "".join(f"{at},{8040 if at == 5 else 40},20\n" for at in range(300))
    trace.write_text("time,input_tokens,output_tokens\n" + rows)
    config = {
        "model_type": "llama",
        "hidden_size": 1024,
        "num_attention_heads": 8,
        "num_hidden_layers": 8,
        "vocab_size": 32000,
        "intermediate_size": 4096,
        "max_position_embeddings": 4096,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    call = ["deploy", "replicas", "--trace", str(trace), "--model", str(tmp_path / "config.json"), "--devices", "1"]
    assert json.loads(runner.invoke(app, [*call, "--json"]).stdout)["beyond_context"] == 1
    assert "1 of 300 requests. An engine refuses them" in runner.invoke(app, call).stdout


def test_any_config_is_described(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(
        '{"model_type": "mpt", "d_model": 4096, "n_heads": 32, "n_layers": 32,'
        ' "vocab_size": 50432, "max_seq_len": 2048}'
    )
    told = json.loads(runner.invoke(app, ["deploy", "model", "--config", str(config), "--json"]).stdout)
    assert told["shape"]["parameters"] / 1e9 > 6
    assert told["cache_bytes_a_token"] == 2 * 32 * 4096 * 2
    assert told["devices"]["h100-sxm"]["bf16"] == 1
