"""Names of tasks -> what lm-eval can run, from `eval/tasks/` or from lm-eval's own collection."""

import hashlib
import json
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from easyep import resources
from easyep.errors import EvaluationError, MissingDependencyError
from easyep.models import Model


def local_tasks() -> list[str]:
    """The tasks and groups that come with easyep."""
    return sorted(path.stem for path in _folder().glob("*.yaml") if not path.stem.startswith("_"))


def find(names: Sequence[str]) -> tuple[list[dict[str, Any]], list[str]]:
    """Look tasks up: definitions of easyep's own, and the names that are left to lm-eval.

    Groups of easyep's own are replaced by their tasks. In the definitions the paths of data files
    are absolute; as written they are relative to the repository, for the stock harness.
    """
    own: dict[str, dict[str, Any]] = {}
    others = []
    known = local_tasks()
    pending = list(names)
    while pending:
        name = pending.pop(0)
        if name not in known:
            others.append(name)
            continue
        definition = _read(_folder() / f"{name}.yaml")
        if "group" in definition:
            pending = [*definition["task"], *pending]
        else:
            own[name] = _with_absolute_data(definition)
    return list(own.values()), others


def default_tasks(model: Model) -> list[str]:
    """The tasks that easyep has for a model.

    Raises:
        EvaluationError: it has none.
    """
    if not model.tasks:
        raise EvaluationError(f"easyep has no tasks of its own for {model.name}: give --tasks A,B")
    return [model.tasks]


def fingerprint(name: str) -> str:
    """A hash of what a task is: its definition and data, or its name where lm-eval defines it.

    The version of lm-eval is part of it.
    """
    own, others = find([name])
    try:
        version = metadata.version("lm_eval")
    except metadata.PackageNotFoundError:
        raise MissingDependencyError(
            "evaluation needs lm-eval: pip install 'easyep[eval]'"
        ) from None
    digest = hashlib.sha256(repr((version, others)).encode())
    for definition in own:
        files = definition["dataset_kwargs"].pop("data_files")
        digest.update(json.dumps(definition, sort_keys=True).encode())
        for split in sorted(files):
            digest.update(Path(files[split]).read_bytes())
    return digest.hexdigest()


def _read(path: Path) -> dict[str, Any]:
    definition: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    base = definition.pop("include", None)
    return {**_read(path.parent / base), **definition} if base else definition


def _with_absolute_data(definition: dict[str, Any]) -> dict[str, Any]:
    root = resources.folder("eval/data").parents[1]
    options = definition.get("dataset_kwargs", {})
    files = {split: str(root / path) for split, path in options.get("data_files", {}).items()}
    return {**definition, "dataset_kwargs": {**options, "data_files": files}}


def _folder() -> Path:
    return resources.folder("eval/tasks")
