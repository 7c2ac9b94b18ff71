"""Evaluations on disk in lm-eval's own form, which its tools read."""

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from easyep import __version__
from easyep.artifacts.files import write_json
from easyep.atomic import write_bytes
from easyep.evaluation.accuracy import Accuracy


def save(accuracy: Accuracy, folder: Path, name: str, when: datetime | None = None) -> Path:
    """Write `FOLDER/NAME/results_DATE.json` and `samples_TASK_DATE.jsonl`, as lm-eval does.

    Args:
        accuracy: what was measured.
        folder: `--output_path` of lm-eval.
        name: of the model; characters that are no part of file names become ``_``.
        when: the date in the files' names; now unless it is given.

    Returns:
        The file of results.

    Raises:
        OutputError: it cannot be written.
    """
    when = when or datetime.now()
    date = when.isoformat().replace(":", "-")
    # As lm-eval does, but for a folder that is only called "." or "..", which would be another one.
    place = folder / re.sub(r"[\"<>:/\|\\?\*\[\]]+|^\.+$", "__", name)
    harness = accuracy.harness
    samples: Mapping[str, list[dict[str, Any]]] = harness.get("samples", {})
    config = {
        "model": accuracy.settings["backend"],
        "model_args": {"pretrained": name, **accuracy.settings["model_args"]},
        **harness["config"],
    }
    results = {
        **{key: value for key, value in harness.items() if key != "samples"},
        "config": config,
        "date": when.timestamp(),
        "lm_eval_version": accuracy.settings["lm_eval"],
        "transformers_version": version("transformers"),
        "easyep_version": __version__,
        "easyep_settings": accuracy.settings,
        "task_hashes": {task: _hash(items) for task, items in samples.items()},
        "model_source": accuracy.settings["backend"],
        "model_name": name,
        "model_name_sanitized": place.name,
    }
    for task, items in samples.items():
        lines = "".join(json.dumps(_line(item), ensure_ascii=False) + "\n" for item in items)
        write_bytes(place / f"samples_{task}_{date}.jsonl", lines.encode())
    file = place / f"results_{date}.json"
    write_json(file, results)
    return file


def _hash(samples: list[dict[str, Any]]) -> str:
    """As lm-eval's: over the hashes of questions, prompts and targets."""
    hashes = (s["doc_hash"] + s["prompt_hash"] + s["target_hash"] for s in samples)
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


def _line(sample: Mapping[str, Any]) -> dict[str, Any]:
    """An item with the requests' arguments by name and all answers as text, as lm-eval has it."""
    arguments = {
        f"gen_args_{i}": {f"arg_{j}": value for j, value in enumerate(request)}
        for i, request in enumerate(sample["arguments"])
    }
    return {
        **sample,
        "arguments": arguments,
        "resps": _as_text(sample["resps"]),
        "filtered_resps": _as_text(sample["filtered_resps"]),
        "target": str(sample["target"]),
    }


def _as_text(value: Any) -> Any:
    return [_as_text(each) for each in value] if isinstance(value, list) else str(value)
