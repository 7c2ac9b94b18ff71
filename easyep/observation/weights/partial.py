"""A transformers model without weights, whose parts are loaded and dropped one by one.

transformers' own loading code puts the weights in their places (renames, stacks, transposes), for
a few tensors at a time; only reading and dequantising is done here.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from easyep.checkpoint import headers
from easyep.checkpoint.files import Checkpoint
from easyep.checkpoint.layout import Layout
from easyep.distributed import ALONE, Group
from easyep.errors import CheckpointError, UnsupportedModelError
from easyep.loading import model_class, quietly, why_not
from easyep.observation.decoder import decoder_layers, find_decoder
from easyep.observation.experts import InterfaceWatcher
from easyep.observation.weights.reading import WeightReader, stored_weights

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class PartialModel:
    """A model on the meta device and the checkpoint that its parts come from.

    Args:
        checkpoint: the checkpoint.
        layout: whose its tensors are.
        dtype: what the model computes in; ``"auto"`` takes the checkpoint's own type.
        device: where parts go.
        group: the processes that load the same parts at the same time, all but routed experts.
        trust_remote_code: run Python code that lies in the checkpoint.

    Raises:
        UnsupportedModelError: transformers cannot build this model.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        layout: Layout,
        *,
        dtype: str = "auto",
        device: torch.device | None = None,
        group: Group = ALONE,
        trust_remote_code: bool = False,
    ) -> None:
        self.checkpoint = checkpoint
        self.layout = layout
        self.device = device or torch.device("cpu")
        self.model = _empty(checkpoint, dtype, trust_remote_code)
        for module in self.model.modules():  # those that are not in the checkpoint
            for name, buffer in module.named_buffers(recurse=False):
                module._buffers[name] = buffer.to(self.device)
        self.dtype: torch.dtype = self.model.dtype
        self.decoder = find_decoder(self.model)
        self.layers = decoder_layers(self.decoder)
        self.reader = WeightReader(checkpoint, self.dtype, self.device, group)
        self._mapping = _mapping(self.model)
        self._outside, self._dense = self._divided()

    @property
    def embeddings(self) -> nn.Module:
        """The module that turns token ids into vectors."""
        decoder: Any = self.decoder
        found: nn.Module = decoder.get_input_embeddings()
        return found

    def experts_of(self, layer: int) -> nn.Module | None:
        """The layer's experts module, where its experts can be loaded a few at a time."""
        watcher = InterfaceWatcher()
        found = [m for n, m in self.layers[layer].named_modules() if watcher.finds(n, m)]
        return found[0] if len(found) == 1 and layer in self.layout.layers else None

    def load_outside(self) -> None:
        """Load what is in no decoder layer: embeddings, the last norm."""
        self._load(self._outside)

    def load_layer(self, layer: int) -> None:
        """Load a layer; without its routed experts, where those can be loaded a few at a time.

        Raises:
            CheckpointError: the checkpoint lacks a weight of the layer.
        """
        module, experts = self.layers[layer], self.experts_of(layer)
        self._load(self._dense.get(layer, ()))
        own = set() if experts is None else {id(p) for p in experts.parameters(recurse=False)}
        for name, parameter in module.named_parameters():
            if parameter.is_meta and id(parameter) not in own:
                raise CheckpointError(
                    f"{self.checkpoint.path} has no weight for {name} of layer {layer}"
                )

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
            self._put(weights)
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
        for name, key in self._keys_of(unplaced).items():
            if key in places:
                number = places[key]
                (outside if number is None else dense.setdefault(number, [])).append(name)
        return outside, dense

    def _expert_names(self, layer: int) -> list[str]:
        moe = self.layout.layers[layer]
        names = [each.tensor.name for expert in moe.experts for each in expert]
        return names + [name for name, part in moe.parts.items() if part == "experts"]

    def _keys_of(self, names: Iterable[str]) -> dict[str, str]:
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

    def _load(self, names: Iterable[str]) -> None:
        weights = stored_weights(names, self.checkpoint.tensors)
        self._put({name: self.reader.read_together(stored) for name, stored in weights.items()})

    def _put(self, weights: Mapping[str, Tensor]) -> None:
        """Put weights in their places through transformers' own loading code."""
        from transformers.core_model_loading import convert_and_load_state_dict_in_model
        from transformers.modeling_utils import LoadStateDictConfig

        config = LoadStateDictConfig(
            dtype=self.dtype,
            dtype_plan=self.model._get_dtype_plan(self.dtype),
            weight_mapping=self._mapping,
            device_map={"": str(self.device)},
        )
        with quietly():
            info, _ = convert_and_load_state_dict_in_model(self.model, dict(weights), config)
        for name, error in info.conversion_errors.items():
            raise CheckpointError(
                f"{name} of {self.checkpoint.path} cannot be put in its place: {error}"
            )
        wrong = [*info.unexpected_keys, *info.mismatched_keys]
        if wrong:
            raise CheckpointError(
                f"transformers has no place for {wrong[0]} of {self.checkpoint.path} "
                f"({len(wrong)} in all)"
            )


def drop(module: nn.Module) -> None:
    """Put all parameters of a module back on the meta device."""
    for each in module.modules():
        for name, parameter in list(each.named_parameters(recurse=False)):
            if not parameter.is_meta:
                empty = torch.empty_like(parameter, device="meta")
                setattr(each, name, nn.Parameter(empty, requires_grad=False))


def _empty(checkpoint: Checkpoint, dtype: str, trust_remote_code: bool) -> "PreTrainedModel":
    from accelerate import init_empty_weights
    from transformers import AutoConfig

    with quietly():
        try:
            config = AutoConfig.from_pretrained(
                checkpoint.path, trust_remote_code=trust_remote_code
            )
            kind: Any = config.dtype or torch.bfloat16 if dtype == "auto" else getattr(torch, dtype)
            # Weights are dequantised here, by code that knows blocks that do not divide the rows.
            for part in (config, config.get_text_config()):
                if hasattr(part, "quantization_config"):
                    del part.quantization_config
            with init_empty_weights(include_buffers=False), _NothingBig():
                cls = model_class(config, trust_remote_code)
                if hasattr(cls, "from_config"):  # one that chooses by the configuration
                    model = cls.from_config(config, dtype=kind, trust_remote_code=trust_remote_code)
                else:
                    model = cls._from_config(config, dtype=kind)
        except (ValueError, KeyError, ImportError, OSError) as error:
            raise UnsupportedModelError(
                f"transformers cannot build {checkpoint.path}: {why_not(error)}"
            ) from error
    built: PreTrainedModel = model.eval().requires_grad_(False)
    return built


class _NothingBig(TorchFunctionMode):
    """Within it, big tensors are made without memory.

    `init_empty_weights` makes each parameter first and gives it away then, which asks for the
    memory of all experts of a layer at once.
    """

    SMALLEST = 1 << 20  # numbers

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.empty, torch.zeros, torch.ones, torch.randn, torch.full):
            empty = func(*args, **{**kwargs, "device": "meta"})
            if empty.numel() >= self.SMALLEST:
                return empty
        return func(*args, **kwargs)


def _mapping(model: "PreTrainedModel") -> list[Any]:
    from transformers.conversion_mapping import get_model_conversion_mapping

    return list(get_model_conversion_mapping(model, None, None))


def _prefix(model: nn.Module, part: nn.Module) -> str:
    """What the names of a part's parameters begin with."""
    return next(f"{name}." if name else "" for name, each in model.named_modules() if each is part)
