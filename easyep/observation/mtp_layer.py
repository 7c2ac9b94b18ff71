"""One multi-token-prediction layer by itself: how it computes, and where its tensors lie.

transformers has both since 5.20. Its 5.19, which engines ask for, has them inside of longer
functions only; what stands in for them here does the same with the parts that 5.19 has.
"""

from typing import TYPE_CHECKING, Any

from torch import Tensor

from easyep.observation.decoder import decoder_layers, find_decoder

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.modeling_layers import MtpModel


def run_layer(
    mtp: "MtpModel", depth: int, hidden: Tensor, positions: Tensor, embedded: Tensor
) -> Tensor:
    """What MTP layer `depth` makes of hidden states and the tokens that came next.

    Args:
        mtp: the layers.
        depth: from 0.
        hidden: [B, T, H], what the model, or the layer before, gave.
        positions: [B, T].
        embedded: [B, T, H], of the next tokens.

    Returns:
        [B, T, H].
    """
    whole: Any = mtp
    if hasattr(whole, "forward_layer"):
        found: Tensor = whole.forward_layer(depth, hidden, positions, None, inputs_embeds=embedded)
        return found
    turned = None if whole.rotary_emb is None else whole.rotary_emb(embedded, positions)
    found = whole.layers[depth](
        embedded,
        hidden,
        position_embeddings=turned,
        position_ids=positions,
        past_key_values=None,
        **whole.create_masks_for_mtp_layer(depth, embedded, None, positions),
    )
    return whole.shared_post_norm(found) if whole.use_shared_post_norm else found


def conversions(mtp: "MtpModel", model: "PreTrainedModel") -> list[Any]:
    """How transformers turns tensors of the checkpoint into those of the MTP layers.

    Args:
        mtp: the layers.
        model: whose they are.
    """
    if hasattr(mtp, "get_weight_conversions"):
        return list(mtp.get_weight_conversions(model))
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightRenaming

    last = len(decoder_layers(find_decoder(model)))
    own = [
        WeightRenaming(f"layers.{last + i}.", f"layers.{i}.mtp_block.")
        for i in range(len(mtp.layers))
    ]
    general = get_model_conversion_mapping(mtp, add_legacy=False)
    return [*own, *general, *get_model_conversion_mapping(model)]
