"""Running a model as a whole, wherever its weights lie: one domain after the other."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from easyep.errors import UnsupportedModelError
from easyep.loading import load_tokenizer
from easyep.progress import SILENT, Progress
from easyep.records import FullStore, SumStore
from easyep.runners import Runner
from easyep.runs import Run
from easyep.streams import LayerFinished

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from easyep.observation.denoising import Denoising
    from easyep.observation.in_memory import Keep


class Whole(Runner):
    """What runners share that have a model to run; they say how it is loaded."""

    @abstractmethod
    def load(self) -> "PreTrainedModel":
        """The model.

        Raises:
            EasyEPError: a subclass says why it cannot be loaded.
        """

    @cached_property
    def _model(self) -> "PreTrainedModel":
        return self.load()

    def observe(
        self,
        runs: Sequence[Run],
        stores: Sequence[FullStore | SumStore],
        state: Path | None,
        *,
        on_layer_finished: LayerFinished | None = None,
        progress: Progress = SILENT,
    ) -> str:
        (run,), (store,) = runs, stores
        return self._observe(run, store.add, self.group.agree(sorted(store.done)), progress)

    def help(self, runs: Sequence[Run]) -> None:
        (run,) = runs
        self._observe(run, _keep_nothing, self.group.agree([]), SILENT)

    def _observe(self, run: Run, keep: "Keep", done: Sequence[int], progress: Progress) -> str:
        from easyep.observation.in_memory import run_in_memory
        from easyep.observation.multi_token import load_mtp

        model = self._model
        with self.group.computing():
            run_in_memory(
                model,
                run.sequences,
                keep,
                done=done,
                mtp=load_mtp(model) if run.mtp_layers else None,
                stream=run.source.architecture.observation.stream,
                batch_size=run.recipe.batch_size,
                denoising=_denoising(run, model),
                group=self.group,
                title=f"Observing {run.domain}",
                progress=progress,
            )
        return str(model.dtype).removeprefix("torch.")


def _keep_nothing(demos: Sequence[int], parts: Mapping[int, Any]) -> None:
    """Where the records of a process go that is not the first: they are with that one."""


def _denoising(run: Run, model: "PreTrainedModel") -> "Denoising | None":
    """How a diffusion model is run.

    Raises:
        UnsupportedModelError: nothing says which token hides another.
    """
    from easyep.observation.denoising import Denoising

    notes, config = run.source.architecture.observation, run.source.checkpoint.config
    if notes.diffusion is None:
        return None
    block = notes.block if isinstance(notes.block, int) else int(config[notes.block])
    token = config.get("mask_token_id")
    if token is None and notes.diffusion != "canvas":
        path, trust = run.source.model.path, run.recipe.trust_remote_code
        token = load_tokenizer(path, trust_remote_code=trust).mask_token_id
        if token is None:
            raise UnsupportedModelError(
                f"{path} does not say which token hides another: config.json has no mask_token_id "
                "and the tokenizer no mask token; add one of them"
            )
    vocabulary = model.config.get_text_config().vocab_size
    return Denoising(notes.diffusion, run.mask_ratios, token, vocabulary, block)
