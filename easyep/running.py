"""A recipe -> what it asks for: one pruned model, or a study that compares many."""

import contextlib
import os
import platform
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from easyep import __version__, pipeline, study
from easyep.artifacts.files import write_json
from easyep.atomic import check_file
from easyep.checkpoint.side_files import MANIFEST
from easyep.choices import text
from easyep.errors import ArtifactError
from easyep.processor import processor
from easyep.progress import SILENT, Progress
from easyep.recipe import Recipe, allowed, own_output, read_yaml
from easyep.redoing import Made
from easyep.resources import folder

PathLike = str | os.PathLike[str]


def run(
    recipe: PathLike | Mapping[str, Any],
    *,
    output: PathLike | None = None,
    work_dir: PathLike | None = None,
    trust_remote_code: bool = False,
    progress: Progress = SILENT,
) -> pipeline.Pruned | dict[str, Any]:
    """Do what a recipe says.

    Args:
        recipe: a YAML file, one of easyep's own (``recipes/demo.yaml``), or its entries; or the
            `easyep.json` of a pruned checkpoint, which is made again.
        output: instead of the recipe's own output: the pruned checkpoint's directory, or the JSON
            file of a study's numbers, which needs none.
        work_dir: where the stages save what they have; the same call goes on from there.
        trust_remote_code: run Python code that lies in the checkpoint. A file cannot ask for that
            by itself; entries that are given here can.

    Returns:
        What `prune` returns; for a study (a recipe with the entry ``study``) its settings, cells
        and summary, as they are written to `output`.

    Raises:
        ArtifactError: there is no such file, or it is no recipe.
        EasyEPError: a subclass says what is wrong.
    """
    if not isinstance(recipe, Mapping):
        recipe = text("recipe", recipe)
    if not isinstance(recipe, Mapping) and Path(recipe).name == MANIFEST:
        return _redo(Made.load(recipe, trust_remote_code), output, work_dir, progress)
    if isinstance(recipe, Mapping):
        entries = {**recipe, **({"trust_remote_code": True} if trust_remote_code else {})}
    else:
        entries = read_recipe(recipe, trust_remote_code)
    own = entries.pop("output", None)
    if output is None and own is not None:
        output = own if isinstance(recipe, Mapping) else own_output(own, recipe)
    if "study" in entries:
        return run_study(study.Study.from_mapping(entries), output, work_dir, progress)
    return _prune(Recipe.from_mapping(entries), output, work_dir, progress)


def _prune(
    recipe: Recipe, output: PathLike | None, work_dir: PathLike | None, progress: Progress
) -> pipeline.Pruned:
    if output is None:
        raise ArtifactError("a recipe of one model needs an output: the directory to write")
    choices = recipe.to_json()
    return pipeline.prune(output=output, work_dir=work_dir, progress=progress, **choices)


def _redo(
    made: Made, output: PathLike | None, work_dir: PathLike | None, progress: Progress
) -> pipeline.Pruned:
    done = _prune(made.recipe, output, work_dir, progress)
    made.check(done.selection, done.path)
    return done


def read_recipe(path: PathLike, trust_remote_code: bool = False) -> dict[str, Any]:
    """The entries of a YAML file; recipes of easyep are found wherever it is installed.

    Raises:
        ArtifactError: there is no such file, it is no mapping, or it asks for what only the user
            may choose (`recipe.allowed`).
    """
    shipped = folder("recipes").parent / path
    entries = read_yaml(shipped if shipped.is_file() and not Path(path).exists() else path)
    return allowed(entries, path, trust_remote_code)


def run_study(
    planned: study.Study, output: PathLike | None, work_dir: PathLike | None, progress: Progress
) -> dict[str, Any]:
    """Carry a study out: what `study.to_json` gives, and what it was made with."""
    if output:
        check_file(output)
    cells = study.run(planned, work_dir=work_dir, progress=progress)
    value = {**study.to_json(planned, cells), "made_with": _versions()}
    if output:
        write_json(output, value)
    return value


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("torch", "transformers", "lm_eval", "numpy"):
        with contextlib.suppress(PackageNotFoundError):  # lm-eval is needed by tasks only
            found[name] = version(name)
    return {
        "date": date.today().isoformat(),
        "easyep": __version__,
        **found,
        "python": platform.python_version(),
        "machine": f"{processor()}, {os.cpu_count()} cores",
    }
