"""What options take: budgets and sizes as people write them."""

from math import isfinite
from typing import Any

import click

from easyep import choices
from easyep.deepspeed_settings import read_deepspeed_settings
from easyep.errors import ArtifactError
from easyep.memory_limits import limits as memory_limits


class Keep(click.ParamType[float]):
    """A fraction in (0, 1) or a whole number of experts."""

    name = "fraction|count"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | int:
        try:
            keep = float(value) if "." in str(value) else int(value)
        except ValueError:
            keep = 0
        all_or_one = keep == 1 and isinstance(keep, float)  # 1.0 can be meant as either
        if all_or_one or not (0 < keep < 1 or (keep >= 1 and keep % 1 == 0)):
            self.fail(
                f"{value!r} is neither a fraction in (0, 1) nor a number of experts per layer, "
                "1 or more",
                param,
                ctx,
            )
        return keep if keep < 1 else int(keep)


class NewDirectory(click.ParamType[str]):
    """A directory that is to appear whole: nothing else may be put there before."""

    name = "dir"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return str(value)


class Number(click.FloatRange):
    """A number within bounds; no NaN, which no bound refuses, and no infinity."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number: float = super().convert(value, param, ctx)
        if not isfinite(number):
            self.fail(f"{value!r} is no finite number", param, ctx)
        return number


class Size(click.ParamType[int]):
    """A number of bytes, such as 5GB."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return choices.size("the size", value)
        except ArtifactError as error:
            self.fail(str(error), param, ctx)


class MemoryLimits(click.ParamType[dict[str, int]]):
    """Sizes by device, such as 0=70GiB,cpu=100GiB."""

    name = "size"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> dict[str, int]:
        try:
            return memory_limits("the memory", value)
        except ArtifactError as error:
            self.fail(str(error), param, ctx)


class DeepSpeedFile(click.ParamType[str]):
    """A file with settings for DeepSpeed, which a run can use."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            read_deepspeed_settings(value)
        except ArtifactError as error:
            self.fail(str(error), param, ctx)
        return str(value)
