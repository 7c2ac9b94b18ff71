"""All ways to watch routed experts, and which of them a decoder layer needs."""

from torch import nn

from easyep.observation.adapters.jetmoe import ATTENTION, JetMoeWatcher
from easyep.observation.adapters.llama4 import Llama4Watcher
from easyep.observation.adapters.module_list import ModuleListWatcher
from easyep.observation.adapters.own_loop import OwnLoopWatcher
from easyep.observation.experts import InterfaceWatcher, Watcher

WATCHERS: tuple[Watcher, ...] = (
    InterfaceWatcher(),
    OwnLoopWatcher(),
    Llama4Watcher(),
    JetMoeWatcher(),
    ModuleListWatcher(),
)


def find_experts(layer: nn.Module) -> list[tuple[nn.Module, Watcher]]:
    """The modules of a decoder layer that hold its routed experts, each with its watcher."""
    return [
        (module, watcher)
        for name, module in layer.named_modules()
        for watcher in WATCHERS
        if watcher.finds(name, module)
    ]


def find_second(layer: nn.Module) -> list[tuple[nn.Module, JetMoeWatcher]]:
    """The modules of a decoder layer that hold a second set of routed experts, outside its MLP."""
    return [(m, ATTENTION) for name, m in layer.named_modules() if ATTENTION.finds(name, m)]
