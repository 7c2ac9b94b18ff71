"""What a study compares."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from easyep import choices
from easyep.artifacts.selection import GROUP_MODES
from easyep.criteria import CRITERIA
from easyep.errors import ArtifactError
from easyep.recipe import DTYPES

# What the model is shown before it is pruned for a domain.
SHOWN = {
    "own": "the domain's demonstrations",
    "response": "the same, of which only the answers' tokens count",
    "input": "the same without their answers",
    "foreign": "texts of no domain, from the file `foreign`",
    "mixed": "all domains, by the mean of their scores",
    "max-min": "all domains, by the set whose worst domain keeps most",
    "others": "each other domain in turn",
}

_CHECKS: Mapping[str, Callable[[str, Any], Any]] = {
    "study": choices.text,
    "model": choices.text,
    "domains": choices.several(choices.text),
    "tasks": choices.optional(choices.text),
    "held_out": choices.optional(choices.text),
    "demos": choices.optional(choices.text),
    "criteria": choices.several(choices.text),
    "keep": choices.several(choices.number),
    "groups": choices.several(choices.one_of(GROUP_MODES)),
    "shown": choices.several(choices.one_of(tuple(SHOWN))),
    "foreign": choices.optional(choices.text),
    "n_demos": choices.several(choices.count),
    "draws": choices.several(choices.seed),
    "seeds": choices.several(choices.seed),
    "reroute": choices.several(choices.flag),
    "wrong_domain": choices.flag,
    "limit": choices.optional(choices.count),
    "dtype": choices.one_of(DTYPES),
    "device": choices.text,
    "batch_size": choices.count,
    "trust_remote_code": choices.flag,
}


@dataclass(frozen=True)
class Study:
    """Every criterion x budget x group mode x domain, and what else has several values.

    Attributes:
        study: its title.
        model: a directory, a short name, or a repository id.
        domains: each is calibrated on, and evaluated by its own task or held-out answers.
        tasks: the name of a domain's lm-eval task, with ``{domain}`` in it; the pruned checkpoint
            is written and evaluated. Or
        held_out: a JSONL file of a domain's held-out questions and answers, with ``{domain}`` in
            its name; the unpruned model is masked and compared with itself, as `held_out` says,
            which takes one forward pass.
        demos: a JSONL file of a domain's demonstrations, with ``{domain}`` in its name; None takes
            those that easyep has.
        criteria: names of `easyep list criteria`.
        keep: budgets as in `Recipe`; one that a group mode cannot work with is left out for it.
        groups: group modes.
        shown: what is shown, names of `SHOWN`.
        foreign: for ``foreign``, a JSONL file of demonstrations.
        n_demos: demonstrations per domain.
        draws: seeds of the choice of demonstrations.
        seeds: for the criterion ``random``; the others have no use for more than one.
        reroute: whether the router chooses among the kept experts; false leaves its choice as it
            was, and what dropped experts would have added is missing. Only with `held_out`.
        wrong_domain: also evaluate the first criterion's choice for the next domain in the list
            (the last one's next is the first).
        limit: only the first so many items of each task or file; None takes all.
        dtype, device, batch_size: as in `Recipe`; `batch_size` also for evaluation.
        trust_remote_code: run Python code that lies in the checkpoint.
    """

    study: str
    model: str
    domains: tuple[str, ...]
    tasks: str | None = None
    held_out: str | None = None
    demos: str | None = None
    criteria: tuple[str, ...] = ("easy-ep",)
    keep: tuple[float, ...] = (0.5,)
    groups: tuple[str, ...] = ("balanced",)
    shown: tuple[str, ...] = ("own",)
    foreign: str | None = None
    n_demos: tuple[int, ...] = (25,)
    draws: tuple[int, ...] = (0,)
    seeds: tuple[int, ...] = (0,)
    reroute: tuple[bool, ...] = (True,)
    wrong_domain: bool = False
    limit: int | None = None
    dtype: str = "auto"
    device: str = "auto"
    batch_size: int = 16
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        for name, check in _CHECKS.items():
            object.__setattr__(self, name, check(name, getattr(self, name)))
        for criterion in self.criteria:
            CRITERIA[criterion]  # an unknown name is an error now, not after the calibration
        if not self.domains:
            raise ArtifactError("a study needs at least one domain")
        if len(self.domains) < 2 and (self.wrong_domain or set(self.shown) & _SEVERAL):
            raise ArtifactError(
                "with 'wrong_domain', or the demonstrations of other domains, a study needs at "
                "least two domains"
            )
        if self.wrong_domain and "own" not in self.shown:
            raise ArtifactError("'wrong_domain' needs own among 'shown'")
        if (self.tasks is None) == (self.held_out is None):
            raise ArtifactError("a study needs either 'tasks' or 'held_out'")
        for name in ("tasks", "held_out", "demos"):
            if "{domain}" not in (getattr(self, name) or "{domain}"):
                raise ArtifactError(f"{name!r} must hold {{domain}}, as in easyep_demo_{{domain}}")
        if self.tasks is not None and False in self.reroute:
            raise ArtifactError(
                "'reroute: false' needs 'held_out': no checkpoint without the dropped experts "
                "leaves the router's choice as it was"
            )
        if ("foreign" in self.shown) != (self.foreign is not None):
            raise ArtifactError("'foreign' names a file of texts, and needs foreign among 'shown'")

    def task(self, domain: str) -> str:
        """The task, or the file of held-out answers, that a domain is evaluated by."""
        return (self.tasks or self.held_out or "").replace("{domain}", domain)

    @classmethod
    def from_mapping(cls, value: Mapping[str, Any]) -> "Study":
        """Raises UnknownNameError or ArtifactError where the value is no study."""
        choices.known("study", value, cls, ["study", "model", "domains"])
        return cls(**value)


_SEVERAL = {"mixed", "max-min", "others"}
