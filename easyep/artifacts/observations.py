"""What a calibration run saw: the record of every MoE layer, complete and in one place."""

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import safetensors
import safetensors.numpy

from easyep import choices
from easyep.architectures.router import Router
from easyep.artifacts.files import check_schema, opened, read_artifact, write_json
from easyep.artifacts.layer_sums import COUNTED, PEAKS, LayerSums
from easyep.artifacts.model_identity import ModelIdentity
from easyep.artifacts.routed_tokens import RoutedTokens
from easyep.atomic import appearing, check_absent, write_bytes
from easyep.errors import ArtifactError, first_line

SCHEMA = 1
INDEX = "observations.json"


@dataclass(frozen=True)
class ObservedDemo:
    """What is remembered of a demonstration: enough to tell whether two runs saw the same."""

    sha256: str
    tokens: int
    response_tokens: int
    cut: int = 0


@dataclass(frozen=True)
class Observations:
    """One calibration run on one domain.

    Attributes:
        model: the checkpoint that was observed.
        router: its router.
        domain: the name of the domain or demonstrations file.
        demos: the demonstrations, in the order of the tokens.
        runner: how the model was run.
        dtype: the type that it computed in.
        layers: layer index -> record; MTP layers are numbered after the last layer, and see a
            token only together with the one before it, so the first token of each demonstration
            is missing there (two layers miss two, and so on).
        sums: where the records were not kept: layer index -> what was summed up of them. Such a
            layer cannot be read from `layers`, which then says so.
        mask_ratios: for a diffusion model, the shares of hidden tokens at which each demonstration
            was shown; its tokens are in the record as often.
    """

    model: ModelIdentity
    router: Router
    domain: str
    demos: tuple[ObservedDemo, ...]
    runner: str
    dtype: str
    layers: Mapping[int, RoutedTokens]
    sums: Mapping[int, LayerSums] | None = None
    mask_ratios: tuple[float, ...] = ()

    @classmethod
    def summed(cls, sums: Mapping[int, LayerSums], **fields: Any) -> "Observations":
        """A run whose records were not kept, only `sums` of them."""
        return cls(**fields, layers=_NotKept(sums), sums=sums)

    @property
    def num_tokens(self) -> int:
        """Tokens in all demonstrations."""
        return sum(demo.tokens for demo in self.demos)

    def tokens_in(self, layer: int) -> int:
        """How many tokens came to a layer."""
        if self.sums is not None:
            return int(self.sums[layer].of(COUNTED, "all")[0])
        return len(self.layers[layer])

    def unreached(self) -> dict[int, list[int]]:
        """Layer index -> the experts that no token was routed to."""
        found = {}
        for layer in sorted(self.layers):
            reached = np.zeros(self.router.num_experts, dtype=bool)
            if self.sums is not None:
                reached |= self.sums[layer].of(PEAKS, "all") > 0
            else:
                record = self.layers[layer]
                reached[record.expert_ids[record.weights != 0]] = True
            found[layer] = np.flatnonzero(~reached).tolist()
        return found

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write one file per layer and `observations.json` (the form is in docs/formats.md).

        Raises:
            OutputError: the folder holds something already, or cannot be written.
        """
        with appearing(check_absent(folder)) as partial:
            checksums = {}
            for layer in self.layers:
                data = safetensors.numpy.save(self._arrays(layer))
                write_bytes(partial / layer_file(layer), data)
                checksums[str(layer)] = hashlib.sha256(data).hexdigest()
            write_json(
                partial / INDEX,
                {
                    "schema": SCHEMA,
                    "model": self.model.to_json(),
                    "router": self.router.to_json(),
                    "domain": self.domain,
                    "demos": [asdict(demo) for demo in self.demos],
                    "runner": self.runner,
                    "dtype": self.dtype,
                    **({"mask_ratios": list(self.mask_ratios)} if self.mask_ratios else {}),
                    "records": "full" if self.sums is None else "none",
                    "num_experts": self.router.num_experts,
                    "top_k": self.router.top_k,
                    "layers": sorted(self.layers),
                    "checksums": checksums,
                },
            )

    def _arrays(self, layer: int) -> dict[str, Any]:
        if self.sums is not None:
            return dict(self.sums[layer].arrays)
        return self.layers[layer].arrays()

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> "Observations":
        """Open what `save` wrote; each layer's arrays are read when they are asked for.

        Raises:
            ArtifactError: the folder is missing, incomplete, or not an observation.
        """
        folder = Path(folder)
        if os.path.isfile(folder):  # noqa: PTH113 (Path's raises for names that are too long)
            raise ArtifactError(
                f"observations: {folder} is a file; `easyep observe` writes a directory"
            )
        return read_artifact(
            folder / INDEX, "observations", lambda value: cls._of_index(value, folder)
        )

    @classmethod
    def all_of(cls, given: "Observed | Iterable[Observed]") -> "list[Observations]":
        """Calibration runs, each as it is or the folder that it was saved in; one alone is one.

        Raises:
            ArtifactError: as `load`.
        """

        return list(choices.several(lambda _, one: opened(cls, one))("observations", given))

    @classmethod
    def _of_index(cls, value: dict[str, Any], folder: Path) -> "Observations":
        """The observations of a folder whose index says `value`; ArtifactError where it is none."""
        check_schema(value, SCHEMA)
        layers = value.get("layers")
        if not isinstance(layers, list) or any(type(i) is not int for i in layers):
            raise ArtifactError("the entry 'layers' must be a list of layer numbers")
        if not layers:
            raise ArtifactError("no layer was observed")
        demos = value.get("demos")
        if not isinstance(demos, list):
            raise ArtifactError("the entry 'demos' must be a list")
        router = Router.from_json(value.get("router"))
        checksums = value.get("checksums")
        if not isinstance(checksums, dict) or set(checksums) != {str(i) for i in layers}:
            raise ArtifactError("the entry 'checksums' must have one hash per layer")
        for name in ("domain", "runner", "dtype"):
            if not isinstance(value.get(name), str):
                raise ArtifactError(f"the entry {name!r} must be a string")
        ratios = value.get("mask_ratios", [])
        if not isinstance(ratios, list) or any(
            type(share) not in (int, float) or not 0 <= share <= 1 for share in ratios
        ):
            raise ArtifactError("the entry 'mask_ratios' must be a list of numbers from 0 to 1")
        fields = {
            "mask_ratios": tuple(map(float, ratios)),
            "model": ModelIdentity.from_json(value.get("model")),
            "router": router,
            "demos": tuple(_observed_demo(demo) for demo in demos),
            **{name: value[name] for name in ("domain", "runner", "dtype")},
        }
        if value.get("records", "full") == "none":
            sums = _OnDisk(folder, checksums, partial(_sums, num_experts=router.num_experts))
            return cls.summed(sums, **fields)
        record = partial(_record, num_experts=router.num_experts)
        return cls(**fields, layers=_OnDisk(folder, checksums, record))


def layer_file(layer: int) -> str:
    """The name of a layer's file."""
    return f"layer-{layer:05d}.safetensors"


def _observed_demo(value: Any) -> ObservedDemo:
    kinds = {"sha256": str, "tokens": int, "response_tokens": int, "cut": int}
    if not isinstance(value, Mapping) or any(
        type(value.get(name, 0 if name == "cut" else None)) is not kind
        for name, kind in kinds.items()
    ):
        raise ArtifactError("each entry of 'demos' must have sha256, tokens, response_tokens, cut")
    return ObservedDemo(**{name: value[name] for name in kinds if name in value})


# A calibration run, or the folder that it was saved in.
Observed = Observations | str | os.PathLike[str]

Value = TypeVar("Value")


class _OnDisk(Mapping[int, Value]):
    """Reads a layer each time that it is asked for, so that memory holds one at a time."""

    def __init__(
        self,
        folder: Path,
        checksums: Mapping[str, str],
        made: Callable[[dict[str, Any]], Value],
    ) -> None:
        self._folder = folder
        self._checksums = {int(layer): checksum for layer, checksum in checksums.items()}
        self._made = made

    def __getitem__(self, layer: int) -> Value:
        checksum = self._checksums[layer]
        path = self._folder / layer_file(layer)
        try:
            if not stat.S_ISREG(path.stat().st_mode):  # a pipe may have no end, and no beginning
                raise ArtifactError("it is not a regular file")
            data = path.read_bytes()
            if hashlib.sha256(data).hexdigest() != checksum:
                raise ArtifactError("it is not what was written (its SHA-256 differs)")
            return self._made(safetensors.numpy.load(data))
        except (OSError, TypeError, KeyError, ArtifactError, safetensors.SafetensorError) as error:
            raise ArtifactError(
                f"observations: {path} cannot be read: {first_line(error)}"
            ) from None

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self._checksums))

    def __len__(self) -> int:
        return len(self._checksums)


def _record(arrays: dict[str, Any], num_experts: int) -> RoutedTokens:
    record = RoutedTokens(**arrays)
    if record.expert_ids.size and record.expert_ids.max() >= num_experts:
        raise ArtifactError(f"expert_ids reaches beyond {num_experts} experts")
    return record


def _sums(arrays: dict[str, Any], num_experts: int) -> LayerSums:
    sums = LayerSums(arrays)
    sums.check(num_experts)
    return sums


class _NotKept(Mapping[int, RoutedTokens]):
    """The layers of a run that kept sums only."""

    def __init__(self, sums: Mapping[int, LayerSums]) -> None:
        self._sums = sums

    def __getitem__(self, layer: int) -> RoutedTokens:
        criteria = ", ".join(self._sums[layer].criteria)
        raise ArtifactError(
            "these observations were made without the full record: they can be scored by "
            f"{criteria}, and nothing else; observe again with --records full"
        )

    def __iter__(self) -> Iterator[int]:
        return iter(self._sums)

    def __len__(self) -> int:
        return len(self._sums)
