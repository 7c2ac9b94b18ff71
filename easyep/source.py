"""A model that was found, and whose files agree with each other."""

import os
from dataclasses import dataclass

from easyep import models
from easyep.architectures.router import Router
from easyep.architectures.spec import Architecture, find_architecture
from easyep.artifacts import ModelIdentity, Selection
from easyep.checkpoint.files import Checkpoint
from easyep.checkpoint.layout import Layout, resolve
from easyep.choices import text


@dataclass(frozen=True)
class Source:
    """Everything that a model's config and headers tell.

    Attributes:
        model: where it lies and what it is called.
        checkpoint: its files.
        architecture: its family.
        layout: which tensors are whose.
        router: its routing dimensions.
    """

    model: models.Model
    checkpoint: Checkpoint
    architecture: Architecture
    layout: Layout
    router: Router

    @classmethod
    def open(cls, name: str | os.PathLike[str]) -> "Source":
        """Find a model and check what its config and headers tell, before any weight is read.

        Args:
            name: a directory, a short name, or a repository id.

        Raises:
            EasyEPError: a subclass says what is wrong with it.
        """
        return cls.of(models.resolve(text("model", name)))

    @classmethod
    def of(cls, model: models.Model) -> "Source":
        """As `open`, for a model that was found."""
        checkpoint = Checkpoint.open(model.path)
        architecture = find_architecture(checkpoint.config)
        return cls(
            model,
            checkpoint,
            architecture,
            resolve(checkpoint, architecture),
            architecture.router(checkpoint.config),
        )

    @property
    def identity(self) -> ModelIdentity:
        """What artifacts remember of the model."""
        return self.checkpoint.identity(self.model.name)

    def scored_mtp(self, asked: str) -> tuple[int, ...]:
        """The multi-token-prediction layers that get scores; `asked` as `mtp` of `Recipe`."""
        return self.layout.mtp_layers if self.mtp_mode(asked) == "score" else ()

    def scored_layers(self, asked: str) -> list[int]:
        """All layers whose experts get scores, ascending; `asked` as in `scored_mtp`."""
        layout = self.layout
        return sorted([*layout.moe_layers, *layout.second_layers, *self.scored_mtp(asked)])

    def mtp_mode(self, asked: str, selection: Selection | None = None) -> str:
        """What happens to multi-token-prediction layers: `asked`, or what ``"auto"`` means here.

        That is ``"score"``; or ``"follow"``, for a `selection` that has not scored them, and for
        layers that transformers cannot run or that have names of their own. Where it would report
        the layers' tensors as unexpected each time that the model is loaded, it is ``"drop"``,
        unless `selection` has scored them.
        """
        mtp_layers = self.layout.mtp_layers
        if asked != "auto":
            return asked
        if selection is not None and any(layer in selection.layers for layer in mtp_layers):
            return "score"
        silent = all(self.architecture.is_silent_mtp(layer) for layer in mtp_layers)
        if not silent:
            return "drop"
        runs = (
            self.architecture.can_run_mtp(self.checkpoint.config)
            and self.architecture.second is None  # numbered behind the last decoder layer
        )
        return "score" if not mtp_layers or (runs and selection is None) else "follow"
