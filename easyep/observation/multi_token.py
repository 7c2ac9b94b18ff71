"""Multi-token-prediction layers: how they are loaded, and run behind a model's last layer."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from easyep.artifacts import TokenSequence
from easyep.errors import ObservationError
from easyep.loading import quietly
from easyep.observation.decoder import find_decoder, input_device
from easyep.observation.mtp_layer import run_layer
from easyep.observation.recorder import Recorder
from easyep.observation.weights.empty import without_weights

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.modeling_layers import MtpModel


def load_mtp(model: "PreTrainedModel") -> "MtpModel":
    """The multi-token-prediction layers that lie in the model's checkpoint.

    Raises:
        ObservationError: transformers cannot run this family's MTP layers.
    """
    from transformers.modeling_layers import MtpModel

    config = model.config.get_text_config()
    last = config.num_hidden_layers
    # transformers finds MTP tensors by the layer numbers of the released models; a model of
    # another depth has them elsewhere.
    own = {
        rf"model\.layers\.{last + i}\." for i in range(getattr(config, "num_mtp_layers", None) or 0)
    }
    known = model._keys_to_ignore_on_load_unexpected
    model._keys_to_ignore_on_load_unexpected = set(known or ()) | own
    try:
        with quietly(), _told(model):
            loaded: MtpModel = MtpModel.from_pretrained(model)
    finally:
        model._keys_to_ignore_on_load_unexpected = known
    shared = set(model.modules())  # are where they are, perhaps on the disk
    for part in loaded.children():
        if part not in shared:
            part.to(input_device(find_decoder(model)))
    return loaded.eval()


def empty_mtp(model: "PreTrainedModel") -> "MtpModel":
    """The multi-token-prediction layers of a model without weights, without theirs.

    Raises:
        ObservationError: transformers cannot run this family's MTP layers.
    """
    from transformers.modeling_layers import MtpModel

    before = torch.get_default_dtype()
    torch.set_default_dtype(model.dtype)
    try:
        with quietly(), _told(model), without_weights():
            built = MtpModel(model, model.config.get_text_config().num_mtp_layers)
    finally:
        torch.set_default_dtype(before)
    empty: MtpModel = built.eval().requires_grad_(False)
    return empty


def run_mtp(
    mtp: "MtpModel",
    recorder: Recorder,
    demos: Sequence[int],
    rows: Sequence[TokenSequence],
    embedded: Tensor,
    hidden: Tensor,
    *,
    recorded: bool = True,
) -> None:
    """Run the MTP layers with the true next tokens, as in training.

    Args:
        mtp: the layers.
        recorder, demos, rows, recorded: as in `Recorder.batch`.
        embedded: [B, T, H], the embeddings of the tokens.
        hidden: [B, T, H], the main model's last hidden states, after its final norm.
    """
    embedded = embedded.to(hidden.device)
    positions = torch.arange(hidden.shape[1], device=hidden.device)[None].expand(len(rows), -1)
    for depth in range(len(mtp.layers)):
        hidden, ahead = hidden[:, :-1], slice(depth + 1, None)
        if not hidden.shape[1]:
            return
        width = hidden.shape[1]
        with recorder.batch(demos, rows, first=depth + 1, width=width, recorded=recorded):
            hidden = run_layer(mtp, depth, hidden, positions[:, ahead], embedded[:, ahead])


@contextmanager
def _told(model: Any) -> Iterator[None]:
    """Raises ObservationError where transformers refuses a family's MTP layers."""
    try:
        yield
    except (AttributeError, ValueError, RuntimeError, OSError, TypeError) as error:
        raise ObservationError(
            f"the MTP layers of {model.config.model_type} cannot be observed (transformers "
            f"{version('transformers')}: {error}); choose --mtp follow or --mtp drop"
        ) from error
