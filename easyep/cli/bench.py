"""`easyep bench`: how fast a model is."""

import json
import re
import reprlib
from typing import Any

import click

from easyep.cli import options
from easyep.cli.bench_tables import show, show_prediction
from easyep.cli.console import print_json, progress_bars
from easyep.cli.given import flag_of, given
from easyep.cli.sections import command
from easyep.cli.values import KEEP, SIZE, Number
from easyep.places import result_file


class Lengths(click.ParamType[tuple[int, int]]):
    """Input + output tokens, such as 1024+4096 or 1K+4K."""

    name = "in+out"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        found = re.fullmatch(r"([1-9]\d{0,8})(K?)\+([1-9]\d{0,8})(K?)", str(value), re.ASCII)
        if found is None:
            self.fail(f"{value!r} is no pair of lengths such as 1024+4096 or 1K+4K", param, ctx)
        return tuple(int(found[i]) * (1024 if found[i + 1] else 1) for i in (1, 3))  # type: ignore


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
        except (ValueError, RecursionError) as error:
            self.fail(f"{reprlib.repr(value)} is no JSON: {error}", param, ctx)
        if not isinstance(found, dict):
            self.fail(f"{reprlib.repr(value)} is no JSON object", param, ctx)
        return found


@command("bench", epilog="\b\nExample:\n  easyep bench demo-math --against demo")
@click.argument("model", metavar="DIR")
@click.option(
    "--predict",
    metavar="MACHINE",
    help="Measure nothing; bound it by the roofline of h100, h200x8, ... (`easyep list "
    "accelerators`) or of this machine (probe), from config.json alone.",
)
@click.option(
    "--keep",
    type=KEEP,
    multiple=True,
    help="For --predict: experts to keep in each layer; repeatable. [default: 0.5]",
)
@click.option(
    "--observations",
    multiple=True,
    metavar="OBS",
    help="For --predict: recorded routing, for how many experts a batch touches; repeatable.",
)
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
@options.count(
    "--input-len",
    "--random-input-len",
    "input_len",
    metavar="IN",
    help="With --output-len another way to say --lengths IN+OUT.",
)
@options.count(
    "--output-len",
    "--random-output-len",
    "output_len",
    metavar="OUT",
    help="See --input-len.",
)
@options.count(
    "--max-concurrency",
    "--batch-size",
    "batch_sizes",
    multiple=True,
    help="Requests at a time; repeatable. [default: 1, 2, 4, ... 256, until memory ends]",
)
@click.option(
    "--request-rate",
    "request_rates",
    type=Number(min=0, min_open=True),
    multiple=True,
    metavar="R",
    help="Requests a second to a server, arriving at random (Poisson); repeatable. [default: inf, "
    "all of --max-concurrency at once]",
)
@options.count(
    "--num-prompts",
    help="Requests of a round with --request-rate. [default: 64]",
)
@options.count(
    "--num-iters",
    default=3,
    help="Rounds of each point.",
)
@options.count(
    "--num-iters-warmup",
    default=1,
    at_least=0,
    help="Rounds before, which do not count.",
)
@click.option(
    "--memory-budget",
    type=SIZE,
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
@options.count(
    "--tensor-parallel-size",
    default=1,
    help="Accelerators that share each matrix, for vllm and sglang.",
)
@options.computing
@options.trust_remote_code
@options.seed
@click.option("--output", "--output-json", metavar="FILE", help="Write everything there as JSON.")
@options.common
def bench_command(
    model: str,
    predict: str | None,
    keep: tuple[float, ...],
    observations: tuple[str, ...],
    against: str | None,
    backend: str,
    lengths: tuple[tuple[int, int], ...],
    input_len: int | None,
    output_len: int | None,
    batch_sizes: tuple[int, ...],
    request_rates: tuple[float, ...],
    num_prompts: int | None,
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

    if output is not None:
        result_file(output, observations)
    if input_len is not None and output_len is not None:
        lengths = (*lengths, (input_len, output_len))
    elif input_len is not None or output_len is not None:
        raise click.UsageError("--input-len and --output-len belong together")
    if predict is not None:
        asked = {
            "keep": keep,
            "lengths": lengths,
            "batch_sizes": batch_sizes,
            "memory_budget": memory_budget,
            "observations": observations,
            "dtype": dtype,
            "device": device,
        }
        if against is not None:
            raise click.UsageError(
                "--predict compares numbers of experts: give --keep, no --against"
            )
        used = {*asked, *_OF_PREDICTIONS} - ({"device"} if predict != "probe" else set())
        if unused := sorted(given() - used):
            raise click.UsageError(f"{flag_of(unused[0])} has no effect on --predict")
        _predict(model, predict, output, as_json, asked)
        return
    if keep or observations:
        raise click.UsageError("--keep and --observations are for --predict MACHINE")
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
    paced: dict[str, Any] = {"request_rates": request_rates} if request_rates else {}
    if num_prompts is not None:
        if not request_rates:
            raise click.UsageError("--num-prompts is for --request-rate; else it is the batch")
        paced["num_prompts"] = num_prompts
    if against_base_url and against is None:
        raise click.UsageError("--against-base-url is the server of --against M")
    other = {"base_url": against_base_url, "served_model_name": None} if against_base_url else {}
    with progress_bars(quiet) as progress:
        found = bench(
            model,
            against,
            backend=backend,
            lengths=lengths or None,
            batch_sizes=batch_sizes or None,
            **paced,
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
        show(found)


_OF_PREDICTIONS = (
    *("model", "predict", "input_len", "output_len"),
    *("output", "as_json", "quiet", "debug"),
)


def _predict(
    model: str, machine: str, output: str | None, as_json: bool, settings: dict[str, Any]
) -> None:
    from easyep.artifacts.files import write_json
    from easyep.evaluation.roofline.predict import predict

    found = predict(model, machine, **{name: value for name, value in settings.items() if value})
    if output is not None:
        write_json(output, found.to_json())
    if as_json:
        print_json(found.to_json())
    else:
        show_prediction(found)
