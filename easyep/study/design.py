"""What a study compares."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from easyep import choices
from easyep.artifacts.selection import GROUP_MODES
from easyep.criteria import CRITERIA
from easyep.errors import ArtifactError
from easyep.recipe import DTYPES

_CHECKS: Mapping[str, Callable[[str, Any], Any]] = {
    "study": choices.text,
    "model": choices.text,
    "domains": choices.several(choices.text),
    "tasks": choices.text,
    "criteria": choices.several(choices.text),
    "keep": choices.several(choices.number),
    "groups": choices.several(choices.one_of(GROUP_MODES)),
    "seeds": choices.several(choices.seed),
    "wrong_domain": choices.flag,
    "limit": choices.optional(choices.count),
    "dtype": choices.one_of(DTYPES),
    "device": choices.text,
    "n_demos": choices.count,
    "seed": choices.seed,
    "batch_size": choices.count,
}


@dataclass(frozen=True)
class Study:
    """Every criterion x budget x group mode x domain.

    Attributes:
        study: its title.
        model: a directory, a short name, or a repository id.
        domains: each is calibrated on, and evaluated by its own task.
        tasks: the name of a domain's task, with ``{domain}`` in it.
        criteria: names of `easyep list criteria`.
        keep: budgets as in `Recipe`.
        groups: group modes.
        seeds: for the criterion ``random``; the others have no use for more than one.
        wrong_domain: also evaluate the first criterion's choice for the next domain in the list
            (the last one's next is the first).
        limit: only the first so many items of each task; None takes all.
        dtype, device, n_demos, seed, batch_size: as in `Recipe`; `batch_size` also for
            evaluation.
    """

    study: str
    model: str
    domains: tuple[str, ...]
    tasks: str
    criteria: tuple[str, ...] = ("easy-ep",)
    keep: tuple[float, ...] = (0.5,)
    groups: tuple[str, ...] = ("balanced",)
    seeds: tuple[int, ...] = (0,)
    wrong_domain: bool = False
    limit: int | None = None
    dtype: str = "auto"
    device: str = "auto"
    n_demos: int = 25
    seed: int = 0
    batch_size: int = 16

    def __post_init__(self) -> None:
        for name, check in _CHECKS.items():
            object.__setattr__(self, name, check(name, getattr(self, name)))
        for criterion in self.criteria:
            CRITERIA[criterion]  # an unknown name is an error now, not after the calibration
        if not self.domains:
            raise ArtifactError("a study needs at least one domain")
        if self.wrong_domain and len(self.domains) < 2:
            raise ArtifactError("with 'wrong_domain' a study needs at least two domains")
        if self.tasks.replace("{domain}", "") == self.tasks:
            raise ArtifactError("'tasks' must hold {domain}, as in easyep_demo_{domain}")

    def task(self, domain: str) -> str:
        """The task that a domain is evaluated by."""
        return self.tasks.replace("{domain}", domain)

    @classmethod
    def from_mapping(cls, value: Mapping[str, Any]) -> "Study":
        """Raises UnknownNameError or ArtifactError where the value is no study."""
        choices.known("study", value, cls, ["study", "model", "domains", "tasks"])
        return cls(**value)
