"""Repositories of the Hugging Face hub: their copy on this machine, or an outline of them.

huggingface_hub is imported in the functions: it takes a while, and a directory needs none of it.
"""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from easyep.artifacts.files import read_json
from easyep.atomic import existing
from easyep.errors import ArtifactError, ModelNotFoundError, OutputError, first_line

# Everything that a checkpoint may hold except the same weights in other formats.
_NOT_NEEDED = ["*.bin", "*.pt", "*.pth", "*.gguf", "*.onnx", "*.h5", "*.msgpack", "original/*"]
_WEIGHTS = ".safetensors"
_INDEX = "model.safetensors.index.json"
# Tokenizers have up to some ten MB; headers some ten kB, asked for in one piece where they fit.
_LARGEST_SMALL_FILE, _PIECE, _MOST_FILES = 200_000_000, 1 << 17, 10_000
_LARGEST_HEADER = 100_000_000
_CONNECTIONS = 8


def local(repository: str) -> Path | None:
    """The copy in the local cache of ``OWNER/NAME[@REVISION]``, where it is whole.

    Raises:
        ModelNotFoundError: no repository of the hub can be called so.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    repo_id, revision = _parts(repository)
    try:
        path = Path(snapshot_download(repo_id, local_files_only=True, **_wanted(revision)))
    except LocalEntryNotFoundError:
        return None
    except HFValidationError as error:
        raise ModelNotFoundError(
            f"{repository} is neither a directory nor a name of the Hugging Face hub: "
            f"{first_line(error)}"
        ) from None
    return path if _complete(path) else None


def fetched(repository: str) -> Path:
    """The copy in the local cache, fetched if it is not there.

    Raises:
        ModelNotFoundError: it cannot be fetched.
        OutputError: it does not fit onto the disk of the cache.
    """
    from huggingface_hub import constants, snapshot_download

    found = local(repository)
    if found is not None:
        return found
    repo_id, revision = _parts(repository)
    try:
        sizes = _sizes(repo_id, revision)[1]
        _check_room(repository, sum(sizes.values()), Path(constants.HF_HUB_CACHE))
        path = Path(snapshot_download(repo_id, **_wanted(revision)))
        if _complete(path):
            return path
        reason = "it has no safetensors files"
    except OutputError:
        raise
    except Exception as error:  # the hub and the network raise their own
        reason = f"{type(error).__name__}: {first_line(error)}"
    raise _not_found(repository, reason)


def outlined(repository: str, folder: Path) -> Path:
    """A stand-in for a repository: its small files, and weight files with nothing but headers.

    The weight files have their size, but are holes behind their headers: enough for all that reads
    no weight.

    Args:
        repository: ``OWNER/NAME[@REVISION]``.
        folder: an empty folder that becomes the stand-in.

    Raises:
        ModelNotFoundError: the hub cannot be reached, or has no such model.
    """
    from huggingface_hub import hf_hub_download

    repo_id, revision = _parts(repository)
    try:
        commit, sizes = _sizes(repo_id, revision)
        weights = [name for name in sizes if name.endswith(_WEIGHTS)]
        for name in sizes.keys() - {*weights}:
            if sizes[name] <= _LARGEST_SMALL_FILE:
                hf_hub_download(repo_id, name, revision=commit, local_dir=folder)
        with ThreadPoolExecutor(_CONNECTIONS) as pool:
            heads = pool.map(lambda name: _head(repo_id, name, commit, sizes[name]), weights)
            for name, head in zip(weights, heads, strict=True):
                with open(folder / name, "wb") as file:
                    file.write(head)
                    file.truncate(sizes[name])
    except Exception as error:  # the hub and the network raise their own
        raise _not_found(repository, f"{type(error).__name__}: {first_line(error)}") from None
    return folder


def _sizes(repo_id: str, revision: str | None) -> tuple[str, dict[str, int]]:
    """The commit, and the size of each file that a checkpoint needs."""
    from fnmatch import fnmatch

    from huggingface_hub import HfApi, constants

    # Without a limit of time the library waits for a silent hub for ever, here and in `_range`.
    patience = constants.HF_HUB_ETAG_TIMEOUT
    info = HfApi().model_info(repo_id, revision=revision, files_metadata=True, timeout=patience)
    found = {}
    for each in info.siblings or ():
        name, size = each.rfilename, each.size
        if any(fnmatch(name, pattern) for pattern in _NOT_NEEDED):
            continue
        if Path(name).is_absolute() or ".." in Path(name).parts or type(size) is not int:
            raise ValueError(f"the hub names the file {name!r} with the size {size!r}")
        if not (name.endswith(_WEIGHTS) and Path(name).name != name):  # weights in a subfolder
            found[name] = size
    if len(found) > _MOST_FILES:
        raise ValueError(f"it has {len(found)} files")
    return str(info.sha), found


def _head(repo_id: str, name: str, commit: str, size: int) -> bytes:
    """The length and the header at the beginning of a weight file."""
    begin = _range(repo_id, name, commit, 0, min(size, _PIECE))
    end = 8 + int.from_bytes(begin[:8], "little")
    if not 8 <= end <= min(size, _LARGEST_HEADER):
        raise ValueError(f"{name} claims a header of {end - 8} bytes")
    if end > len(begin):
        begin += _range(repo_id, name, commit, len(begin), end)
    return begin[:end]


def _range(repo_id: str, name: str, commit: str, begin: int, end: int) -> bytes:
    from huggingface_hub import constants, get_session, hf_hub_url
    from huggingface_hub.utils import (  # type: ignore[attr-defined]
        build_hf_headers,
        hf_raise_for_status,
    )

    headers = {**build_hf_headers(), "Range": f"bytes={begin}-{end - 1}"}
    url = hf_hub_url(repo_id, name, revision=commit)
    data, patience = b"", constants.HF_HUB_DOWNLOAD_TIMEOUT
    with get_session().stream(
        "GET", url, headers=headers, follow_redirects=True, timeout=patience
    ) as response:
        hf_raise_for_status(response)
        if response.status_code != 206 and begin:
            raise ValueError(f"{name}: the server sends whole files only")
        for part in response.iter_bytes():
            data += part
            if len(data) >= end - begin:
                break
    if len(data) < end - begin:
        raise ValueError(f"{name} ends within its header")
    return data[: end - begin]


def _check_room(repository: str, needed: int, cache: Path) -> None:
    free = shutil.disk_usage(existing(cache)).free
    if needed > free:
        raise OutputError(
            f"{repository} takes {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free for the "
            f"Hugging Face cache in {cache}; HF_HOME names another place for it"
        )


def _complete(path: Path) -> bool:
    """Whether a cached snapshot has its config and all the shards that its index names."""
    if not (path / "config.json").exists():
        return False
    if not (path / _INDEX).exists():
        return (path / "model.safetensors").exists()
    try:
        shards = {str(name) for name in read_json(path / _INDEX, "index")["weight_map"].values()}
        return all((path / shard).exists() for shard in shards)
    except (ArtifactError, LookupError, AttributeError, ValueError, OSError):
        return False


def _parts(repository: str) -> tuple[str, str | None]:
    repo_id, _, revision = repository.partition("@")
    return repo_id, revision or None


def _wanted(revision: str | None) -> dict[str, Any]:
    return {"revision": revision, "ignore_patterns": _NOT_NEEDED}


def _not_found(repository: str, reason: str) -> ModelNotFoundError:
    repo_id, _ = _parts(repository)
    return ModelNotFoundError(
        f"{repository} is not whole in the local Hugging Face cache and cannot be fetched "
        f"({reason}); fetch it where the hub can be reached with `hf download {repo_id}`, or give "
        "--model the directory of a copy"
    )
