"""The nouns that travel between the stages: frozen values that save and load themselves."""

from easyep.artifacts.demo import Demo, TokenSequence
from easyep.artifacts.layer_sums import LayerSums
from easyep.artifacts.model_identity import ModelIdentity
from easyep.artifacts.observations import Observations, ObservedDemo
from easyep.artifacts.routed_tokens import RoutedTokens
from easyep.artifacts.scores import Scores
from easyep.artifacts.selection import Selection

__all__ = [
    "Demo",
    "LayerSums",
    "ModelIdentity",
    "Observations",
    "ObservedDemo",
    "RoutedTokens",
    "Scores",
    "Selection",
    "TokenSequence",
]
