"""`slipway deploy`: plan hardware, emit and check the files of a target, list models and hardware."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slipway.cli.output import HERE, AsJson, Folder, open_here, show, table

if TYPE_CHECKING:
    from slipway.deploy.shape import Problem
    from slipway.domain.deployment import Plan, PlanOption

app = typer.Typer(no_args_is_help=True)


@app.command()
def plan(
    model: Annotated[
        str, typer.Option(help="Catalogue name or path of a config.json; empty takes [deploy] model.")
    ] = "",
    hardware: Annotated[
        list[str] | None, typer.Option("--hardware", help="Hardware to choose from; may be repeated.")
    ] = None,
    trace: Annotated[Path | None, typer.Option("--trace", help="Traffic to replay instead of [decide]'s.")] = None,
    rate: Annotated[float | None, typer.Option(help="Replay the trace at so many requests a second.")] = None,
    requests_per_day: Annotated[float | None, typer.Option(help="Requests a day instead of [decide]'s.")] = None,
    input_tokens: Annotated[float | None, typer.Option(help="Mean tokens of a prompt.")] = None,
    output_tokens: Annotated[float | None, typer.Option(help="Mean tokens of an answer.")] = None,
    ttft_ms: Annotated[float | None, typer.Option(help="Most milliseconds to the first token, p99.")] = None,
    tpot_ms: Annotated[float | None, typer.Option(help="Most milliseconds a token after the first, p99.")] = None,
    end_to_end_ms: Annotated[float | None, typer.Option(help="Most milliseconds of a whole answer, p99.")] = None,
    ttft_p50_ms: Annotated[float | None, typer.Option(help="Most milliseconds to half of the first tokens.")] = None,
    tpot_p50_ms: Annotated[float | None, typer.Option(help="Most milliseconds a token in half of the answers.")] = None,
    end_to_end_p50_ms: Annotated[float | None, typer.Option(help="Most milliseconds of half of the answers.")] = None,
    budget: Annotated[float | None, typer.Option(help="Most dollars a month.")] = None,
    headroom: Annotated[float, typer.Option(help="Share by which traffic may grow, such as 0.3 for 30 %.")] = 0.0,
    own_racks: Annotated[bool, typer.Option("--own-racks", help="Buy accelerators instead of renting them.")] = False,
    region: Annotated[str, typer.Option(help="Cloud region to plan for; empty takes [deploy] region.")] = "",
    from_traces: Annotated[
        str, typer.Option("--from-traces", help="Take requests and lengths from the traffic of this time, such as 30d.")
    ] = "",
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Plan what to run on for [decide], and save the plan. Exit code 3: nothing holds the requirement.

    In a folder without slipway.toml give a --model and its traffic; then nothing is saved.
    """
    from slipway.cli.watch import measured
    from slipway.config.reader import FILE_NAME
    from slipway.deploy.plan import make_plan, plan_without_application, require_choice
    from slipway.deploy.requirement import Asked
    from slipway.deploy.traffic import read_traffic
    from slipway.domain.errors import InputError

    traffic = read_traffic(trace) if trace else None
    if rate is not None:
        if traffic is None or not rate > 0:
            raise InputError(f"A rate of {rate:g} requests a second needs a --trace and more than 0.")
        traffic = traffic.at_rate(rate)
    asked = Asked(
        trace=traffic,
        requests_per_day=requests_per_day,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        first_token_ms=ttft_ms,
        token_ms=tpot_ms,
        end_to_end_ms=end_to_end_ms,
        first_token_p50_ms=ttft_p50_ms,
        token_p50_ms=tpot_p50_ms,
        end_to_end_p50_ms=end_to_end_p50_ms,
        monthly_budget=budget,
        own_racks=own_racks,
        region=region,
        headroom=headroom,
    )
    if not from_traces and folder.is_dir() and not (folder / FILE_NAME).exists():
        made = plan_without_application(folder, model, hardware=hardware or [], asked=asked)
        typer.echo(f"Not saved: there is no {FILE_NAME} in {folder.resolve()}.", err=True)
    else:
        with open_here(folder) as workspace:
            made = make_plan(measured(workspace, from_traces), model=model, hardware=hardware or [], asked=asked)
    show(made, as_json=as_json, text=_describe)
    if as_json and made.chosen is None:
        raise typer.Exit(3)
    require_choice(made)


@app.command("show")
def show_(
    reference: Annotated[str, typer.Argument(help="Id of a plan; empty is the newest.")] = "",
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Show a saved plan."""
    from slipway.deploy.plan import latest_plan
    from slipway.domain.deployment import Plan

    with open_here(folder) as workspace:
        found = workspace.store.records.get(Plan, reference) if reference else latest_plan(workspace)
    show(found, as_json=as_json, text=_describe)


@app.command()
def emit(
    target: Annotated[
        str, typer.Argument(help="process, compose, kubernetes or vllm; empty takes [deploy] target.")
    ] = "",
    out: Annotated[Path, typer.Option("--out", help="Folder for the files.")] = Path("deploy"),
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="A setting of the target as key=value; may be repeated.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write into a folder that holds other files.")] = False,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Write the files of a target for the newest release and plan; they hold no secret and are checked first."""
    from slipway.deploy.emission import emit as emit_files
    from slipway.deploy.emission import read_settings, write_files
    from slipway.deploy.plan import latest_plan
    from slipway.release.parts import list_releases

    with open_here(folder) as workspace:
        named = target or workspace.settings.deploy.target
        releases = list_releases(workspace)
        files = emit_files(
            workspace,
            named,
            plan=latest_plan(workspace),
            release=releases[0] if releases else None,
            settings=read_settings(setting or []),
        )
    # A relative folder lies inside the application, because its image is built from there.
    written = write_files(files, out if out.is_absolute() else folder / out, force=force)
    show(
        {"target": named, "files": [str(path) for path in written]},
        as_json=as_json,
        text=lambda _: [*map(os.fspath, written), "What comes next stands in README.md among them."],
    )


@app.command()
def check(
    out: Annotated[Path, typer.Argument(help="Folder of emitted files.")],
    target: Annotated[str, typer.Option(help="What they are for; empty reads the folder's own marker.")] = "",
    as_json: AsJson = False,
) -> None:
    """Check a folder of deployment files without the place they are for; exit code 1 when something is wrong."""
    from slipway.deploy.emission import check_folder

    problems = check_folder(out, target=target)
    show({"ok": not problems, "problems": problems}, as_json=as_json, text=lambda _: _list_problems(problems))
    if problems:
        raise typer.Exit(1)


@app.command()
def predict(
    points: Annotated[
        Path, typer.Option("--points", help="CSV: model, hardware, engine, weights, isl, osl, concurrency, tp, ...")
    ],
    out: Annotated[Path | None, typer.Option("--out", help="CSV to write; empty prints.")] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="A calibration of your own; empty takes the application's or the shipped one.")
    ] = None,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Predict time to first token, time per token and tokens a second of each row, with 80 % intervals."""
    from slipway.deploy.prediction_table import predict_table, write_rows
    from slipway.models.calibrations import calibration_in, joined, read_calibration, shipped

    known = joined(shipped(), read_calibration(calibration)) if calibration else calibration_in(folder)
    made = predict_table(points, calibration=known)
    if out is not None:
        write_rows(made.rows, out)
    for unusable in made.unusable:
        typer.echo(f"Not predicted: {unusable}", err=True)
    if as_json or out is None:
        shown = [[row[name] for name in ("id", "ttft_ms", "tpot_ms", "output_tok_s", "known")] for row in made.rows]
        text = table(["id", "first token ms", "a token ms", "tokens/s", "known"], shown)
        show({"rows": made.rows, "unusable": made.unusable}, as_json=as_json, text=text)
    else:
        typer.echo(f"{len(made.rows)} rows in {out}, {len(made.unusable)} not predicted.")
    if not made.rows:
        raise typer.Exit(2)


@app.command()
def calibrate(
    files: Annotated[
        list[Path],
        typer.Argument(help="JSON of vLLM bench, guidellm or aiperf; CSV tables or timed traces."),
    ],
    model: Annotated[str, typer.Option(help="Catalogue name or config.json; empty takes the file's own.")] = "",
    hardware: Annotated[str, typer.Option(help="What it ran on, where the file does not say.")] = "",
    devices: Annotated[int, typer.Option(min=0, help="Accelerators of the replica, where the file does not say.")] = 0,
    engine: Annotated[str, typer.Option(help="vllm, trtllm or sglang, where the file does not say.")] = "vllm",
    weights: Annotated[str, typer.Option(help="bf16, fp8 or int4, where the file does not say.")] = "",
    out: Annotated[
        Path | None, typer.Option("--out", help="Where to write; empty is calibration.json of the application.")
    ] = None,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Refit the planner with your own measurements, and show its error before and after."""
    from datetime import UTC, datetime

    from slipway.deploy.calibration import calibrate as refit
    from slipway.deploy.measurements import Place, read_measurements
    from slipway.models.calibrations import OWN_FILE, calibration_in, joined, read_calibration, write_calibration

    place = Place(model=model, hardware=hardware, devices=devices, engine=engine, weights=weights)
    points = read_measurements(files, place, folder=folder)
    found = refit(
        points,
        base=calibration_in(folder),
        today=datetime.now(UTC).date(),
        source=", ".join(file.name for file in files),
    )
    target = out or folder / OWN_FILE
    own = joined(read_calibration(target), found.calibration) if target.is_file() else found.calibration
    write_calibration(own, target)
    errors = [("before", found.before), ("after", found.after), ("unseen", found.unseen)]
    rows = [[name, one.first, one.token, one.tokens_per_second] for name, one in errors if one is not None]
    show(
        {
            "points": found.points,
            "places": found.places,
            **dict(errors),
            "written": os.fspath(target),
        },
        as_json=as_json,
        text=lambda _: [
            f"{found.points} points: {', '.join(found.places)}",
            "",
            table(["median error in %", "first token", "a token", "tokens/s"], rows),
            "",
            "unseen: each point by a fit on the others." if found.unseen else "One point: nothing is left to test on.",
            f"Written to {target}; plan, predict and replicas take it from now on.",
        ],
    )


@app.command()
def replicas(
    trace: Annotated[Path, typer.Option("--trace", help="CSV or JSON lines: arrival_s, input_tokens, output_tokens.")],
    model: Annotated[str, typer.Option(help="Catalogue name or path of a config.json.")] = "llama-3.1-70b",
    hardware: Annotated[str, typer.Option(help="Kind of accelerator.")] = "h100-sxm",
    devices: Annotated[int, typer.Option(min=1, help="Accelerators of one replica.")] = 4,
    engine: Annotated[str, typer.Option(help="vllm, trtllm or sglang.")] = "vllm",
    weights: Annotated[str, typer.Option(help="bf16, fp8 or int4.")] = "fp8",
    ttft_ms: Annotated[float | None, typer.Option(help="Most milliseconds to the first token.")] = None,
    tpot_ms: Annotated[float | None, typer.Option(help="Most milliseconds a token after the first.")] = None,
    end_to_end_ms: Annotated[float | None, typer.Option(help="Most milliseconds of a whole answer.")] = None,
    ttft_p50_ms: Annotated[float | None, typer.Option(help="Most milliseconds to half of the first tokens.")] = None,
    tpot_p50_ms: Annotated[float | None, typer.Option(help="Most milliseconds a token in half of the answers.")] = None,
    end_to_end_p50_ms: Annotated[float | None, typer.Option(help="Most milliseconds of half of the answers.")] = None,
    share: Annotated[float, typer.Option(help="Share of the requests that holds the limits.")] = 0.99,
    rate: Annotated[float, typer.Option(help="Replay at so many requests a second; 0 is the trace's own rate.")] = 0.0,
    headroom: Annotated[float, typer.Option(help="Share by which traffic may grow, such as 0.3 for 30 %.")] = 0.0,
    router: Annotated[str, typer.Option(help="round robin or least load.")] = "round robin",
    chunk: Annotated[int, typer.Option(help="Tokens of one step; 0 is the engine's default.")] = 0,
    sequences: Annotated[int, typer.Option(min=1, help="Requests that a replica works on at once at most.")] = 256,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Count the replicas that hold a limit, by replaying a trace. Exit code 3: no number does.

    Without a limit the first token may take 1000 ms and each further one 50.
    """
    from slipway.deploy.replica_request import answer

    found = answer(
        trace,
        model=model,
        hardware=hardware,
        devices=devices,
        engine=engine,
        weights=weights,
        limits_ms=(ttft_ms, tpot_ms, end_to_end_ms),
        p50_ms=(ttft_p50_ms, tpot_p50_ms, end_to_end_p50_ms),
        share=share,
        rate=rate,
        headroom=headroom,
        router=router,
        chunk=chunk,
        sequences=sequences,
        folder=folder,
    )
    show(
        found,
        as_json=as_json,
        text=lambda one: (
            f"{one.replicas} {'replicas hold' if one.replicas > 1 else 'replica holds'} it ({one.least} in the calmest "
            f"minutes); rate / throughput says {one.by_rule}.\n"
            f"At {100 * share:g} %: first token {1e3 * one.first_s:,.0f} ms, a token {1e3 * one.token_s:.1f} ms, "
            f"answer {one.end_to_end_s:,.1f} s; busy {one.busy:.0%}.\n"
            f"At 50 %: first token {1e3 * one.first_p50_s:,.0f} ms, a token {1e3 * one.token_p50_s:.1f} ms, answer "
            f"{one.end_to_end_p50_s:,.1f} s.\n"
            f"Later traffic: {one.growth:.2g} times as many requests a second, as may come next, need {one.later}. "
            "Plan for more, or less, with --headroom."
            + (
                f"\nLonger than the context of {model}: {one.beyond_context:,} of {one.requests:,} requests. An engine "
                "refuses them; here they are answered."
                if one.beyond_context
                else ""
            )
        ),
    )


@app.command()
def models(as_json: AsJson = False) -> None:
    """List the open models of the catalogue."""
    from slipway.models.architectures import list_models

    found = list_models()
    show(
        found,
        as_json=as_json,
        text=lambda _: table(
            ["model", "parameters", "a token", "context", "licence"],
            [
                [
                    one.name,
                    f"{one.parameters / 1e9:.3g} B",
                    f"{one.active_parameters / 1e9:.3g} B",
                    f"{one.context:,}",
                    one.licence.name if one.licence else "",
                ]
                for one in found
            ],
        ),
    )


@app.command()
def model(
    config: Annotated[str, typer.Option("--config", help="Path of a config.json or its folder, or a catalogue name.")],
    hardware: Annotated[list[str] | None, typer.Option("--hardware", help="Fit it there; may be repeated.")] = None,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Show what a model's config.json says: parameters, cache of a token, and how many devices hold it."""
    from slipway.deploy.fit_model import describe

    told = describe(config, hardware=hardware or [], folder=folder)
    shape = told.shape
    show(
        told,
        as_json=as_json,
        text=lambda _: [
            f"{shape.name} ({shape.family}): {shape.parameters / 1e9:.3g} B parameters, "
            f"{shape.active_parameters / 1e9:.3g} B a token, {shape.layers} layers, context {shape.context:,}",
            f"Cache of a token: {told.cache_bytes_a_token:,.0f} bytes in 16 bits",
            "",
            table(
                ["precision", "weights GiB", *(f"devices: {name}" for name in told.devices)],
                [
                    [precision, gib, *(counts.get(precision) for counts in told.devices.values())]
                    for precision, gib in told.weights_gib.items()
                ],
            ),
        ],
    )


@app.command()
def hardware(as_json: AsJson = False) -> None:
    """List the hardware of the catalogue with its published rents."""
    from slipway.models.hardware import list_hardware, rent_of

    found = [(one, rent_of(one.name)) for one in list_hardware()]
    show(
        [{"hardware": one, "rent": rent} for one, rent in found],
        as_json=as_json,
        text=lambda _: table(
            ["hardware", "memory GiB", "GB/s", "bf16 TFLOP/s", "$ an hour", "as of"],
            [
                [
                    one.name,
                    f"{one.memory_gib:g}",
                    f"{one.bandwidth_gb_s:,.0f}",
                    f"{one.tflops['bf16']:,.0f}",
                    f"{rent.hourly:.2f}" if rent else None,
                    rent.as_of if rent else None,
                ]
                for one, rent in found
            ],
        ),
    )


def _describe(plan: "Plan") -> Iterator[str]:
    yield f"{plan.model} for {plan.demand.requests_per_day:,.0f} requests a day"
    yield ""
    options = [*([plan.chosen] if plan.chosen else []), *plan.others]
    yield table(
        ["way", "replicas", "first token", "a token", "answer", "requests/s", "busy", "$ a month", "ruled out"],
        [_row(option, chosen=option is plan.chosen) for option in options],
    )
    if plan.chosen is not None:
        memory = plan.chosen.memory
        yield ""
        yield (
            f"Memory of one replica: weights {memory.weights_gib:.1f} + cache {memory.kv_cache_gib:.1f} + reserve "
            f"{memory.reserve_gib:.1f} = {memory.total_gib:.1f} of {memory.available_gib:.1f} GiB"
        )
    yield ""
    yield from plan.reasons


def _row(option: "PlanOption", *, chosen: bool) -> list[object]:
    mark = "* " if chosen else "  "
    way = f"{mark}{option.devices_per_replica} x {option.hardware}"
    if option.precision:
        way += f" ({option.precision})"
    if option.rejected:
        return [way, None, None, None, None, None, None, None, option.rejected]
    return [
        way,
        option.replicas,
        f"{option.first_token_ms:,.0f} ms",
        f"{option.token_ms:.1f} ms" if option.token_ms else None,
        f"{option.end_to_end_ms:,.0f} ms",
        f"{option.requests_per_second:.3g}" if option.requests_per_second else None,
        f"{option.utilisation:.0%}",
        f"{option.monthly:,.0f}",
        "",
    ]


def _list_problems(problems: "list[Problem]") -> str:
    return "\n".join(map(str, problems)) if problems else "Nothing is wrong."
