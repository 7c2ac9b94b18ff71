"""Every choice of one run, in YAML or as keyword arguments, validated when it is built."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from easyep import choices, runner_names, yaml_text
from easyep.architectures.engines import ENGINES, Serving
from easyep.artifacts.files import read_json
from easyep.artifacts.scores import MIXES
from easyep.artifacts.selection import GROUP_MODES
from easyep.checkpoint.rewriting import MAX_SHARD_BYTES, MTP_MODES
from easyep.demonstrations import parse_weighted
from easyep.demonstrations.conversation import STYLES, Style
from easyep.demonstrations.rendering import DEMO_ORDERS, DemoOrder
from easyep.errors import ArtifactError
from easyep.given_files import read_whole
from easyep.memory_limits import Limits, limits
from easyep.scoring import TOKENS, Tokens
from easyep.selection import check_allocation

RECORDS = ("auto", "full", "none")
MTP_CHOICES = ("auto", *MTP_MODES)
DTYPES = ("auto", "float32", "bfloat16", "float16")

_CHECKS: Mapping[str, Callable[[str, Any], Any]] = {
    "model": choices.text,
    "domain": choices.several(choices.text),
    "demos": choices.several(choices.text),
    "keep": choices.number,
    "align": choices.count,
    "engine": choices.several(choices.one_of(tuple(ENGINES))),
    "tensor_parallel": choices.count,
    "expert_parallel": choices.count,
    "criterion": choices.text,
    "mix": choices.one_of(MIXES),
    "allocation": choices.text,
    "protect": choices.several(choices.written),
    "forbid": choices.several(choices.written),
    "tokens": choices.one_of(TOKENS),
    "groups": choices.one_of(GROUP_MODES),
    "mtp": choices.one_of(MTP_CHOICES),
    "max_shard_size": choices.size,
    "n_demos": choices.count,
    "tokens_per_domain": choices.optional(choices.count),
    "max_length": choices.optional(choices.count),
    "demo_order": choices.one_of(DEMO_ORDERS),
    "style": choices.one_of(STYLES),
    "seed": choices.seed,
    "runner": lambda name, value: choices.one_of(runner_names.choices())(name, value),
    "deepspeed_config": choices.optional(choices.text),
    "device": choices.text,
    "dtype": choices.one_of(DTYPES),
    "batch_size": choices.count,
    "max_memory": choices.optional(limits),
    "peer_timeout": choices.count,
    "mask_ratio": choices.several(choices.share),
    "records": choices.one_of(RECORDS),
    "trust_remote_code": choices.flag,
}


@dataclass(frozen=True)
class Recipe:
    """One way from a model and a domain to a pruned checkpoint.

    The defaults here are those of the command line and of the Python functions.

    Attributes:
        model: a directory, a short name of `recipes/models.yaml`, or a repository id.
        domain: names of domains, each optionally ``:WEIGHT``.
        demos: JSONL files of demonstrations, each optionally ``:WEIGHT``.
        keep: a fraction in (0, 1), or a number of experts per layer.
        align: the number of experts kept is a multiple of this.
        engine: names of `easyep list engines` that are to load the result; a number of experts
            that one of them cannot load is refused.
        tensor_parallel, expert_parallel: over how many ranks those engines spread the model.
        criterion: a name of `easyep list criteria`.
        mix: how several domains become one: by the ``"mean"`` of their scores, or by
            ``"max-min"``, the set whose worst domain keeps most.
        allocation: ``"uniform"``, the same number of experts in every layer.
        protect: experts that are kept whatever their scores, as in `select`.
        forbid: experts that are dropped whatever their scores.
        tokens: which tokens count: ``"all"`` or ``"response"``.
        groups: ``"balanced"`` or ``"flatten"``, for group-limited routers.
        mtp: multi-token-prediction layers: ``"score"`` them, let them ``"follow"`` the last
            layer's choice, or ``"drop"`` them; ``"auto"`` scores them if transformers loads the
            result without a complaint, else drops them (`Source.mtp_mode`).
        max_shard_size: bytes of tensors per weight file, or a text such as ``5GB``.
        n_demos: demonstrations per domain.
        tokens_per_domain: at most so many tokens of each domain, in the order drawn, so that a
            domain of long texts does not outweigh the others; None sets no limit.
        max_length: tokens per demonstration; None means the model's own limit.
        demo_order: ``"random"`` or ``"longest"``.
        style: answers with their ``"thinking"``, ``"plain"`` ones, or ``"auto"``: thinking if the
            model's chat template knows it.
        seed: for every random choice.
        runner: how the model is run: whole, from ``"memory"``, or layer by layer, as a
            ``"stream"`` from its files; ``"auto"`` streams what does not fit. ``"deepspeed"``
            divides it over the processes that a launcher started.
        deepspeed_config: a file with DeepSpeed's settings, to offload parameters to main memory
            or NVMe.
        device: ``"auto"`` or a torch device.
        dtype: ``"auto"`` (the checkpoint's own) or a floating-point type.
        batch_size: demonstrations per forward pass.
        max_memory: bytes that a run may take: of main memory (``6GiB``), or by device
            (``0=70GiB,cpu=100GiB``, or that as a mapping); None means what is free.
        peer_timeout: seconds after which a process of a run of several counts as hung.
        mask_ratio: for diffusion models, the shares of response tokens that are hidden when they
            are observed; none given means 0.25, 0.5 and 0.75.
        records: ``"full"`` keeps what every token did; ``"none"`` only sums for criteria;
            ``"auto"`` the full record where it takes at most half of the room that there is.
        trust_remote_code: run Python code that lies in the checkpoint.
    """

    model: str
    domain: tuple[str, ...] = ()
    demos: tuple[str, ...] = ()
    keep: float = 0.5
    align: int = 1
    engine: tuple[str, ...] = ()
    tensor_parallel: int = 1
    expert_parallel: int = 1
    criterion: str = "easy-ep"
    mix: str = "mean"
    allocation: str = "uniform"
    protect: tuple[str, ...] = ()
    forbid: tuple[str, ...] = ()
    tokens: Tokens = "all"
    groups: str = "balanced"
    mtp: str = "auto"
    max_shard_size: int = MAX_SHARD_BYTES
    n_demos: int = 25
    tokens_per_domain: int | None = None
    max_length: int | None = None
    demo_order: DemoOrder = "random"
    style: Style = "auto"
    seed: int = 0
    runner: str = "auto"
    deepspeed_config: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    batch_size: int = 1
    max_memory: Limits | None = None
    peer_timeout: int = 1800
    mask_ratio: tuple[float, ...] = ()
    records: str = "auto"
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        for name, check in _CHECKS.items():
            object.__setattr__(self, name, check(name, getattr(self, name)))
        check_allocation(self.allocation)
        if self.deepspeed_config is not None and self.runner != "deepspeed":
            raise ArtifactError(
                f"the DeepSpeed configuration {self.deepspeed_config} is for the runner deepspeed, "
                f"not {self.runner}: give --runner deepspeed (runner: deepspeed in recipes), or "
                "leave the file out"
            )

    @property
    def serving(self) -> Serving:
        """The engines that are to load the result."""
        return Serving(self.engine, self.tensor_parallel, self.expert_parallel)

    @property
    def weights(self) -> list[float]:
        """The weight of each domain, then of each file of demonstrations."""
        return [parse_weighted(text)[1] for text in (*self.domain, *self.demos)]

    def to_json(self) -> dict[str, Any]:
        """All choices, by name."""
        value = {f.name: getattr(self, f.name) for f in fields(self)}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in value.items()}

    @classmethod
    def from_mapping(cls, value: Mapping[str, Any]) -> "Recipe":
        """Raises UnknownNameError for a key that no recipe has, ArtifactError without a model."""
        choices.known("recipe", value, cls, ["model"])
        return cls(**value)


def allowed(
    value: Mapping[str, Any], path: str | os.PathLike[str], trust_remote_code: bool
) -> dict[str, Any]:
    """The entries of a recipe or manifest, which may be another's, with what the user allows.

    Args:
        value: its entries.
        path: where it lies.
        trust_remote_code: run Python code that lies in the checkpoint.

    Raises:
        ArtifactError: it asks to run such code by itself.
    """
    if value.get("trust_remote_code") and not trust_remote_code:
        raise ArtifactError(
            f"{path} asks to run Python code that comes with the model {value.get('model')}: read "
            "that code, then give --trust-remote-code as well (trust_remote_code=True in Python)"
        )
    return {**value, **({"trust_remote_code": True} if trust_remote_code else {})}


def own_output(output: Any, path: str | os.PathLike[str]) -> str:
    """The output that a recipe names, which may be another's.

    Raises:
        ArtifactError: it lies outside of the folder that one is in, or is a file that no study
            wrote.
    """
    if not _may_write(output):
        raise ArtifactError(
            f"{path} names the output {output!r}, which is not below the current folder, or a file "
            "that is there and was not written by a study; choose it with --output (output=... in "
            "Python)"
        )
    return str(output)


def _may_write(output: Any) -> bool:
    if not isinstance(output, str) or "\0" in output or Path(output).is_absolute():
        return False
    place = Path(os.path.realpath(output))  # links that lead out are followed
    if output.startswith("~") or not place.is_relative_to(os.path.realpath(Path.cwd())):
        return False
    try:
        return not place.exists() or place.is_dir() or "study" in read_json(place, "output")
    except (ArtifactError, OSError):
        return False


def read_yaml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        ArtifactError: the file is missing, not YAML, or not a mapping.
    """
    path = Path(path)
    try:
        value = yaml_text.parse(read_whole(path, yaml_text.MAX_BYTES).decode("utf-8"))
    except FileNotFoundError:
        raise ArtifactError(f"the recipe {path} does not exist") from None
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:500]
        raise ArtifactError(f"the recipe {path} cannot be read: {reason}") from None
    if not isinstance(value, dict):
        raise ArtifactError(f"the recipe {path} must be a mapping of names to choices")
    return value
