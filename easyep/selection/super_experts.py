"""Experts whose outputs are so large that the model breaks without them.

"Unveiling Super Experts" (arXiv 2507.23279) finds them by the largest magnitude in the output of
an expert: above the 99.5th percentile of all experts of all layers, and above a tenth of the
largest. The paper takes only layers up to where massive activations form, and the largest single
element; a record has norms of outputs and no hidden states, so here all layers count, and the
largest norm ||e|| that an expert reached.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

PERCENTILE = 99.5
SHARE_OF_LARGEST = 0.1


def super_experts(
    peaks: Mapping[int, npt.NDArray[np.float64]],
) -> dict[int, npt.NDArray[np.bool_]]:
    """Which experts are super experts, bool [E] per layer.

    Args:
        peaks: layer -> the largest output norm that each expert reached, float64 [E].
    """
    everywhere = np.concatenate(list(peaks.values()))
    least = max(
        float(np.percentile(everywhere, PERCENTILE)), SHARE_OF_LARGEST * float(everywhere.max())
    )
    return {layer: values > least for layer, values in peaks.items()}
