"""Where results and stages may be written: not into checkpoints, nor over what is read."""

import os
from collections.abc import Iterable
from pathlib import Path

from easyep.atomic import check_file, existing, expanded, writing
from easyep.checkpoint.files import CONFIG, INDEX, SINGLE
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
        OutputError: it lies in one of these or in another checkpoint, or cannot be written.
    """
    work = expanded(text("work_dir", path))
    place = Path(os.path.realpath(work))
    if output is not None and place.is_relative_to(os.path.realpath(expanded(output))):
        raise OutputError(f"the work directory {work} must lie outside of the output {output}")
    if place.is_relative_to(os.path.realpath(model)):
        raise OutputError(f"the work directory {work} must lie outside of the model {model}")
    if (place / CONFIG).exists():
        raise OutputError(f"the work directory {work} has a {CONFIG}, as a model; choose another")
    outside_checkpoints(work)
    with writing(work):
        folder = existing(work)
    if not folder.is_dir():
        raise OutputError(f"the work directory {work} cannot be made: {folder} is no directory")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(
            f"the work directory {work} cannot be written: no permission to write to {folder}"
        )
    return work


def result_file(path: PathLike, read: Iterable[PathLike] = ()) -> None:
    """Check that a result can be written to a file; long work begins after this.

    Args:
        path: the file.
        read: files and folders that the result is made from.

    Raises:
        ArtifactError: `path` is none.
        OutputError: it would overwrite one of these or part of it, lies in a checkpoint, or cannot
            be written.
    """
    file = text("the file to write", path)
    place = Path(os.path.realpath(expanded(file)))
    for each in read:
        if place.is_relative_to(os.path.realpath(expanded(each))):
            raise OutputError(f"{path} would overwrite {each}, which is read; choose another file")
    outside_checkpoints(file)
    check_file(file)


def outside_checkpoints(path: PathLike) -> None:
    """Check that nothing would be put into a checkpoint, whose files are all accounted for.

    Raises:
        OutputError: `path` lies in a checkpoint of easyep, or beside a model's weights.
    """
    place = Path(os.path.realpath(expanded(path)))
    with writing(place):
        around = [each for each in place.parents if (each / MANIFEST).is_file()]
        beside = place.parent
        if (beside / CONFIG).is_file() and any(
            (beside / name).is_file() for name in (INDEX, SINGLE)
        ):
            around.append(beside)
    if around:
        raise OutputError(
            f"{path} lies in the checkpoint {around[0]}, whose files are all accounted for; choose "
            "another place"
        )
