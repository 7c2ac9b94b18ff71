"""A model whose parameters are spread over processes: DeepSpeed's ZeRO-3, for inference.

Each parameter is put together in every process while its module computes, and divided again after
it (Rajbhandari et al., "ZeRO: Memory Optimizations Toward Training Trillion Parameter Models",
2020, section 5.3). Rank 0 reads the checkpoint, a layer at a time, and no process ever holds more
than one layer beside its share.
"""

import os
import warnings
from collections.abc import Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from easyep.distributed import Group
from easyep.errors import MissingDependencyError, ObservationError
from easyep.observation.nvme import check_written, is_on_nvme, prepare_nvme
from easyep.observation.weights.partial import PartialModel

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_PRECISIONS = {torch.float16: "fp16", torch.bfloat16: "bf16"}


def partition(
    model: PartialModel, device: torch.device, group: Group, config: Mapping[str, Any]
) -> "PreTrainedModel":
    """Load a model, divided over the processes of a group.

    Args:
        model: without weights, its parts to be loaded into main memory.
        device: where this process computes.
        group: all processes.
        config: DeepSpeed's settings beside those that inference needs; parameters may be offloaded
            to main memory or NVMe (``zero_optimization.offload_param``).

    Raises:
        MissingDependencyError: DeepSpeed is not installed, or cannot write to NVMe.
        OutputError: NVMe has no room for the parameters, or fails.
        CheckpointError: a weight is missing or cannot be read.
    """
    deepspeed = _deepspeed()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist: Any = torch.distributed
    if not dist.is_initialized():  # one process without a launcher: it may offload its parameters
        os.environ.setdefault("LOCAL_RANK", "0")
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    deepspeed.init_distributed(dist_init_required=False)
    settings = _settings(config, model.dtype, group)
    on_nvme = is_on_nvme(settings)
    folder = prepare_nvme(settings, model.decoder, group.here) if on_nvme else None
    with closing(model.reader):
        _load_shares(deepspeed, model, settings, group)
    if folder is not None:
        check_written(folder, model.decoder)
    for module in model.decoder.modules():
        for name, buffer in module.named_buffers(recurse=False):
            module._buffers[name] = buffer.to(device)
    engine, *_ = deepspeed.initialize(model=model.decoder, config=settings)
    engine.module.eval()
    # The engine gathers the parameters: it must live as long as the model.
    model.model._easyep_engine = engine
    return model.model


def _deepspeed() -> Any:
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # or it warns that it found no other
    warnings.filterwarnings("ignore", message=".*all_gather_into_tensor", category=FutureWarning)
    try:
        import deepspeed
        from deepspeed.ops import __compatible_ops__
    except ImportError as error:
        raise MissingDependencyError(
            f"--runner deepspeed needs DeepSpeed ({error}): pip install 'easyep[deepspeed]'"
        ) from error
    # Or it compiles a faster all-reduce for one machine, which nothing here uses, on the first run.
    __compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed


def _settings(config: Mapping[str, Any], dtype: torch.dtype, group: Group) -> dict[str, Any]:
    zero = {
        "stage": 3,
        # Modules run in another order when layers are learnt; nothing is fetched on a guess.
        "stage3_prefetch_bucket_size": 0,
        "stage3_max_reuse_distance": 0,
        "stage3_param_persistence_threshold": 0,
    }
    settings = {
        "train_micro_batch_size_per_gpu": 1,
        "train_batch_size": group.here.size,
        **config,
        "zero_optimization": {**zero, **config.get("zero_optimization", {})},
    }
    for kind, name in _PRECISIONS.items():
        settings[name] = {"enabled": dtype == kind}
    return settings


def _load_shares(
    deepspeed: Any, model: PartialModel, settings: Mapping[str, Any], group: Group
) -> None:
    """Load what is in no layer, then one layer after the other; each process keeps its share."""
    swapper = None
    for number in (None, *range(len(model.layers))):
        if group.here.first:
            _load(model, number)
        part = model.decoder if number is None else model.layers[number]
        inside = {id(p) for layer in model.layers for p in layer.parameters()}
        own = {
            name: parameter
            for name, parameter in part.named_parameters()
            if number is not None or id(parameter) not in inside
        }
        _same_everywhere(part, own, group)
        modules = dict(part.named_modules())
        for place in dict.fromkeys(name.rpartition(".")[0] for name in own):
            swapper = _divide(deepspeed, modules[place], settings, swapper)


def _load(model: PartialModel, number: int | None) -> None:
    """Load one layer with its routed experts, or what is in none."""
    if number is None:
        model.load_outside()
        return
    model.load_layer(number)
    experts = model.experts_of(number)
    if experts is not None:
        ids = range(model.layout.router.num_experts)
        loaded = model.place_experts(number, model.read_experts(number, ids), len(ids))
        for name, values in loaded.items():
            setattr(experts, name, nn.Parameter(values, requires_grad=False))


def _same_everywhere(part: nn.Module, own: Mapping[str, nn.Parameter], group: Group) -> None:
    """Give the other processes room for what rank 0 has loaded, and its buffers."""
    forms = {name: (parameter.shape, parameter.dtype) for name, parameter in own.items()}
    buffers = {name: buffer.cpu() for name, buffer in part.named_buffers()}
    forms, buffers = group.agree((forms, buffers))
    if group.here.first:
        return
    if forms.keys() != own.keys():
        raise ObservationError("the processes have different models; they need the same files")
    modules = dict(part.named_modules())
    for name, (shape, dtype) in forms.items():
        place, _, last = name.rpartition(".")
        empty = torch.empty(shape, dtype=dtype)
        setattr(modules[place], last, nn.Parameter(empty, requires_grad=False))
    for name, buffer in buffers.items():
        place, _, last = name.rpartition(".")
        modules[place]._buffers[last] = buffer


def _divide(deepspeed: Any, module: nn.Module, settings: Mapping[str, Any], swapper: Any) -> Any:
    """Send one module's own parameters from rank 0 to all, of which each keeps a part.

    Returns:
        What writes the parts to NVMe, to be handed in with the next module: a new one would begin
        by removing what the last one wrote. None where nothing is written.
    """
    children, module._modules = module._modules, {}
    try:
        divided = deepspeed.zero.Init(
            module=module, config_dict_or_path=dict(settings), param_swapper=swapper
        )
    finally:
        module._modules = children
    return divided.param_swapper
