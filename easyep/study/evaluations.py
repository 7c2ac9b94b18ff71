"""Evaluates the models of a study, and remembers what it found."""

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from easyep import pipeline
from easyep.artifacts import Selection
from easyep.artifacts.files import read_json, write_json
from easyep.checkpoint import rewriting
from easyep.errors import ArtifactError
from easyep.evaluation import tasks
from easyep.evaluation.accuracy import Accuracy
from easyep.evaluation.evaluating import evaluate_checkpoint
from easyep.source import Source
from easyep.study.design import Study
from easyep.study.held_out import HeldOut, read_held_out

_MEASURES = ("accuracy", "samples", "agreement", "kl", "loss", "bytes")


class Evaluations:
    """What was measured on pruned models, by what they were made from.

    Args:
        study: how models are evaluated.
        source: the model that is pruned.
        folder: where results are kept; None keeps none.
    """

    def __init__(self, study: Study, source: Source, folder: Path | None) -> None:
        self._study = study
        self._source = source
        self._folder = folder
        self._held_out: HeldOut | None = None
        self._fingerprints: dict[str, str] = {}

    def full(self, domain: str) -> dict[str, Any]:
        """The unpruned model on a domain: the measures of a `Cell`, by name."""
        if self._study.tasks is None:
            return self._remember({}, domain, lambda: self._in_memory(None, domain, True))
        return self._remember({}, domain, lambda: self._written(self._source.model.path, domain))

    def pruned(self, selection: Selection, domain: str, *, reroute: bool = True) -> dict[str, Any]:
        """The model with the selected experts on a domain, as `full`."""
        layers = {str(layer): kept for layer, kept in selection.layers.items()}
        kept: dict[str, Any] = {"groups": selection.groups, **layers}
        if self._study.tasks is None:
            kept["reroute"] = reroute
            return self._remember(kept, domain, lambda: self._in_memory(selection, domain, reroute))

        def measure() -> dict[str, Any]:
            with tempfile.TemporaryDirectory(prefix="easyep-study-") as folder:
                done = pipeline.rewrite(self._source, selection, Path(folder) / "pruned")
                return {**self._written(done.path, domain), "bytes": done.bytes_after}

        return self._remember(kept, domain, measure)

    def _in_memory(self, selection: Selection | None, domain: str, reroute: bool) -> dict[str, Any]:
        if self._held_out is None:
            self._held_out = HeldOut(self._study, self._source)
        found = self._held_out.measure(selection, domain, reroute=reroute)
        return {**asdict(found), "bytes": self._bytes(selection)}

    def _bytes(self, selection: Selection | None) -> int:
        """Of the checkpoint that pruning would write."""
        source = self._source
        if selection is None:
            return source.checkpoint.nbytes
        mtp = source.mtp_mode("auto", selection)
        return rewriting.plan(
            source.checkpoint, selection, mtp=mtp, layout=source.layout
        ).bytes_after

    def _written(self, path: Path, domain: str) -> dict[str, Any]:
        accuracy = evaluate_checkpoint(
            path,
            [self._study.task(domain)],
            dtype=self._study.dtype,
            device=self._study.device,
            batch_size=self._study.batch_size,
            limit=self._study.limit,
            trust_remote_code=self._study.trust_remote_code,
        )
        return {**_measured(accuracy), "bytes": self._source.checkpoint.nbytes}

    def _remember(
        self, kept: Mapping[str, Any], domain: str, measure: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        made_from = {
            "model": {**self._source.identity.to_json(), "name": ""},
            "kept": kept,
            "task": self._fingerprint(domain),
            "limit": self._study.limit,
            "dtype": self._study.dtype,
            "device": self._study.device,
        }
        digest = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:16]
        name = Path(self._study.task(domain)).stem
        file = self._folder / f"{name}-{digest}.json" if self._folder is not None else None
        if file is not None and file.exists():
            kept_before = recalled(file)
            if kept_before is not None:
                return kept_before
        found = measure()
        if file is not None:
            write_json(file, found)
        return found

    def _fingerprint(self, domain: str) -> str:
        """A hash of what a domain is evaluated by."""
        if domain not in self._fingerprints:
            name = self._study.task(domain)
            if self._study.tasks is not None:
                found = tasks.fingerprint(name)
            else:
                content = [dict(demo.content) for demo in read_held_out(name)]
                found = hashlib.sha256(json.dumps(content).encode()).hexdigest()
            self._fingerprints[domain] = found
        return self._fingerprints[domain]


def _measured(accuracy: Accuracy) -> dict[str, Any]:
    result = accuracy.results[0]
    return {"accuracy": result.value, "samples": result.samples}


def recalled(file: Path) -> dict[str, Any] | None:
    """What was measured before: the measures of a `Cell`, by name; None where it is damaged."""
    try:
        value = read_json(file, "evaluation")
        if isinstance(value["accuracy"], dict):  # as it was before there were other measures
            value |= _measured(Accuracy.from_json(value["accuracy"]))
    except (ArtifactError, LookupError, TypeError):
        return None
    found = {name: value[name] for name in _MEASURES if value.get(name) is not None}
    counts = all(type(found.get(name)) is int for name in ("samples", "bytes"))
    numbers = all(
        type(each) is float or (type(each) is int and abs(each) < 2**63) for each in found.values()
    )
    likeness = {name in found for name in ("agreement", "kl", "loss")}  # all of them, or none
    right = counts and numbers and len(likeness) == 1
    return found if right and "accuracy" in found else None
