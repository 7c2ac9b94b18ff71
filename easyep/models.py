"""What `--model` means: a directory, a short name, or a Hugging Face repository."""

import filecmp
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from easyep import hub, resources
from easyep.errors import ModelNotFoundError
from easyep.registry import unknown_name


@dataclass(frozen=True)
class Model:
    """A checkpoint on this machine.

    Attributes:
        name: what the user called it.
        path: the directory with `config.json` and the safetensors files.
        calibration: the subfolder of `calibration_data/` for its domains.
        tasks: the evaluation tasks that easyep brings for this model; empty where it has none.
        hub: its Hugging Face repository id; empty for a directory.
        is_outline: whether the weight files have headers only (`outlined`).
    """

    name: str
    path: Path
    calibration: str = ""
    tasks: str = ""
    hub: str = ""
    is_outline: bool = False


def aliases() -> dict[str, dict[str, str]]:
    """The short names of `recipes/models.yaml`."""
    text = (resources.folder("recipes") / "models.yaml").read_text(encoding="utf-8")
    found: dict[str, dict[str, str]] = yaml.safe_load(text)
    return found


def brought(name: str) -> dict[str, Any]:
    """What easyep brings for a model: the fields `calibration` and `tasks` of `Model`.

    What was made from the demo model is one too: it reads the same few words.
    """
    if os.path.isdir(name) and not _is_in_the_way(name):  # noqa: PTH112 (Path's may raise)
        alias = "demo" if _has_tokenizer_of(resources.demo_model(), Path(name)) else ""
    else:
        alias = name.partition("@")[0]
    entry = aliases().get(alias, {})
    return {key: entry.get(key, "") for key in ("calibration", "tasks")}


def resolve(name: str) -> Model:
    """Find the checkpoint that `name` means; what lies in the local cache is used as it is.

    Args:
        name: a directory, a short name, or a repository id, optionally ``@revision``.

    Raises:
        UnknownNameError: a plain word that is neither a directory nor a short name.
        ModelNotFoundError: the repository is not in the cache and cannot be fetched.
        OutputError: there is no room for it.
    """
    return _resolve(name, hub.fetched)


def outlined(name: str, folder: Path) -> Model:
    """As `resolve`, for who reads no weight: none is fetched.

    Args:
        name: as in `resolve`.
        folder: an empty folder, where a repository that is not in the cache gets its small files
            and the headers of its weight files.
    """

    def find(repository: str) -> Path:
        return hub.local(repository) or hub.outlined(repository, folder)

    found = _resolve(name, find)
    return replace(found, is_outline=found.path == folder)


def _resolve(name: str, find: Callable[[str], Path]) -> Model:
    try:
        is_dir, is_file = Path(name).is_dir(), Path(name).is_file()
    except OSError as error:
        raise ModelNotFoundError(f"{name} cannot be read: {error.strerror}") from None
    if is_dir and not _is_in_the_way(name):
        return Model(name, Path(name), **brought(name))
    if is_file:
        gguf = name.endswith(".gguf")
        raise ModelNotFoundError(
            f"{name} is a file, and a model is a directory with config.json and safetensors files"
            + ("; prune the model that the GGUF file was converted from" if gguf else "")
        )
    alias, known = name.partition("@"), aliases()
    if alias[0] in known:
        entry = known[alias[0]]
        if entry.get("package") == "demo":
            if alias[2]:
                raise ModelNotFoundError(f"{alias[0]} comes with easyep and has no revisions")
            return Model(name, resources.demo_model(), **brought(name))
        path = find(entry["hub"] + alias[1] + alias[2])
        return Model(name, path, hub=entry["hub"], **brought(name))
    if re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", name) and not name.startswith((".", "/")):
        return Model(name, find(name), hub=name.partition("@")[0])
    if page := re.match(r"https?://[^/]+/([\w.-]+/[\w.-]+)", name):
        raise ModelNotFoundError(
            f"{name} is an address; a repository of the hub is named without it: {page[1]}"
        )
    if "/" in name or name.startswith("."):
        raise ModelNotFoundError(f"the model directory {name} does not exist")
    raise unknown_name(
        "model", name, known, "a directory or a repository id such as Qwen/Qwen3-30B-A3B also does"
    )


def _is_in_the_way(folder: str) -> bool:
    """Whether a folder has the short name of a model that comes with easyep, and is none."""
    comes_along = "package" in aliases().get(folder, {})
    return comes_along and not os.path.isfile(Path(folder) / "config.json")  # noqa: PTH113


def _has_tokenizer_of(one: Path, other: Path) -> bool:
    name = "tokenizer.json"
    try:
        return filecmp.cmp(one / name, other / name, shallow=False)
    except OSError:
        return False
