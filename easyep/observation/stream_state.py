"""Where a streaming run was: what each demonstration's pass had after the last finished layer."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.utils import _pytree as pytree

from easyep.atomic import writing


class StreamState:
    """One file with the outputs of the last finished layer, one for each demonstration.

    Args:
        path: the file.
        key: of the run; what another run remembered there is passed over.
    """

    def __init__(self, path: Path, key: str = "") -> None:
        self._path = path
        self._key = key

    def save(self, layer: int, outputs: Sequence[Any]) -> None:
        """Remember that `layer` is finished, in place of the layer before.

        Outputs that hold anything but tensors and None cannot be remembered; then a run that is
        killed starts again.

        Raises:
            OutputError: the file cannot be written.
        """
        tensors: dict[str, Tensor] = {}
        forms = []
        for number, output in enumerate(outputs):
            leaves, form = pytree.tree_flatten(output)
            if any(not isinstance(leaf, Tensor) for leaf in leaves if leaf is not None):
                return
            forms.append([pytree.treespec_dumps(form), [leaf is not None for leaf in leaves]])
            for place, leaf in enumerate(leaves):
                if leaf is not None:
                    tensors[f"{number}/{place}"] = leaf.detach().cpu().contiguous().clone()
        temporary = self._path.with_name(self._path.name + ".new")
        with writing(self._path):
            about = {"layer": str(layer), "forms": json.dumps(forms), "key": self._key}
            save_file(tensors, temporary, metadata=about)
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            temporary.replace(self._path)

    def load(self, device: torch.device) -> tuple[int, list[Any]] | None:
        """The last finished layer and its outputs; None if nothing is remembered."""
        try:
            with safe_open(self._path, "pt", device=str(device)) as file:
                about = file.metadata()
                if about["key"] != self._key:
                    return None
                outputs = []
                for number, (form, present) in enumerate(json.loads(about["forms"])):
                    leaves = [
                        file.get_tensor(f"{number}/{place}").clone() if there else None
                        for place, there in enumerate(present)
                    ]
                    outputs.append(pytree.tree_unflatten(leaves, pytree.treespec_loads(form)))
                return int(about["layer"]), outputs
        except (OSError, safetensors.SafetensorError, KeyError, ValueError, TypeError):
            return None
