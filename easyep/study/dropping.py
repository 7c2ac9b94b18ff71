"""Experts left out of a loaded model whose router chooses as before."""

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from easyep.artifacts import Selection
from easyep.errors import UnsupportedModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_EXPERTS = re.compile(r"(?:^|\.)layers\.(\d+)\.(?:.+\.)?experts$")


@contextmanager
def dropped(model: "PreTrainedModel", selection: Selection) -> Iterator[None]:
    """Within this context nothing is put in place of what experts that are not kept would add.

    `easyep.masking` is the other way: there the router chooses among those that are left.

    Raises:
        UnsupportedModelError: the experts of a layer are not called with a token's choices.
    """
    found = {}
    for path, module in model.named_modules():
        if (match := _EXPERTS.search(path)) and hasattr(module, "gate_up_proj"):
            found[int(match[1])] = module
    last = model.config.get_text_config().num_hidden_layers
    with ExitStack() as undo:
        for layer, kept in selection.layers.items():
            if layer in found:
                undo.callback(_leave_out(found[layer], kept, selection.num_experts).remove)
            elif layer < last:  # an MTP layer is numbered behind the last, and is not run
                raise UnsupportedModelError(
                    f"easyep cannot leave experts out of layer {layer} of {type(model).__name__} "
                    "without its router choosing anew; a study with 'reroute: true' can be made"
                )
        yield


def _leave_out(experts: Any, kept: tuple[int, ...], num_experts: int) -> Any:
    import torch

    stays = torch.zeros(num_experts, device=next(experts.parameters()).device)
    stays[list(kept)] = 1.0

    def without(_module: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden_states, ids, weights = args
        return hidden_states, ids, weights * stays[ids].to(weights.dtype)

    return experts.register_forward_pre_hook(without)
