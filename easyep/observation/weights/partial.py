"""A transformers model without weights, whose parts are loaded and dropped one by one.

transformers' own loading code puts the weights in their places, for a few tensors at a time
(`places`); only reading and dequantising is done here (`reading`).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from easyep.checkpoint import headers
from easyep.checkpoint.files import Checkpoint
from easyep.checkpoint.layout import Layout
from easyep.distributed import ALONE, Group
from easyep.errors import CheckpointError
from easyep.observation.decoder import decoder_layers, find_decoder, input_embeddings
from easyep.observation.experts import InterfaceWatcher
from easyep.observation.mtp_layer import conversions
from easyep.observation.multi_token import empty_mtp
from easyep.observation.weights.empty import drop, empty_model
from easyep.observation.weights.places import Places
from easyep.observation.weights.reading import WeightReader, stored_weights

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.modeling_layers import MtpModel


class PartialModel:
    """A model on the meta device and the checkpoint that its parts come from.

    Args:
        checkpoint: the checkpoint.
        layout: whose its tensors are.
        dtype: what the model computes in; ``"auto"`` takes the checkpoint's own type.
        device: where parts go.
        group: the processes that load the same parts at the same time, all but routed experts.
        with_mtp: whether its multi-token-prediction layers are part of it.
        trust_remote_code: run Python code that lies in the checkpoint.

    Attributes:
        layers: the decoder's layers, and the MTP layers behind them.
        depth: how many of them are the decoder's.
        mtp: the model that has the MTP layers, None = they are no part of it.

    Raises:
        UnsupportedModelError: transformers cannot build this model.
        ObservationError: transformers cannot run its MTP layers.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        layout: Layout,
        *,
        dtype: str = "auto",
        device: torch.device | None = None,
        group: Group = ALONE,
        with_mtp: bool = False,
        trust_remote_code: bool = False,
    ) -> None:
        self.checkpoint = checkpoint
        self.layout = layout
        self.device = device or torch.device("cpu")
        self.model = empty_model(checkpoint, dtype, trust_remote_code)
        _move_buffers(self.model, self.device)
        self.dtype: torch.dtype = self.model.dtype
        self.decoder = find_decoder(self.model)
        self.layers = decoder_layers(self.decoder)
        self.depth = len(self.layers)
        self.reader = WeightReader(checkpoint, self.dtype, self.device, group)
        mapping, exceptions = _mapping(self.model), self.model._get_dtype_plan(self.dtype)
        to = (checkpoint.path, self.dtype, exceptions, self.device)
        self._places = Places(self.model, mapping, *to)
        self._owner: Any = self.decoder if hasattr(self.decoder, "_init_weights") else self.model
        self._outside, self._dense = self._divided()
        self.mtp: MtpModel | None = None
        if with_mtp:
            self.mtp = empty_mtp(self.model)
            _move_buffers(self.mtp, self.device)
            mapping = conversions(self.mtp, self.model)
            # transformers loads these layers without the exceptions.
            to = (checkpoint.path, self.dtype, {}, self.device)
            self._mtp_places = Places(self.mtp, mapping, *to)
            self.layers += list(self.mtp.layers)
            self._mtp_outside, of_layers = self._divided_mtp(self.mtp)
            self._dense |= of_layers

    @property
    def watched(self) -> dict[int, nn.Module]:
        """The decoder layers by their numbers, those within MTP layers among them."""
        return {
            i: layer if i < self.depth else layer.get_submodule("mtp_block")
            for i, layer in enumerate(self.layers)
        }

    @property
    def remembered(self) -> int:
        """How many layers' outputs are worth remembering: the decoder's, not the last of all."""
        return min(self.depth, len(self.layers) - 1)

    @property
    def embeddings(self) -> nn.Module:
        """The module that turns token ids into vectors."""
        return input_embeddings(self.decoder)

    def experts_of(self, layer: int) -> nn.Module | None:
        """The layer's experts module, where its experts can be loaded a few at a time."""
        watcher = InterfaceWatcher()
        found = [m for n, m in self.layers[layer].named_modules() if watcher.finds(n, m)]
        return found[0] if len(found) == 1 and layer in self.layout.layers else None

    def load_outside(self) -> None:
        """Load what is in no layer: embeddings, the last norm."""
        self._load(self._outside, self._places)
        inside = {module for layer in self.layers for module in layer.modules()}
        self._places.complete([m for m in self.decoder.modules() if m not in inside], self._owner)
        if self.mtp is not None:
            self._load(self._mtp_outside, self._mtp_places)
            self.mtp.tie_with_main_model(self.model)  # may copy the embeddings

    def load_layer(self, layer: int) -> None:
        """Load a layer; without its routed experts, where those can be loaded a few at a time.

        Raises:
            CheckpointError: the checkpoint lacks a weight of the layer.
        """
        module, experts = self.layers[layer], self.experts_of(layer)
        self._load(self._dense.get(layer, ()), self._places_of(layer))
        own = set() if experts is None else {id(p) for p in experts.parameters(recurse=False)}
        for name, parameter in module.named_parameters():
            if parameter.is_meta and id(parameter) not in own:
                raise CheckpointError(
                    f"{self.checkpoint.path} has no weight for {name} of layer {layer}"
                )
        if layer < self.depth:
            self._places.complete(module.modules(), self._owner)

    def drop_layer(self, layer: int) -> None:
        """Forget a layer's weights."""
        drop(self.layers[layer])

    def read_experts(self, layer: int, ids: Sequence[int]) -> dict[str, Tensor]:
        """Some experts' weights as if the layer had no others: name -> numbers, numbered from 0.

        This reads and dequantises only and may run in another thread than the model.
        """
        moe, count = self.layout.layers[layer], self.layout.router.num_experts
        tensors: dict[str, headers.Tensor] = {}
        for new, expert in enumerate(ids if moe.experts else ()):
            for each in moe.experts[expert]:
                tensors[each.renumbered(new, len(ids))] = each.tensor
        weights = stored_weights(tensors, tensors)
        found = {name: self.reader.read(stored) for name, stored in weights.items()}
        stacked = [name for name, part in moe.parts.items() if part == "experts"]
        weights = stored_weights(stacked, self.checkpoint.tensors)
        return found | {
            name: self.reader.read(stored, ids, count) for name, stored in weights.items()
        }

    def place_experts(
        self, layer: int, weights: Mapping[str, Tensor], count: int
    ) -> dict[str, Tensor]:
        """What `read_experts` read of `count` experts, in the form of the module's parameters.

        Returns:
            Parameter of the module -> tensor whose first axis counts those experts.
        """
        experts = self.experts_of(layer)
        assert experts is not None
        whole = dict(experts.named_parameters(recurse=False))
        try:
            for name, parameter in whole.items():
                shape = (count, *parameter.shape[1:])
                empty = torch.empty(shape, dtype=parameter.dtype, device="meta")
                setattr(experts, name, nn.Parameter(empty, requires_grad=False))
            self._places_of(layer).put(weights)
            return {name: getattr(experts, name).detach() for name in whole}
        finally:
            for name, parameter in whole.items():
                setattr(experts, name, parameter)

    def _divided(self) -> tuple[list[str], dict[int, list[str]]]:
        """Tensors outside of all decoder layers, and each layer's own.

        Routed experts that can be loaded a few at a time are left out, and so is what the decoder
        does not have.
        """
        streamed = [i for i in self.layout.moe_layers if self.experts_of(i) is not None]
        routed = {name for layer in streamed for name in self._expert_names(layer)}
        unplaced: list[str] = []
        dense: dict[int, list[str]] = {}
        for name in self.checkpoint.tensors:
            if name in routed or self.layout.is_mtp(name):
                continue
            if name in self.layout.layer_of:
                dense.setdefault(self.layout.layer_of[name], []).append(name)
            else:
                unplaced.append(name)
        # A file may keep a layer's tensors under a name outside of it (Inkling 2): the model knows.
        inside = {
            id(tensor): number
            for number, layer in enumerate(self.layers)
            for tensor in (*layer.parameters(), *layer.buffers())
        }
        prefix = _prefix(self.model, self.decoder)
        places = {
            key: inside.get(id(tensor))
            for key, tensor in self.model.state_dict(keep_vars=True).items()
            if key.startswith(prefix)
        }
        outside: list[str] = []
        for name, key in self._places.keys_of(unplaced).items():
            if key in places:
                number = places[key]
                (outside if number is None else dense.setdefault(number, [])).append(name)
        return outside, dense

    def _divided_mtp(self, mtp: "MtpModel") -> tuple[list[str], dict[int, list[str]]]:
        """The same of the MTP layers' tensors; copies of the main model's own are left out."""
        streamed = [i for i in self.layout.mtp_layers if self.experts_of(i) is not None]
        routed = {name for layer in streamed for name in self._expert_names(layer)}
        names = [n for n in self.checkpoint.tensors if self.layout.is_mtp(n) and n not in routed]
        keys = {key for key in mtp.state_dict() if not key.startswith(_SHARED)}
        outside: list[str] = []
        dense: dict[int, list[str]] = {}
        for name, key in self._mtp_places.keys_of(names).items():
            layer = re.match(r"layers\.(\d+)\.", key)
            if key in keys:
                number = self.depth + int(layer[1]) if layer is not None else None
                (outside if number is None else dense.setdefault(number, [])).append(name)
        return outside, dense

    def _expert_names(self, layer: int) -> list[str]:
        moe = self.layout.layers[layer]
        names = [each.tensor.name for expert in moe.experts for each in expert]
        return names + [name for name, part in moe.parts.items() if part == "experts"]

    def _places_of(self, layer: int) -> Places:
        return self._places if layer < self.depth else self._mtp_places

    def _load(self, names: Iterable[str], places: Places) -> None:
        weights = stored_weights(names, self.checkpoint.tensors)
        places.put({name: self.reader.read_together(stored) for name, stored in weights.items()})


def _move_buffers(model: nn.Module, device: torch.device) -> None:
    """Move what is in no checkpoint."""
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            module._buffers[name] = buffer.to(device)


_SHARED = ("embed_tokens.", "shared_head.")  # what MTP layers have of the main model


def _mapping(model: "PreTrainedModel") -> list[Any]:
    from transformers.conversion_mapping import get_model_conversion_mapping

    return list(get_model_conversion_mapping(model, None, None))


def _prefix(model: nn.Module, part: nn.Module) -> str:
    """What the names of a part's parameters begin with."""
    return next(f"{name}." if name else "" for name, each in model.named_modules() if each is part)
