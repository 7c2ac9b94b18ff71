"""Which model an artifact was made from."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from easyep.errors import ArtifactError


@dataclass(frozen=True)
class ModelIdentity:
    """What tells one checkpoint from another, without a path of the machine that read it.

    Attributes:
        name: the alias, repository id or directory that the user gave.
        model_type: `model_type` of its `config.json`.
        config_sha256: hash of the bytes of `config.json`.
        tensors_sha256: hash of all tensor names, types and shapes.
        weights_sha256: hash of samples of the weight files (see `Checkpoint.identity`): it tells
            a model from its fine-tunes without reading all of it, and is no checksum.
    """

    name: str
    model_type: str
    config_sha256: str
    tensors_sha256: str
    weights_sha256: str

    def to_json(self) -> dict[str, str]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Any) -> "ModelIdentity":
        """Raises ArtifactError, naming the fields that are missing or no strings."""
        fields = list(cls.__dataclass_fields__)
        if not isinstance(value, Mapping):
            raise ArtifactError(f"the entry 'model' must be an object with {', '.join(fields)}")
        wrong = [field for field in fields if not isinstance(value.get(field), str)]
        if wrong:
            raise ArtifactError(
                f"the entry 'model' must be an object with {', '.join(fields)}; it has no string "
                f"{', '.join(wrong)} (if another version of easyep wrote the file, make it again)"
            )
        return cls(**{field: value[field] for field in fields})

    def same_model(self, other: "ModelIdentity") -> bool:
        """Whether both have the same configuration, tensors and weights; names may differ."""
        return (self.config_sha256, self.tensors_sha256, self.weights_sha256) == (
            other.config_sha256,
            other.tensors_sha256,
            other.weights_sha256,
        )
