"""A pruned checkpoint made again from its manifest."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from easyep.artifacts import Selection
from easyep.artifacts.files import read_json
from easyep.checkpoint.manifest import Manifest, easyep_version
from easyep.errors import ArtifactError
from easyep.recipe import Recipe, allowed
from easyep.source import Source


@dataclass(frozen=True)
class Made:
    """How a checkpoint was made.

    Attributes:
        recipe: every choice.
        selection: the experts that this led to.
        warnings: what is different here and can lead to another selection.
    """

    recipe: Recipe
    selection: Selection
    warnings: tuple[str, ...]

    @classmethod
    def load(cls, path: str | os.PathLike[str], trust_remote_code: bool = False) -> "Made":
        """Read the `easyep.json` of a pruned checkpoint, and look whether it can be made here.

        Args:
            path: the manifest.
            trust_remote_code: the user allows Python code that lies in the checkpoint.

        Raises:
            ArtifactError: it has no recipe, its model is another one now, or it asks for what only
                the user may choose (`recipe.allowed`).
            ModelNotFoundError: its model is not here.
        """
        path = Path(path)
        manifest = Manifest.load(path.parent)
        value = read_json(path, "manifest")
        choices = value.get("recipe")
        if not isinstance(choices, Mapping):
            raise ArtifactError(
                f"{path} holds no recipe: its checkpoint was made by `easyep rewrite`; give the "
                "selection in it to that command again"
            )
        recipe = Recipe.from_mapping(allowed(choices, path, trust_remote_code))
        found = Source.open(recipe.model).identity
        if not found.same_model(manifest.source):
            raise ArtifactError(
                f"the model {recipe.model} is not the one that {path} was made from: its "
                "config.json, tensors or weights are others; put that model there again"
            )
        return cls(recipe, manifest.selection, tuple(_differences(value)))

    def check(self, selection: Selection, output: Path) -> None:
        """ArtifactError where other experts were chosen this time, for what lies in `output`."""
        if selection.layers != self.selection.layers:
            raise ArtifactError(
                f"{output} is whole, but other experts were chosen than its manifest of the first "
                f"time says: the demonstrations are not what they were{self._or_versions()}"
            )

    def _or_versions(self) -> str:
        return "".join(f", or {warning}" for warning in self.warnings)


def _differences(manifest: Mapping[str, object]) -> list[str]:
    """Versions that are others than those of the first time."""
    versions = manifest.get("versions")
    before = {"easyep": manifest.get("easyep"), **(versions if isinstance(versions, dict) else {})}
    here = {"easyep": easyep_version()}
    for name in before:
        if name != "easyep":
            try:
                here[name] = metadata.version(name)
            except metadata.PackageNotFoundError:
                here[name] = "absent"
    return [
        f"{name} is {here[name]} here and was {was}: numbers can differ in their last digits"
        for name, was in before.items()
        if was != here[name]
    ]
