"""How much an expert mattered: one small function or class per published method."""

from easyep.criteria import family, pairwise, weights
from easyep.criteria.protocol import (
    BUILT_IN,
    CRITERIA,
    Criterion,
    Layer,
    LayerWeights,
    RecordCriterion,
    RoutedCriterion,
    SummedCriterion,
    WeightCriterion,
    criterion,
    needs_record,
    scores_pairs,
)

__all__ = [
    "BUILT_IN",
    "CRITERIA",
    "Criterion",
    "Layer",
    "LayerWeights",
    "RecordCriterion",
    "RoutedCriterion",
    "SummedCriterion",
    "WeightCriterion",
    "criterion",
    "family",
    "needs_record",
    "pairwise",
    "scores_pairs",
    "weights",
]

BUILT_IN.update(CRITERIA.registered)
