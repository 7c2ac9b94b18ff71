"""Calls of submodules as forward hooks see them, and whether two tensors are one memory."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class Call:
    """One call of a submodule."""

    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Any

    @property
    def sources(self) -> list[Tensor]:
        """The tensors that went in."""
        given = (*self.args, *self.kwargs.values())
        return [value for value in given if isinstance(value, Tensor)]

    @property
    def source(self) -> Tensor | None:
        """The first tensor that went in."""
        return next(iter(self.sources), None)

    @property
    def results(self) -> list[Tensor]:
        """The tensors that came out."""
        return results_of(self.output)

    def again(self, source: Tensor | None = None) -> Tensor:
        """The first result of the same call, its own hooks passed over.

        Args:
            source: instead of the first tensor that went in; as many numbers.
        """
        args, kwargs = list(self.args), dict(self.kwargs)
        if source is not None:
            first = self.source
            assert first is not None
            changed = source.to(first.dtype).view_as(first)
            args = [changed if value is first else value for value in args]
            kwargs = {k: changed if value is first else value for k, value in kwargs.items()}
        with whole(self.module):
            return results_of(self.module.forward(*args, **kwargs))[0]


@contextmanager
def whole(module: nn.Module) -> Iterator[None]:
    """Within this context a module's own parameters are there, if they are spread over processes.

    DeepSpeed gathers them for calls of the module; not for its bare `forward`.
    """
    parameters = list(module.parameters(recurse=False))
    if not any(hasattr(parameter, "ds_id") for parameter in parameters):
        yield
        return
    import deepspeed

    with deepspeed.zero.GatheredParameters(parameters):
        yield


def first_tensor(values: Iterable[Any]) -> Tensor | None:
    """The first of the values that is a tensor."""
    return next((value for value in values if isinstance(value, Tensor)), None)


def results_of(output: Any) -> list[Tensor]:
    """The tensors that came out of a module."""
    outputs = output if isinstance(output, tuple | list) else (output,)
    return [value for value in outputs if isinstance(value, Tensor)]


def same_memory(one: Tensor | None, other: Tensor | None) -> bool:
    """Whether two tensors, perhaps of different shapes, are the same numbers in memory."""
    if one is None or other is None:
        return False
    return one is other or (
        one.data_ptr() == other.data_ptr()
        and one.numel() == other.numel()
        and one.dtype == other.dtype
    )


def rows(tensor: Tensor, width: int | None = None) -> Tensor:
    """[..., H] as [T, H]; with `width`, as rows of that many numbers."""
    return tensor.reshape(-1, width or tensor.shape[-1])
