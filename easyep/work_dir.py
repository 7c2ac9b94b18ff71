"""Work directories: where stages and measurements are saved, and where they must not be."""

import os
from pathlib import Path

from easyep.atomic import existing, expanded, writing
from easyep.checkpoint.files import CONFIG
from easyep.checkpoint.side_files import MANIFEST
from easyep.choices import text
from easyep.errors import OutputError

PathLike = str | os.PathLike[str]


def work_directory(path: PathLike, model: Path, output: PathLike | None = None) -> Path:
    """Check that stages can be saved in `path`, before they run.

    Args:
        path: the directory; it need not exist.
        model: the checkpoint that is read, whose files stay what they are.
        output: the directory that is to appear, if one is.

    Returns:
        `path`, with ``~`` for a home folder.

    Raises:
        ArtifactError: it is no path.
        OutputError: it lies in one of these, is a checkpoint itself, or cannot be written.
    """
    work = expanded(text("work_dir", path))
    place = Path(os.path.realpath(work))
    if output is not None and place.is_relative_to(os.path.realpath(expanded(output))):
        raise OutputError(f"the work directory {work} must lie outside of the output {output}")
    if place.is_relative_to(os.path.realpath(model)):
        raise OutputError(f"the work directory {work} must lie outside of the model {model}")
    with writing(work):
        # A config.json further up may be anybody's.
        for file in (place / CONFIG, *(each / MANIFEST for each in (place, *place.parents))):
            if file.exists():
                raise OutputError(
                    f"the work directory {work} is or lies in a checkpoint, since there is {file}; "
                    "choose another, which need not exist"
                )
        folder = existing(work)
    if not folder.is_dir():
        raise OutputError(f"the work directory {work} cannot be made: {folder} is no directory")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(
            f"the work directory {work} cannot be written: no permission to write to {folder}"
        )
    return work
