"""What lies beside the weights and comes along: tokenizer, templates, custom code, licence."""

import os
from pathlib import Path
from typing import NoReturn

from easyep.checkpoint.files import CONFIG, INDEX, checked_file
from easyep.errors import CheckpointError

MANIFEST = "easyep.json"
MODEL_CARD = "README.md"

# Written anew, never copied.
REPLACED = {CONFIG, INDEX, MANIFEST, MODEL_CARD}

# The same weights in other formats, which would still hold all experts.
WEIGHT_SUFFIXES = (
    *(".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".ggml", ".h5", ".msgpack"),
    *(".onnx", ".onnx_data", ".npz", ".ot", ".tflite", ".index.json"),
)
WEIGHT_FOLDERS = {"onnx", "original", "metal", "openvino"}

# Of the file system, and closed to users, where a model lies at the root of a disk.
LOST = "lost+found"


def side_files(root: Path) -> list[str]:
    """Names, relative to the checkpoint directory `root`, of the files to be carried over.

    Everything but weights in any format, what is written anew, and hidden files and folders.

    Raises:
        CheckpointError: one of them is a link out of the directory or no regular file, or its
            name is no text; or a folder cannot be read, or is a link.
    """
    names = []
    for folder, folders, files in os.walk(root, onerror=unreadable):
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and name not in {*WEIGHT_FOLDERS, "__pycache__", LOST}
        )
        for link in filter(Path.is_symlink, (Path(folder) / name for name in folders)):
            raise CheckpointError(
                f"{link} is a link to a folder, whose files would not come along: put the folder "
                "itself in its place, or remove the link"
            )
        for file in sorted(files):
            name = str((Path(folder) / file).relative_to(root))
            if name in REPLACED or file.startswith(".") or file.endswith(WEIGHT_SUFFIXES):
                continue
            checked_file(root, name)
            if not name.isprintable():
                raise CheckpointError(
                    f"{root} has a file {name!r}, whose name is no text; rename it"
                )
            names.append(name)
    return names


def unreadable(error: OSError) -> NoReturn:
    """Raises CheckpointError for a folder whose files `os.walk` would pass over in silence."""
    raise CheckpointError(f"{error.filename} cannot be read: {error.strerror}") from None
