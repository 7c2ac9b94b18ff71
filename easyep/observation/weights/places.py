"""Puts weights in their places in a transformers model, through transformers' own loading code."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from easyep.errors import CheckpointError
from easyep.loading import quietly

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Places:
    """A model that has no weights yet, and how the names and forms in files become its own.

    Args:
        model: the model.
        mapping: transformers' renamings and conversions (renames, stacks, transposes).
        path: the checkpoint, for messages.
        dtype: what the model computes in.
        exceptions: parameters of other types than that, as transformers has them.
        device: where the weights go.
    """

    def __init__(
        self,
        model: "PreTrainedModel",
        mapping: Sequence[Any],
        path: Path,
        dtype: torch.dtype,
        exceptions: Mapping[str, torch.dtype],
        device: torch.device,
    ) -> None:
        self.model = model
        self._mapping = list(mapping)
        self._path = path
        self._dtype = dtype
        self._exceptions = dict(exceptions)
        self._device = device

    def keys_of(self, names: Iterable[str]) -> dict[str, str]:
        """Tensor of the checkpoint -> the model's name for it."""
        from transformers.core_model_loading import (
            WeightConverter,
            WeightRenaming,
            rename_source_key,
        )

        renamings = [each for each in self._mapping if isinstance(each, WeightRenaming)]
        converters = [each for each in self._mapping if isinstance(each, WeightConverter)]
        keys = self.model.state_dict()
        base = self.model.base_model_prefix
        return {n: rename_source_key(n, renamings, converters, base, keys)[0] for n in names}

    def put(self, weights: Mapping[str, Tensor]) -> None:
        """Put weights in their places.

        Raises:
            CheckpointError: one has no place, or does not fit.
        """
        from transformers.core_model_loading import convert_and_load_state_dict_in_model
        from transformers.modeling_utils import LoadStateDictConfig

        config = LoadStateDictConfig(
            dtype=self._dtype,
            dtype_plan=self._exceptions,
            weight_mapping=self._mapping,
            device_map={"": str(self._device)},
        )
        with quietly():
            info, _ = convert_and_load_state_dict_in_model(self.model, dict(weights), config)
        for name, error in info.conversion_errors.items():
            raise CheckpointError(f"{name} of {self._path} cannot be put in its place: {error}")
        wrong = [*info.unexpected_keys, *info.mismatched_keys]
        if wrong:
            raise CheckpointError(
                f"transformers has no place for {wrong[0]} of {self._path} ({len(wrong)} in all)"
            )

    def complete(self, modules: Iterable[nn.Module], owner: "PreTrainedModel") -> None:
        """What `from_pretrained` does when weights are in their places: the model's own last word.

        Nearly always it has none; ZAYA sets one number of its routers whatever the file says.

        Args:
            modules: those whose weights are there now; any that have none yet are passed over.
            owner: the innermost model that they belong to.
        """
        from transformers import initialization

        custom = owner.is_custom_code()
        with torch.no_grad(), initialization.guard_torch_init_functions():
            for module in modules:
                own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
                loaded = all(getattr(each, "_is_hf_initialized", False) for each in own)
                if any(each.is_meta for each in own) or (custom and loaded):
                    continue
                owner._init_weights(module)
