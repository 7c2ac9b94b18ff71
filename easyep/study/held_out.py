"""A masked model beside itself unmasked, on held-out answers: one forward pass per choice.

Over the tokens of the answers, each predicted from the question and the answer's true tokens before
it, with p the unpruned model's distribution over the next token and q the pruned model's:

* ``kl``: mean of sum p (ln p - ln q), in nats,
* ``agreement``: share of tokens for which both have the same most likely token,
* ``loss``: mean of -ln q(true token), in nats,
* ``accuracy``: share of answers every token of which is q's most likely one. Greedy decoding then
  gives that very answer; it may also find another right one, so this is a lower bound.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from easyep import demonstrations, loading, resources
from easyep.artifacts import Demo, Selection, TokenSequence
from easyep.errors import DemosError
from easyep.source import Source
from easyep.study.design import Study
from easyep.study.dropping import dropped

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    Tensor = torch.Tensor


@dataclass(frozen=True)
class Likeness:
    """How like the unpruned model a pruned one is; the module's docstring has the definitions."""

    accuracy: float
    samples: int
    agreement: float
    kl: float
    loss: float


class HeldOut:
    """The unpruned model, its held-out answers, and what it says of them.

    The model's distributions are kept: answer tokens x vocabulary x 4 bytes per domain. Where the
    router has groups and the study flattens them, the model is there a second time without.
    """

    def __init__(self, study: Study, source: Source) -> None:
        self._study = study
        self._source = source
        self._tokenizer = loading.load_tokenizer(
            source.model.path, trust_remote_code=study.trust_remote_code
        )
        self._model = self._load({})
        self._without_groups: PreTrainedModel | None = None
        self._items: dict[str, list[TokenSequence]] = {}
        self._unpruned: dict[str, list[Tensor]] = {}

    def measure(self, selection: Selection | None, domain: str, *, reroute: bool) -> Likeness:
        """The model with the selected experts, or whole, on a domain's held-out answers."""
        from easyep import masking  # imports torch

        if domain not in self._unpruned:
            self._items[domain] = self._read(domain)
            self._unpruned[domain] = list(self._predictions(self._model, domain))
        if selection is None:
            return self._compare(domain, iter(self._unpruned[domain]))
        source, model = self._source, self._model
        if not reroute:
            with dropped(model, selection):
                return self._compare(domain, self._predictions(model, domain))
        if selection.groups == "flatten" and source.router.n_group > 1:
            if self._without_groups is None:
                self._without_groups = self._load(masking.flattening(source, selection))
            model = self._without_groups
        with masking.masked(model, selection, source.architecture, source.layout):
            return self._compare(domain, self._predictions(model, domain))

    def _load(self, settings: Mapping[tuple[str, ...], Any]) -> "PreTrainedModel":
        return loading.load_model(
            self._source.model.path,
            dtype=self._study.dtype,
            device=self._study.device,
            trust_remote_code=self._study.trust_remote_code,
            settings=settings,
        )

    def _read(self, domain: str) -> list[TokenSequence]:
        demos = read_held_out(self._study.task(domain))[: self._study.limit]
        sequences = [demonstrations.render(demo, self._tokenizer) for demo in demos]
        if any(not one.is_response[1:].any() for one in sequences):
            raise DemosError(f"{self._study.task(domain)}: there is an item without an answer")
        return sorted(sequences, key=len)  # so that batches need little padding

    def _predictions(self, model: "PreTrainedModel", domain: str) -> Iterator["Tensor"]:
        """For each batch the log-probabilities of the answers' tokens, float32 [N, vocabulary]."""
        import torch

        from easyep.comparing.predictions import check_numbers

        for batch in self._batches(domain):
            ids = torch.zeros(len(batch), max(map(len, batch)), dtype=torch.int64)
            real = torch.zeros_like(ids)
            wanted = torch.zeros(ids.shape, dtype=torch.bool)
            for row, one in enumerate(batch):
                ids[row, : len(one)] = torch.from_numpy(one.input_ids)
                real[row, : len(one)] = 1
                wanted[row, : len(one) - 1] = torch.from_numpy(one.is_response[1:])
            place = model.device
            with torch.inference_mode():
                logits = model(
                    input_ids=ids.to(place), attention_mask=real.to(place), use_cache=False
                ).logits
                predicted = logits[wanted.to(place)].float().log_softmax(-1)
            check_numbers(predicted, f"{self._source.model.name}, whole or pruned,")
            yield predicted

    def _compare(self, domain: str, pruned: Iterator["Tensor"]) -> Likeness:
        import torch

        from easyep.comparing.predictions import divergence

        sums = torch.zeros(4, dtype=torch.float64)
        right = 0
        batches = zip(self._batches(domain), self._unpruned[domain], pruned, strict=True)
        for batch, p, q in batches:
            targets = torch.from_numpy(
                np.concatenate([one.input_ids[1:][one.is_response[1:]] for one in batch])
            ).to(q.device)
            best = q.argmax(-1)
            loss = -q.gather(1, targets[:, None]).sum()
            same = (best == p.argmax(-1)).sum()
            found = [divergence(p, q).sum(), loss, same, torch.tensor(len(targets))]
            sums += torch.tensor([float(each) for each in found], dtype=torch.float64)
            ends = np.cumsum([one.is_response[1:].sum() for one in batch])
            hits = np.split((best == targets).cpu().numpy(), ends[:-1])
            right += sum(bool(item.all()) for item in hits)
        kl, loss_, same_, tokens = sums.tolist()
        samples = len(self._items[domain])
        return Likeness(right / samples, samples, same_ / tokens, kl / tokens, loss_ / tokens)

    def _batches(self, domain: str) -> Iterator[Sequence[TokenSequence]]:
        items, size = self._items[domain], self._study.batch_size
        return (items[start : start + size] for start in range(0, len(items), size))


def read_held_out(name: str) -> list[Demo]:
    """Demonstrations, or the questions and answers of a task of `eval/tasks`.

    Args:
        name: a path; one that is not there is looked up beside `eval/data`.

    Raises:
        DemosError: it cannot be read, or holds none.
    """
    path = Path(name)
    if not path.exists():
        path = resources.folder("eval/data").parents[1] / name
    return demonstrations.read(path, _as_messages)


def _as_messages(value: Any) -> Any:
    """A question and its answer as the two turns of a conversation; anything else as it is."""
    if not isinstance(value, dict) or not {"question", "response"} <= value.keys():
        return value
    roles = (("user", value["question"]), ("assistant", value["response"]))
    return {"messages": [{"role": role, "content": text} for role, text in roles]}
