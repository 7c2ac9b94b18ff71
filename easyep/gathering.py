"""What lies in folders and files that easyep wrote, for a report."""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from easyep.artifacts import Observations, Scores, Selection
from easyep.artifacts.files import read_json
from easyep.artifacts.observations import INDEX
from easyep.checkpoint.side_files import MANIFEST
from easyep.errors import ArtifactError, EasyEPError

# Folders that hold nothing to tell, or too many small files.
_SKIPPED = {"evaluations", "cache", "samples"}


@dataclass
class Gathered:
    """Everything that was found.

    Attributes:
        checkpoint: a pruned checkpoint's folder, with its manifest.
        manifest: what the manifest says.
        scores, selection: of the checkpoint, where there is one; else of the folder.
        observations: one per domain.
        studies, stability, accuracies, comparisons, throughput: results of `easyep run`,
            `stability`, `eval`, `compare` and `bench`, by file.
        left_aside: files that were not used, and why.
        places: the files that `scores` and `selection` are of.
    """

    checkpoint: Path | None = None
    manifest: Mapping[str, Any] | None = None
    scores: Scores | None = None
    selection: Selection | None = None
    observations: list[Observations] = field(default_factory=list)
    studies: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    stability: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    accuracies: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    comparisons: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    throughput: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    left_aside: dict[str, str] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to tell."""
        found = (self.selection, self.scores, self.manifest)
        seen = (self.observations, self.studies, self.stability)
        measured = (self.accuracies, self.comparisons, self.throughput)
        return not any(each is not None for each in found) and not any((*seen, *measured))


def gather(paths: Iterable[str | os.PathLike[str]]) -> Gathered:
    """Read what is in pruned checkpoints, work directories, and result files.

    Args:
        paths: folders, of which the files in them and one level below are looked at; or files.

    Raises:
        ArtifactError: a path does not exist or cannot be read, or nothing of easyep's is there.
    """
    gathered = Gathered()
    places = [Path(path) for path in paths]
    for given in places:
        try:
            files = list(_files(given))
        except OSError as error:
            raise ArtifactError(f"{given} cannot be read: {error.strerror}") from None
        for path in files:
            _take(gathered, path)
    if gathered.manifest is not None:
        _settle(gathered, gathered.manifest)
    if gathered.is_empty:
        aside = "; ".join(f"{name}: {why}" for name, why in gathered.left_aside.items())
        raise ArtifactError(
            f"nothing of easyep's was found in {', '.join(map(str, places))}"
            + (f" ({aside})" if aside else "")
        )
    return gathered


def _files(given: Path) -> Iterator[Path]:
    if not given.exists():
        raise ArtifactError(
            f"{given} does not exist; a report is made of a pruned checkpoint, a work directory, "
            "or a file of results"
        )
    if given.is_file():
        yield given
        return
    for path in sorted(given.iterdir()):
        if path.is_file() and path.suffix == ".json":
            yield path
        elif path.is_dir() and path.name not in _SKIPPED and not path.name.startswith("."):
            if (path / INDEX).is_file():
                yield path / INDEX
            elif path.name == "observations":
                yield from sorted(path.glob(f"*/{INDEX}"))


def _take(gathered: Gathered, path: Path) -> None:
    try:
        value = read_json(path, "file")
        _place(gathered, path, value)
    except EasyEPError as error:
        gathered.left_aside[str(path)] = str(error)


def _place(gathered: Gathered, path: Path, value: Mapping[str, Any]) -> None:
    name = str(path)
    if path.name == MANIFEST and isinstance(value.get("selection"), Mapping):
        Selection.from_json(value["selection"])
        if gathered.checkpoint is not None:
            raise ArtifactError(f"a report is of one checkpoint, this one of {gathered.checkpoint}")
        gathered.checkpoint, gathered.manifest = path.parent, value
    elif path.name == INDEX:
        gathered.observations.append(Observations.load(path.parent))
    elif {"criterion", "router", "layers"} <= value.keys():
        gathered.scores, gathered.places["scores"] = Scores.from_json(value), name
    elif {"keep", "num_experts", "layers"} <= value.keys():
        gathered.selection, gathered.places["selection"] = Selection.from_json(value), name
    elif {"by_number", "between", "sets"} <= value.keys():
        _with(value, ("by_number", "sets", "keep"))
        if len(value["sets"]) > 1 or value["between"] != []:  # one set is compared with none
            _with(value, ("between",))
        gathered.stability[name] = value
    elif {"study", "summary"} <= value.keys() and isinstance(value["study"], Mapping):
        gathered.studies[name] = _with(value, ("summary",))
    elif {"first", "second", "domains"} <= value.keys():
        gathered.comparisons[name] = _with(value, ("domains",))
    elif "fixed_batch" in value:
        gathered.throughput[name] = value
    elif _is_evaluation(value):
        gathered.accuracies[name] = value
    elif path.name not in ("config.json", "generation_config.json") and not _of_the_hub(path):
        gathered.left_aside[name] = "not a file of results that easyep report knows"


def _settle(gathered: Gathered, manifest: Mapping[str, Any]) -> None:
    """Leave aside what a work directory has from another run than the checkpoint's."""
    own = Selection.from_json(manifest["selection"])
    beside, gathered.selection = gathered.selection, own
    if beside is not None and beside.layers != own.layers:
        gathered.left_aside[gathered.places["selection"]] = (
            f"it has other experts than {gathered.checkpoint}"
        )
    scores, observations = gathered.scores, manifest.get("observations")  # `rewrite` knows of none
    if scores and observations and [*map(dict, scores.observations)] != observations:
        gathered.scores = None
        gathered.left_aside[gathered.places["scores"]] = (
            f"it is of other observations than {gathered.checkpoint}"
        )


def _is_evaluation(value: Mapping[str, Any]) -> bool:
    """Whether there are models by name, as `easyep eval` writes them."""
    models = [each for name, each in value.items() if name != "differences"]
    wanted = {"results", "settings"}
    return bool(models) and all(isinstance(m, Mapping) and wanted <= m.keys() for m in models)


def _with(value: Mapping[str, Any], lists: Iterable[str]) -> Mapping[str, Any]:
    for name in lists:
        rows = value.get(name)
        if not isinstance(rows, list) or not rows:
            raise ArtifactError(f"the entry {name!r} must be a list that is not empty")
        if name == "summary" and not all(isinstance(row, Mapping) for row in rows):
            raise ArtifactError("each entry of 'summary' must be an object")
    return value


def _of_the_hub(path: Path) -> bool:
    """Whether a file belongs to a checkpoint: its tokenizer, its index and the like."""
    return (path.parent / "config.json").exists()
