"""A recipe + a Hugging Face data set -> a file of demonstrations, without downloading all of it."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from easyep import choices, resources
from easyep.allocation_limit import allocation_limit
from easyep.artifacts import Demo
from easyep.demonstrations.sources import BUILDERS, Source
from easyep.errors import ArtifactError, DemosError, first_line
from easyep.progress import SILENT, Progress
from easyep.registry import unknown_name
from easyep.time_limit import within

# For the templates of one row; those of a recipe that is meant well need milliseconds.
LONGEST_ROW = 60.0
_ROLES = {"human": "user", "gpt": "assistant", "model": "assistant", "bot": "assistant"}


@dataclass(frozen=True)
class BuildRecipe:
    """How demonstrations are drawn from a data set.

    Texts are Jinja templates over the columns of a row; a column whose name is no identifier is
    ``row["its name"]``. ``lettered(first, others)`` orders the options of a question, see there.

    Attributes:
        dataset: a repository id on the Hugging Face hub, or a builder (``json``, ``csv``,
            ``parquet``) with `data_files`.
        messages: a list of messages whose values are templates, or ``{column: NAME}`` for a
            column that holds a conversation already.
        subset: the configuration of the data set.
        split: which split.
        revision: branch, tag or commit, the newest one by default; a commit makes the result
            reproducible.
        data_files: files of the builder.
        filter: a Jinja expression; rows for which it is false are skipped.
        metadata: keys and templates of what is written beside the messages; that of ``check``
            gives JSON.
        tools: a template that gives a JSON list of tools.
        count: how many demonstrations.
        seed: for the order in which rows are drawn.
        buffer: rows that are read ahead and shuffled; a stream cannot be shuffled as a whole.
        note: what a user should know, such as the licence; not interpreted.
    """

    dataset: str
    messages: Any
    subset: str | None = None
    split: str = "train"
    revision: str | None = None
    data_files: Any = None
    filter: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    tools: str | None = None
    count: int = 25
    seed: int = 0
    buffer: int = 1000
    note: str = ""

    def __post_init__(self) -> None:
        choices.text("dataset", self.dataset)
        choices.count("count", self.count)
        choices.seed("seed", self.seed)
        if self.data_files is not None:  # other builders read other formats, pickles among them
            choices.one_of(BUILDERS)("dataset", self.dataset)
            named = [self.data_files] if isinstance(self.data_files, str) else self.data_files
            if not isinstance(named, list) or not all(isinstance(each, str) for each in named):
                raise ArtifactError("data_files must be a path, or a list of paths")
        choices.text("split", self.split)
        for name in ("subset", "revision", "filter", "tools"):
            choices.optional(choices.text)(name, getattr(self, name))
        choices.count("buffer", self.buffer)
        column = isinstance(self.messages, Mapping) and set(self.messages) == {"column"}
        written = isinstance(self.messages, list) and all(
            isinstance(m, Mapping) and isinstance(m.get("role"), str) and len(m) > 1
            for m in self.messages
        )
        if not column and not (written and self.messages):
            raise ArtifactError(
                "messages must be a list of objects with 'role' and 'content', or {column: NAME}"
            )
        if not isinstance(self.metadata, Mapping):
            raise ArtifactError("metadata must be a mapping of names to templates")

    @property
    def source(self) -> Source:
        """Where its rows come from."""
        return Source(self.dataset, self.subset, self.split, self.revision, self.data_files)

    @classmethod
    def from_mapping(cls, value: Mapping[str, Any]) -> "BuildRecipe":
        """Raises UnknownNameError for an unknown key, ArtifactError for a missing one."""
        choices.known("demos recipe", value, cls, ["dataset", "messages"])
        return cls(**value)


def ready_recipes() -> list[str]:
    """The names of the recipes in `recipes/demos/`."""
    return sorted(path.stem for path in (resources.folder("recipes") / "demos").glob("*.yaml"))


def recipe_file(name: str) -> Path:
    """A file, or the ready recipe of that name.

    Raises:
        UnknownNameError: neither exists.
    """
    if os.sep in name or name.endswith((".yaml", ".yml")):
        return Path(name)
    if name not in ready_recipes():
        raise unknown_name("demos recipe", name, ready_recipes(), "a path to a YAML file also does")
    return resources.folder("recipes") / "demos" / f"{name}.yaml"


def build(
    recipe: BuildRecipe,
    *,
    rows: Iterable[Mapping[str, Any]] | None = None,
    progress: Progress = SILENT,
) -> Iterator[dict[str, Any]]:
    """The demonstrations of a recipe, as lines of a JSONL file.

    Each names its `source`, and the commit of the hub that it was drawn from as `revision`.

    Args:
        recipe: what to draw.
        rows: instead of the data set, for one that lies elsewhere.
        progress: hears of each demonstration.

    Raises:
        DemosError: the data set cannot be reached, a template names a column that it does not
            have, or it has fewer rows that pass than asked for.
    """
    templates = _Templates(recipe)
    source = recipe.source if rows is not None else recipe.source.pinned()
    origin = {"source": source.name}
    if source.revision is not None:
        origin["revision"] = source.revision
    seen = made = 0
    with progress.task(f"Drawing from {source.name}", recipe.count, "demonstrations") as task:
        for row in source.rows(recipe.seed, recipe.buffer) if rows is None else rows:
            seen += 1
            line = templates.apply(row)
            if line is None:
                continue
            Demo.from_json(line)
            yield line | origin
            made += 1
            task.advance()
            if made == recipe.count:
                return
    raise DemosError(
        f"only {made} of {recipe.count} demonstrations: {seen} rows of {source.name} were read, "
        "the others did not pass the filter or had empty texts; lower count or widen filter"
    )


def lettered(first: str, others: Sequence[str]) -> dict[str, str]:
    """Options of a question in an order that depends on their texts alone.

    Returns:
        ``text``, one option a line behind its letter, and ``letter``, that of `first`.
    """
    options = sorted([first, *others], key=lambda o: hashlib.sha256(str(o).encode()).digest())
    lines = [f"{chr(65 + i)}. {str(option).strip()}" for i, option in enumerate(options)]
    return {"text": "\n".join(lines), "letter": chr(65 + options.index(first))}


class _Templates:
    """The compiled templates of a recipe."""

    def __init__(self, recipe: BuildRecipe) -> None:
        import jinja2
        from jinja2.sandbox import SandboxedEnvironment

        self._errors = (
            *(jinja2.TemplateError, TypeError, ValueError, KeyError, AttributeError),
            *(ArithmeticError, RecursionError, TimeoutError, MemoryError),
        )
        self._environment = SandboxedEnvironment(
            undefined=jinja2.StrictUndefined, keep_trailing_newline=False
        )
        self._environment.globals["lettered"] = lettered
        self._recipe = recipe
        try:
            with allocation_limit():
                within(LONGEST_ROW, self._compile)
        except self._errors as error:  # ValueError: a number that Python does not read
            raise ArtifactError(
                f"a template of the recipe is not valid: {first_line(error)}"
            ) from None

    def _compile(self) -> None:
        """What is constant in a template is computed at once."""
        recipe, compile_ = self._recipe, self._environment.from_string
        self._filter = (
            self._environment.compile_expression(recipe.filter, undefined_to_none=False)
            if recipe.filter
            else None
        )
        self._metadata = {k: compile_(str(v)) for k, v in recipe.metadata.items()}
        self._tools = compile_(recipe.tools) if recipe.tools else None
        self._messages = (
            [{k: compile_(str(v)) for k, v in m.items()} for m in recipe.messages]
            if isinstance(recipe.messages, list)
            else None
        )

    def apply(self, row: Mapping[str, Any]) -> dict[str, Any] | None:
        """The line of a row; None if it does not pass the filter or a text of it is empty."""
        values = {**row, "row": row}
        try:
            with allocation_limit():
                line = within(LONGEST_ROW, lambda: self._line(values))
        except self._errors as error:
            columns = ", ".join(map(str, row))
            raise DemosError(
                f"a row of {self._recipe.source.name} does not fit the recipe: "
                f"{first_line(error)} (its columns: {columns[:1000]})"
            ) from None
        if line is None:
            return None
        whole = all(m.get("content") or m.get("tool_calls") for m in line["messages"])
        return line if whole else None

    def _line(self, values: Mapping[str, Any]) -> dict[str, Any] | None:
        """What the templates make of a row; None if it does not pass the filter."""
        if self._filter is not None and not self._filter(**values):
            return None
        messages = self._written(values) if self._messages else self._column(values["row"])
        line: dict[str, Any] = {"messages": messages}
        if self._tools is not None:
            line["tools"] = json.loads(self._tools.render(values))
        line |= {key: t.render(values) for key, t in self._metadata.items()}
        if "check" in line:
            line["check"] = json.loads(line["check"])
        return line

    def _written(self, values: Mapping[str, Any]) -> list[dict[str, Any]]:
        messages = []
        for message in self._messages or ():
            made = {key: template.render(values).strip() for key, template in message.items()}
            if made.get("reasoning_content") == "":
                del made["reasoning_content"]
            messages.append(made)
        return messages

    def _column(self, row: Mapping[str, Any]) -> list[dict[str, Any]]:
        turns = row[self._recipe.messages["column"]]
        messages = []
        for turn in turns:
            role = turn.get("role") or turn.get("from") or ""
            content = turn.get("content", turn.get("value"))
            kept = {k: turn[k] for k in ("reasoning_content", "tool_calls") if turn.get(k)}
            messages.append({"role": _ROLES.get(role, role), "content": content, **kept})
        return messages
