"""What was measured on a pruned checkpoint, as paragraphs of Markdown for its card.

Each function takes the JSON of a command's results, and raises KeyError, TypeError or ValueError
where that lacks something.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from easyep.reporting.markdown import table
from easyep.reporting.model_card import plain
from easyep.reporting.numbers import size, with_error

Json = Mapping[str, Any]

# Who asks a server cannot see what it runs, and where.
ON_TRUST = "(a server that is trusted to run this model)"


def coverage(domains: Mapping[str, tuple[bool, Sequence[float]]]) -> list[str]:
    """What the kept experts held of the score in each domain, shown or not.

    Args:
        domains: name -> whether the model was shown it when it was pruned, and the share of the
            score that is kept in each layer.
    """
    rows = [
        [
            plain(name),
            "yes" if shown else "no",
            f"{100 * sum(shares) / len(shares):.1f}",
            f"{100 * min(shares):.1f}",
        ]
        for name, (shown, shares) in domains.items()
    ]
    columns = ["share of the score kept, %", "shown", "mean over layers", "least"]
    return [table(columns, rows, words=columns[:2])]


def accuracy(
    here: Json, original: Json | None = None, differences: Sequence[Json] = ()
) -> list[str]:
    """What `easyep eval` measured.

    Args:
        here: the checkpoint's entry in the results.
        original: its source's, where the same command measured both.
        differences: the checkpoint's minus the source's, item by item.
    """
    others = {_metric(each): each for each in (original or {"results": ()})["results"]}
    pairs = {_metric(each): each for each in differences}
    rows = []
    for each in here["results"]:
        if each.get("part_of"):
            continue
        other, pair = others.get(_metric(each)), pairs.get(_metric(each), {})
        row = [*map(plain, _metric(each)), f"{each['samples']:,}", _percent(each)]
        if original is not None:
            row.insert(3, _percent(other) if other is not None else "-")
            row.append(with_error(pair.get("difference"), pair.get("stderr"), "+.1f", 100))
            row.append("-" if pair.get("p") is None else f"{pair['p']:.2g}")
        rows.append(row)
    columns = ["task", "metric", "items", "here"]
    if original is not None:
        columns = [*columns[:3], "original", "here", "difference", "p"]
    settings = here["settings"]
    some = f", the first {settings['limit']:,} items only" if settings.get("limit") else ""
    backend = settings["backend"]
    how = f"in {plain(settings['dtype'] or 'its own type')}"
    if backend in ("local-completions", "local-chat-completions"):
        how = ON_TRUST
    words = (
        f"Accuracy in % ± standard error, by lm-eval {plain(settings['lm_eval'])} with its backend "
        f"{plain(backend)} {how}{some}."
    )
    if original is not None:
        words += " Differences and their p are paired by items."
    return [words, table(columns, rows, words=columns[:2])]


def likeness(found: Json) -> list[str]:
    """What `easyep compare` measured, the original first."""
    rows = [
        [
            plain(each["domain"]),
            {True: "yes", False: "no", None: "?"}[each["held_out"]],
            f"{each['tokens']:,}",
            _mean(each["divergence"], ".4f"),
            _mean(each["agreement"], ".1f", 100),
            _mean(each["loss_difference"], "+.3f"),
        ]
        for each in found["domains"]
    ]
    columns = ["domain", "held out", "tokens", "KL", "top-1 agreement, %", "loss difference"]
    words = (
        "Beside the original on the same text: KL divergence and loss in nats per token. What was "
        "not held out was shown when the model was pruned, and flatters it."
    )
    return [words, table(columns, rows, words=columns[:2])]


def throughput(found: Json, here: str, original: str) -> list[str]:
    """What `easyep bench` measured in turns.

    Args:
        found: its results.
        here, original: what the two models are called there.
    """
    settings = found["settings"]
    device = settings["engines"][here].get("device", "cpu")
    place = f"on {plain(settings['processor'] if device == 'cpu' else device)}"
    if settings["backend"] == "openai":
        place = ON_TRUST
    words = (
        f"Throughput, measured in turns: {plain(settings['backend'])} {place}, "
        f"{plain(settings['date'])[:10]}. Times are those of the medians, with the smallest and "
        "largest of the rounds."
    )
    parts = [*_gains(found["fixed_batch"], here, original)]
    if "request_rates" in found:
        parts += _gains(found["request_rates"], here, original)
    if "within_memory" in found:
        memory = found["within_memory"]
        inside = [*_gains(memory, here, original)]
        budget = size(memory["memory_budget_bytes"])
        parts += [f"Each at the largest batch within {budget}:", *inside] if inside else []
    return [words, *parts] if parts else []


def _gains(found: Json, here: str, original: str) -> Iterator[str]:
    rates = {_load(point): point for point in found["results"]}
    rows = []
    for gain in found["gains"]:
        if (gain["model"], gain["against"]) != (here, original):
            continue
        other = {**gain, "model": original, "max_concurrency": gain["against_max_concurrency"]}
        batch, before = gain["max_concurrency"], other["max_concurrency"]
        load = f"{batch:d}" if batch == before else f"{batch:d} against {before:d}"
        rate = gain["request_rate"]
        rows.append(
            [
                f"{gain['random_input_len']:d}+{gain['random_output_len']:d}",
                load if rate == "inf" else f"{load} at most, {rate:g} a second",
                f"{rates[_load(other)]['output_throughput']:,.0f}",
                f"{rates[_load(gain)]['output_throughput']:,.0f}",
                *(_times(gain, f"{phase}_throughput") for phase in ("output", "decode")),
            ]
        )
    columns = ["tokens in+out", "requests at a time", "original, output tok/s", "here"]
    if rows:
        yield table([*columns, "times", "times, decode alone"], rows, words=columns[:2])


def _load(point: Json) -> tuple[object, ...]:
    names = ("model", "random_input_len", "random_output_len", "max_concurrency", "request_rate")
    return tuple(point[name] for name in names)


def _times(gain: Json, rate: str) -> str:
    if rate not in gain["per_instance"]:
        return "-"
    low, high = gain["spread"][rate]
    return f"{gain['per_instance'][rate]:.2f} ({low:.2f} to {high:.2f})"


def _metric(result: Json) -> tuple[str, str]:
    return result["task"], result["metric"]


def _percent(result: Json) -> str:
    return with_error(result["value"], result["stderr"], ".1f", 100)


def _mean(found: Json, form: str, factor: int = 1) -> str:
    return with_error(found["value"], found["stderr"], form, factor)
