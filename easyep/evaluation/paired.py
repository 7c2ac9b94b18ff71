"""Two models on the same items: differences, their standard errors, and paired tests.

With d_i the difference of the two models' values on item i, n items:

* difference   D = mean(d);
* standard error   SE = sqrt(sum((d_i - D)^2) / (n (n - 1))), smaller than that of two separate
  samples, since the items are the same (Miller, "Adding Error Bars to Evals", arXiv 2411.00640);
* p, two-sided, of "both are equally good". For values that are all 0 or 1 McNemar's exact test, in
  which the b items that only the first model solves and the c that only the second one does are
  tosses of a fair coin: p = min(1, 2 sum_{i <= min(b, c)} C(b + c, i) / 2^(b + c)). For others the
  sign-flip permutation test: the share of random signs s for which |sum s_i d_i| is at least
  |sum d_i|, from R = 9,999 draws and the signs as they are: p = (1 + count) / (1 + R).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import comb, isclose, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from easyep.errors import EvaluationError
from easyep.evaluation.accuracy import Accuracy, TaskAccuracy, leaves

DRAWS = 9999


@dataclass(frozen=True)
class Difference:
    """One metric of one task or group: the first model's minus the second's.

    Attributes:
        task, metric: as in `TaskAccuracy`.
        first, second: the two values.
        difference: first - second.
        items: items that both answered; 0 where the metric is no mean over items, and nothing
            below can be said.
        stderr: of the difference.
        better, worse: items on which the first model's value is higher, and lower.
        test: ``"mcnemar"`` or ``"permutation"``; empty where there is none.
        p: two-sided.
    """

    task: str
    metric: str
    first: float
    second: float
    difference: float
    items: int = 0
    stderr: float | None = None
    better: int = 0
    worse: int = 0
    test: str = ""
    p: float | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def differences(first: Accuracy, second: Accuracy) -> tuple[Difference, ...]:
    """Every result that both have, paired item by item.

    Raises:
        EvaluationError: the two answered different questions.
    """
    for each in (first, second):
        if not isinstance(each, Accuracy):
            raise EvaluationError(f"expected what `evaluate` returns, not {type(each).__name__}")
    others = {(result.task, result.metric): result for result in second.results}
    found = []
    for result in first.results:
        other = others.get((result.task, result.metric))
        if other is None:
            continue
        if (result.version, result.samples) != (other.version, other.samples):
            raise EvaluationError(
                f"{result.task} was not the same for both models: version {result.version or '?'} "
                f"with {result.samples} items, version {other.version or '?'} with {other.samples}"
            )
        found.append(_difference(result, other, _values(first, result), _values(second, other)))
    return tuple(found)


def compare_values(
    first: NDArray[np.float64], second: NDArray[np.float64], seed: int = 0
) -> dict[str, Any]:
    """Standard error, counts and paired test of two models' values [n] on the same items."""
    d = first - second
    n = len(d)
    better, worse = int((d > 0).sum()), int((d < 0).sum())
    binary = bool(np.isin(first, (0, 1)).all() and np.isin(second, (0, 1)).all())
    return {
        "items": n,
        "stderr": float(d.std(ddof=1) / sqrt(n)) if n > 1 else None,
        "better": better,
        "worse": worse,
        "test": "mcnemar" if binary else "permutation",
        "p": mcnemar(better, worse) if binary else sign_flips(d, seed),
    }


def mcnemar(better: int, worse: int) -> float:
    """The exact two-sided p of `better` against `worse` among the items that differ."""
    n = better + worse
    tail = sum(comb(n, i) for i in range(min(better, worse) + 1))
    return min(1.0, float(2 * tail / 2**n))


def sign_flips(d: NDArray[np.float64], seed: int = 0) -> float:
    """The two-sided p of the sign-flip permutation test for differences [n]."""
    observed = abs(d.sum())
    rng = np.random.default_rng(seed)
    count = 0
    for _ in range(DRAWS):
        signs = rng.integers(0, 2, len(d)) * 2 - 1
        count += bool(abs((signs * d).sum()) >= observed * (1 - 1e-12))
    return (1 + count) / (1 + DRAWS)


def _difference(
    result: TaskAccuracy,
    other: TaskAccuracy,
    mine: Mapping[Any, float],
    theirs: Mapping[Any, float],
) -> Difference:
    paired: dict[str, Any] = {}
    if mine and mine.keys() == theirs.keys():
        a, b = (np.array([values[key] for key in mine]) for values in (mine, theirs))
        # Only where the metric is the mean over items do the items say how sure it is.
        if isclose(a.mean(), result.value, abs_tol=1e-6) and isclose(
            b.mean(), other.value, abs_tol=1e-6
        ):
            paired = compare_values(a, b)
    return Difference(
        result.task,
        result.metric,
        result.value,
        other.value,
        result.value - other.value,
        **paired,
    )


def _values(accuracy: Accuracy, result: TaskAccuracy) -> dict[Any, float]:
    """Item -> value of a metric; empty where an item has no number."""
    metric, _, kind = result.metric.partition(",")
    values = {}
    samples: Mapping[str, Sequence[Mapping[str, Any]]] = accuracy.harness.get("samples", {})
    for task in leaves(result.task, accuracy.harness.get("group_subtasks", {})):
        for sample in samples.get(task, ()):
            if sample["filter"] != kind:
                continue
            value = sample.get(metric)
            if not isinstance(value, (bool, int, float)):
                return {}
            values[task, sample["doc_id"], sample["doc_hash"]] = float(value)
    return values
