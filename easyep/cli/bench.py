"""`easyep bench`: how fast a model is."""

import json
from typing import TYPE_CHECKING, Any

import click

from easyep.atomic import check_file
from easyep.cli import options
from easyep.cli.console import human_bytes, print_json, print_table, progress_bars
from easyep.recipe import DTYPES

if TYPE_CHECKING:
    from easyep.evaluation.throughput.bench import Throughput
    from easyep.evaluation.throughput.results import Gain, Point


class Lengths(click.ParamType[tuple[int, int]]):
    """Input + output tokens, such as 1024+4096."""

    name = "in+out"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        first, _, second = str(value).partition("+")
        if not (first.isdecimal() and second.isdecimal() and int(first) and int(second)):
            self.fail(f"{value!r} is no pair of lengths such as 1024+4096", param, ctx)
        return int(first), int(second)


class Json(click.ParamType[dict[str, Any]]):
    """A JSON object."""

    name = "json"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> dict[str, Any]:
        if isinstance(value, dict):
            return value
        try:
            found = json.loads(value)
        except ValueError as error:
            self.fail(f"{value!r} is no JSON: {error}", param, ctx)
        if not isinstance(found, dict):
            self.fail(f"{value!r} is no JSON object", param, ctx)
        return found


@click.command("bench", epilog="\b\nExample:\n  easyep bench demo-math --against demo")
@click.argument("model", metavar="DIR")
@click.option("--against", metavar="M", help="Measure this model too, in turns.")
@click.option(
    "--backend",
    metavar="NAME",
    default="transformers",
    show_default=True,
    help="The engine (`easyep list backends`); openai is any running server.",
)
@click.option(
    "--lengths",
    type=Lengths(),
    multiple=True,
    metavar="IN+OUT",
    help="Tokens of prompt and answer; repeatable. [default: 1K+1K, 1K+4K, 4K+1K, shorter without "
    "an accelerator]",
)
@click.option(
    "--max-concurrency",
    "--batch-size",
    "batch_sizes",
    type=click.IntRange(min=1),
    multiple=True,
    metavar="N",
    help="Requests at a time; repeatable. [default: 1, 2, 4, ... 256, until memory ends]",
)
@click.option(
    "--num-iters",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    metavar="N",
    help="Rounds of each point.",
)
@click.option(
    "--num-iters-warmup",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    metavar="N",
    help="Rounds before, which do not count.",
)
@click.option(
    "--memory-budget",
    type=options.Size(),
    metavar="SIZE",
    help="Also measure each model at the largest batch that fits so much memory, 80GB.",
)
@click.option(
    "--one-at-a-time", is_flag=True, help="Hold one model in memory, and load it for each repeat."
)
@click.option("--base-url", metavar="URL", help="The server, for --backend openai.")
@click.option("--against-base-url", metavar="URL", help="The server of the other model.")
@click.option("--served-model-name", metavar="NAME", help="[default: the server's first model]")
@click.option("--extra-body", type=Json(), metavar="JSON", help="More for each request.")
@click.option("--extra-args", type=Json(), metavar="JSON", help="More for the engine itself.")
@click.option(
    "--tensor-parallel-size",
    type=click.IntRange(min=1),
    default=1,
    metavar="N",
    help="Accelerators that share each matrix, for vllm and sglang.",
)
@click.option(
    "--device", metavar="NAME", default="auto", show_default=True, help="auto, cpu, cuda:0, ..."
)
@click.option(
    "--dtype",
    metavar="|".join(DTYPES),
    default="auto",
    show_default=True,
    help="What it computes in; auto is the checkpoint's own type.",
)
@click.option("--trust-remote-code", is_flag=True, help="Run Python code in the checkpoint.")
@options.seed
@click.option("--output", metavar="FILE", help="Write everything there as JSON.")
@options.common
def bench_command(
    model: str,
    against: str | None,
    backend: str,
    lengths: tuple[tuple[int, int], ...],
    batch_sizes: tuple[int, ...],
    num_iters: int,
    num_iters_warmup: int,
    memory_budget: int | None,
    one_at_a_time: bool,
    base_url: str | None,
    against_base_url: str | None,
    served_model_name: str | None,
    extra_body: dict[str, Any] | None,
    extra_args: dict[str, Any] | None,
    tensor_parallel_size: int,
    device: str,
    dtype: str,
    trust_remote_code: bool,
    seed: int,
    output: str | None,
    as_json: bool,
    quiet: bool,
    debug: bool,
) -> None:
    """Measure throughput and latency, prefill and decode apart."""
    import os

    from easyep.artifacts.files import write_json
    from easyep.evaluation.engines import EngineSettings
    from easyep.evaluation.throughput.bench import bench

    if dtype not in DTYPES:
        raise click.UsageError(f"--dtype must be one of {', '.join(DTYPES)}, not {dtype!r}")
    if output is not None:
        check_file(output)
    settings = EngineSettings(
        dtype=dtype,
        device=device,
        tensor_parallel=tensor_parallel_size,
        trust_remote_code=trust_remote_code,
        base_url=base_url,
        served_model_name=served_model_name,
        api_key=os.environ.get("OPENAI_API_KEY", ""),
        extra_body=extra_body or {},
        extra_args=extra_args or {},
    )
    other = {"base_url": against_base_url, "served_model_name": None} if against_base_url else {}
    with progress_bars(quiet) as progress:
        found = bench(
            model,
            against,
            backend=backend,
            lengths=lengths or None,
            batch_sizes=batch_sizes or None,
            num_iters=num_iters,
            num_iters_warmup=num_iters_warmup,
            memory_budget=memory_budget,
            one_at_a_time=one_at_a_time,
            seed=seed,
            settings=settings,
            against_settings=other,
            progress=progress,
        )
    if output is not None:
        write_json(output, found.to_json())
    if as_json:
        print_json(found.to_json())
    else:
        _show(found)


def _show(found: "Throughput") -> None:
    _points("At a fixed batch", found.points)
    _latencies("Latency at a fixed batch, ms", found.points)
    _gains("Gain at a fixed batch", found.gains)
    if found.memory_budget is not None:
        budget = f"within {human_bytes(found.memory_budget)}"
        _points(f"At the largest batch {budget}", found.within_memory)
        _latencies(f"Latency {budget}, ms", found.within_memory)
        _gains(f"Gain {budget}", found.gains_within_memory)


def _points(title: str, points: "tuple[Point, ...]") -> None:
    columns = ["model", "lengths", "batch", "prefill tok/s", "decode tok/s", "output tok/s"]
    rows = [
        [*_name(point), "memory ended", "", "", "", ""]
        if point.ended
        else [
            *_name(point),
            *(_rate(point, n) for n in ("prefill", "decode", "output")),
            f"{point.rate('request_throughput'):.3g}",
            human_bytes(point.peak_memory) if point.peak_memory else "-",
        ]
        for point in points
    ]
    print_table(title, [*columns, "requests/s", "memory"], rows)


def _latencies(title: str, points: "tuple[Point, ...]") -> None:
    columns = ["model", "lengths", "batch"]
    shown = [(name, share) for name in ("ttft", "tpot", "itl") for share in (50, 99)]
    rows = [
        [*_name(point), *(_milliseconds(point.latency(*each)) for each in shown)]
        for point in points
        if not point.ended
    ]
    heads = [f"{name.upper()} {'median' if share == 50 else 'p99'}" for name, share in shown]
    print_table(title, columns + heads, rows)


def _gains(title: str, gains: "tuple[Gain, ...]") -> None:
    if not gains:
        return
    rows = []
    for each in gains:
        batch, other = each.workload.batch_size, each.other_workload.batch_size
        rows.append(
            [
                f"{each.workload.input_len}+{each.workload.output_len}",
                batch if batch == other else f"{batch} against {other}",
                *(_ratio(each, name) for name in ("prefill_throughput", "decode_throughput")),
                f"{each.per_byte['decode_throughput']:.2f}"
                if "decode_throughput" in each.per_byte
                else "-",
            ]
        )
    columns = ["lengths", "batch", "prefill per instance", "decode per instance", "decode per byte"]
    print_table(title, columns, rows)


def _name(point: "Point") -> list[object]:
    workload = point.workload
    return [point.model, f"{workload.input_len}+{workload.output_len}", workload.batch_size]


def _rate(point: "Point", name: str) -> str:
    value = point.rate(f"{name}_throughput")
    return "-" if value is None else f"{value:.4g}"


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1000 * seconds:.3g}"


def _ratio(gain: "Gain", name: str) -> str:
    if name not in gain.per_instance:
        return "-"
    low, high = gain.spread[name]
    return f"{gain.per_instance[name]:.2f} ({low:.2f} to {high:.2f})"
