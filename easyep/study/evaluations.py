"""Prunes and evaluates for a study, and remembers what it found."""

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from easyep import pipeline
from easyep.artifacts import Selection
from easyep.artifacts.files import read_json, write_json
from easyep.errors import ArtifactError
from easyep.evaluation import tasks
from easyep.evaluation.accuracy import Accuracy
from easyep.evaluation.evaluating import evaluate_checkpoint
from easyep.source import Source
from easyep.study.design import Study


class Evaluations:
    """Accuracies of pruned models by what they were made from.

    Args:
        study: how models are evaluated.
        source: the model that is pruned.
        folder: where results are kept; None keeps none.
    """

    def __init__(self, study: Study, source: Source, folder: Path | None) -> None:
        self._study = study
        self._source = source
        self._folder = folder

    def full(self, domain: str) -> tuple[Accuracy, int]:
        """The unpruned model on a domain's task, and the bytes of its tensors."""
        done = (self._source.model.path, self._source.checkpoint.nbytes)
        return self._remember({}, domain, lambda: done)

    def pruned(self, selection: Selection, domain: str) -> tuple[Accuracy, int]:
        """The model with the selected experts on a domain's task, and the bytes of its tensors."""
        with tempfile.TemporaryDirectory(prefix="easyep-study-") as folder:

            def write() -> tuple[Path, int]:
                done = pipeline.rewrite(self._source, selection, Path(folder) / "pruned")
                return done.path, done.bytes_after

            layers = {str(layer): kept for layer, kept in selection.layers.items()}
            return self._remember({"groups": selection.groups, **layers}, domain, write)

    def _remember(
        self, kept: Mapping[str, Any], domain: str, write: Callable[[], tuple[Path, int]]
    ) -> tuple[Accuracy, int]:
        task = self._study.task(domain)
        made_from = {
            "model": {**self._source.identity.to_json(), "name": ""},
            "kept": kept,
            "task": tasks.fingerprint(task),
            "limit": self._study.limit,
            "dtype": self._study.dtype,
            "device": self._study.device,
        }
        digest = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:16]
        file = self._folder / f"{task}-{digest}.json" if self._folder is not None else None
        if file is not None and file.exists():
            try:
                value = read_json(file, "evaluation")
                return Accuracy.from_json(value["accuracy"]), int(value["bytes"])
            except (ArtifactError, KeyError, TypeError):
                pass  # damaged: measure again
        path, size = write()
        accuracy = evaluate_checkpoint(
            path,
            [task],
            dtype=self._study.dtype,
            device=self._study.device,
            batch_size=self._study.batch_size,
            limit=self._study.limit,
        )
        if file is not None:
            write_json(file, {"accuracy": accuracy.to_json(), "bytes": size})
        return accuracy, size
