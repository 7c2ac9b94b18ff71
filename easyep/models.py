"""What `--model` means: a directory, a short name, or a Hugging Face repository."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from easyep import resources
from easyep.errors import ModelNotFoundError
from easyep.registry import unknown_name

# Everything that a checkpoint may hold except the same weights in other formats.
_NOT_NEEDED = ["*.bin", "*.pt", "*.pth", "*.gguf", "*.onnx", "*.h5", "*.msgpack", "original/*"]


@dataclass(frozen=True)
class Model:
    """A checkpoint on this machine.

    Attributes:
        name: what the user called it.
        path: the directory with `config.json` and the safetensors files.
        calibration: the subfolder of `calibration_data/` for its domains.
        tasks: the evaluation tasks that easyep brings for this model; empty where it has none.
        hub: its Hugging Face repository id; empty for a directory.
    """

    name: str
    path: Path
    calibration: str = ""
    tasks: str = ""
    hub: str = ""


def aliases() -> dict[str, dict[str, str]]:
    """The short names of `recipes/models.yaml`."""
    text = (resources.folder("recipes") / "models.yaml").read_text(encoding="utf-8")
    found: dict[str, dict[str, str]] = yaml.safe_load(text)
    return found


def resolve(name: str) -> Model:
    """Find the checkpoint that `name` means; what lies in the local cache is used as it is.

    Args:
        name: a directory, a short name, or a repository id, optionally ``@revision``.

    Raises:
        UnknownNameError: a plain word that is neither a directory nor a short name.
        ModelNotFoundError: the repository is not in the cache and cannot be fetched.
    """
    if Path(name).is_dir():
        return Model(name, Path(name))
    alias, known = name.partition("@"), aliases()
    if alias[0] in known:
        entry = known[alias[0]]
        origin = {"calibration": entry.get("calibration", ""), "tasks": entry.get("tasks", "")}
        if entry.get("package") == "demo":
            if alias[2]:
                raise ModelNotFoundError(f"{alias[0]} comes with easyep and has no revisions")
            return Model(name, resources.demo_model(), **origin)
        hub = entry["hub"]
        return Model(name, _snapshot(hub + alias[1] + alias[2]), hub=hub, **origin)
    if re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", name) and not name.startswith((".", "/")):
        return Model(name, _snapshot(name), hub=name.partition("@")[0])
    if "/" in name or name.startswith("."):
        raise ModelNotFoundError(f"the model directory {name} does not exist")
    raise unknown_name(
        "model", name, known, "a directory or a repository id such as Qwen/Qwen3-30B-A3B also does"
    )


def _snapshot(repository: str) -> Path:
    """The local copy of a Hugging Face repository, fetched if it is not there."""
    # Imported here: it takes a while, and a directory needs none of it.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    repo_id, _, revision = repository.partition("@")
    wanted: dict[str, Any] = {"revision": revision or None, "ignore_patterns": _NOT_NEEDED}
    try:
        path = Path(snapshot_download(repo_id, local_files_only=True, **wanted))
        if _complete(path):
            return path
    except LocalEntryNotFoundError:
        pass
    try:
        path = Path(snapshot_download(repo_id, **wanted))
        if _complete(path):
            return path
        reason = "offline, or it has no safetensors files"
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = f"{type(error).__name__}: {str(error).strip().split(chr(10))[0]}"
    raise ModelNotFoundError(
        f"{repository} is not whole in the local Hugging Face cache and cannot be fetched "
        f"({reason}); fetch it where the hub can be reached with `hf download {repo_id}`, or give "
        "--model the directory of a copy"
    )


def _complete(path: Path) -> bool:
    """Whether a cached snapshot has its config and all the shards that its index names."""
    index = path / "model.safetensors.index.json"
    if not (path / "config.json").exists():
        return False
    if not index.exists():
        return (path / "model.safetensors").exists()
    try:
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, AttributeError):
        return False
    return all((path / shard).exists() for shard in shards)
