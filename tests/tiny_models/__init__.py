"""Tiny random models of every family, saved as the released checkpoints lie on disk.

The models come from the real configuration classes of transformers; the files have the tensor
names, the configuration keys and the several shards of the checkpoints on the hub. What differs
between families is data: `settings/<model_type>.toml`, described in `tests.tiny_models.settings`.

ALL names every settings file; FAMILIES those that easyep has an architecture file for; RUNNABLE
those of FAMILIES that transformers can compute; WITH_MTP those of FAMILIES whose released
checkpoints can hold MTP layers with experts.
"""

from easyep.architectures import spec
from tests.tiny_models.building import SHARD_BYTES, build
from tests.tiny_models.loading import load
from tests.tiny_models.settings import load_settings

__all__ = ["ALL", "FAMILIES", "RUNNABLE", "SHARD_BYTES", "WITH_MTP", "build", "load"]

_SETTINGS = load_settings()
_KNOWN = {kind for name in spec.names() for kind in spec.get(name).model_types}

ALL = tuple(_SETTINGS)
FAMILIES = tuple(name for name, family in _SETTINGS.items() if family.model_type in _KNOWN)
RUNNABLE = tuple(name for name in FAMILIES if _SETTINGS[name].runs is True)
WITH_MTP = tuple(name for name in FAMILIES if _SETTINGS[name].mtp is not None)
