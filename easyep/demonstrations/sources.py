"""Where the rows of a data set come from: the Hugging Face hub at a commit, or files."""

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from easyep.errors import DemosError, MissingDependencyError, first_line

_KINDS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}
BUILDERS = sorted({*_KINDS.values()})
_ON_HUB = re.compile(r"hf://datasets/([^/@]+/[^/@]+)(?:@([^/]+))?(/.*)")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Source:
    """A data set, as the package `datasets` loads it.

    Attributes:
        dataset: a repository id on the hub, or a builder (``json``, ``csv``, ``parquet``).
        subset: the configuration of the data set.
        split: which split.
        revision: branch, tag or commit of the repository.
        data_files: files of a builder; ``hf://datasets/OWNER/NAME/PATH`` lies on the hub.
    """

    dataset: str
    subset: str | None = None
    split: str = "train"
    revision: str | None = None
    data_files: Any = None

    @property
    def repository(self) -> str | None:
        """The repository on the hub; None for files that lie elsewhere."""
        if self.data_files is None:
            return None if self.dataset in BUILDERS else self.dataset
        found = {m[1] if (m := _ON_HUB.fullmatch(path)) else None for path in self._files()}
        return found.pop() if len(found) == 1 else None

    @property
    def name(self) -> str:
        """What it is called in sentences."""
        return self.repository or self.dataset

    @property
    def moving(self) -> bool:
        """Whether another run may find other rows: the hub at anything but a commit."""
        return self.repository is not None and not _COMMIT.fullmatch(self.revision or "")

    def pinned(self) -> "Source":
        """The same at the commit that its revision stands for now.

        Raises:
            DemosError: the hub cannot be reached, or has no such repository or revision.
        """
        from huggingface_hub import HfApi

        if self.repository is None:
            return self
        commit = self.revision
        if self.moving:
            try:
                commit = HfApi().dataset_info(self.repository, revision=self.revision).sha
            except Exception as error:  # the hub and the network raise their own
                raise _unreadable(self.name, error) from None
        if self.data_files is None:
            return dataclasses.replace(self, revision=commit)
        files = [_ON_HUB.sub(rf"hf://datasets/\1@{commit}\3", path) for path in self._files()]
        return dataclasses.replace(self, revision=commit, data_files=files)

    def rows(self, seed: int, buffer: int) -> Iterator[Mapping[str, Any]]:
        """The rows as they stream in, `buffer` of them shuffled at a time.

        Raises:
            DemosError: they cannot be read.
            MissingDependencyError: the package `datasets` is not installed.
        """
        try:
            import datasets
        except ImportError:
            raise MissingDependencyError(
                "drawing from data sets needs the package datasets: pip install 'easyep[demos]'"
            ) from None
        try:
            stream = datasets.load_dataset(
                self.dataset,
                self.subset,
                split=self.split,
                # Of a builder's files each path says it.
                revision=self.revision if self.data_files is None else None,
                data_files=self.data_files,
                streaming=True,
            )
            yield from stream.shuffle(seed=seed, buffer_size=buffer)
        except Exception as error:  # the hub, its mirrors, file formats: all raise their own
            raise _unreadable(self.name, error) from None

    def _files(self) -> list[str]:
        return [self.data_files] if isinstance(self.data_files, str) else list(self.data_files)


def local_files(paths: Sequence[str]) -> Source:
    """Rows in files on this machine.

    Raises:
        DemosError: a file is missing, or their kinds differ or are unknown.
    """
    kinds = {_KINDS.get(Path(path).suffix) for path in paths}
    for path in paths:
        if not Path(path).is_file():
            raise DemosError(f"the data file {path} does not exist")
    kind = kinds.pop()
    if kinds or kind is None:
        raise DemosError(f"data files must be of one kind, one of {', '.join(_KINDS)}")
    return Source(kind, data_files=list(paths))


def _unreadable(name: str, error: Exception) -> DemosError:
    return DemosError(
        f"the data set {name} cannot be read ({type(error).__name__}: {first_line(error)}); "
        "check the name and the network, log in with `hf auth login` if it is gated, or fetch "
        "its files elsewhere and give them with --data-files"
    )
