"""Where the model runs that lm-eval asks: in this process, in an engine, or behind a server."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from easyep import loading
from easyep.addresses import without_keys
from easyep.architectures.spec import stated_size
from easyep.artifacts import Selection
from easyep.checkpoint.files import CONFIG, Checkpoint, parse_object, read_text
from easyep.errors import CheckpointError, EvaluationError, MissingDependencyError
from easyep.evaluation.quiet import calm
from easyep.registry import unknown_name

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# What lm-eval's class for models of this process looks at where the model is loaded already.
_IN_PROCESS = frozenset(
    {
        *("add_bos_token", "backend", "chat_template_args", "enable_thinking", "logits_cache"),
        *("max_batch_size", "max_length", "mixed_precision_dtype", "prefix_token_id"),
        *("softmax_dtype", "think_end_token", "truncation"),
    }
)
BACKENDS = ("hf", "vllm", "sglang", "local-completions", "local-chat-completions")
SERVERS = ("local-completions", "local-chat-completions")

# Arguments of a backend that may hold a key: results are passed on, keys are not.
_SECRET = {"auth_token", "header"}

# Arguments of a backend that change where and how fast it answers, not what: evaluations that
# differ in them are the same.
_WHERE = _SECRET | {
    *("base_url", "num_concurrent", "max_retries", "timeout"),
    *("verify_certificate", "ca_cert_path", "batch_size", "gpu_memory_utilization"),
}


@dataclass(frozen=True)
class Asking:
    """A model, and how lm-eval reaches it.

    Attributes:
        path: the checkpoint's directory; where a server runs the model, that of its tokenizer.
        name: what the user called the model, and what a server calls it unless `args` say it.
        backend: one of BACKENDS, as lm-eval calls them.
        args: further arguments of lm-eval's model class (``--model_args`` there).
        dtype, device, trust_remote_code: as in `load_model`.
        batch_size: items at a time; None leaves it to the backend.
        thinking: the chat template is told that the model may think (True) or may not (False);
            None tells it nothing.
        selection: experts that may be reached; all others are masked.
    """

    path: Path
    name: str = ""
    backend: str = "hf"
    args: Mapping[str, Any] = field(default_factory=dict)
    dtype: str = "auto"
    device: str = "auto"
    batch_size: int | None = None
    trust_remote_code: bool = False
    thinking: bool | None = None
    selection: Selection | None = None

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise unknown_name("backend", self.backend, BACKENDS)
        for name in self.args if self.backend == "hf" else ():
            if name not in _IN_PROCESS:
                valid = ", ".join(sorted(_IN_PROCESS))
                raise EvaluationError(
                    f"the argument {name!r} has no effect on a model in this process, which takes "
                    f"{valid}; dtype, device, batch_size, tokenizer and the like are easyep's own "
                    "(--dtype, ...)"
                )
        if self.selection is not None and self.backend != "hf":
            raise EvaluationError(
                f"the backend {self.backend} cannot mask experts; a selection is evaluated with "
                "--backend hf, or rewrite the checkpoint first"
            )
        if self.backend in SERVERS and "base_url" not in self.args:
            endpoint = "chat/completions" if "chat" in self.backend else "completions"
            raise EvaluationError(
                f"the backend {self.backend} needs the server's address: --model-args "
                f"base_url=http://localhost:8000/v1/{endpoint}"
            )

    @property
    def open_args(self) -> dict[str, Any]:
        """`args` without what may hold a key."""
        return {
            name: without_keys(value) if isinstance(value, str) else value
            for name, value in self.args.items()
            if name not in _SECRET
        }

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What answers depend on besides the question: the weights, and how they are run."""
        identity = Checkpoint.open(self.path).identity("").to_json()
        kept = None
        if self.selection is not None:
            kept = {str(layer): ids for layer, ids in sorted(self.selection.layers.items())}
            kept["groups"] = self.selection.groups  # type: ignore[assignment]
        return {
            "model": identity,
            "kept": kept,
            "backend": self.backend,
            "args": {k: self.args[k] for k in sorted(self.args) if k not in _WHERE},
            "dtype": self.dtype,
            "device": self.device if self.backend not in SERVERS else "",
            "thinking": self.thinking,
        }

    @cached_property
    def template(self) -> str:
        """The chat template; empty where there is none, and where only a server knows it."""
        try:
            tokenizer = loading.load_tokenizer(self.path, trust_remote_code=self.trust_remote_code)
        except CheckpointError:
            if self.backend == "local-chat-completions":
                return ""
            raise
        return str(getattr(tokenizer, "chat_template", None) or "")

    @property
    def chats(self) -> bool:
        """Whether questions can be asked as messages."""
        return self.backend == "local-chat-completions" or bool(self.template)

    def open(self) -> Any:
        """lm-eval's model.

        Raises:
            MissingDependencyError: lm-eval or the engine is not installed.
            EvaluationError: the engine cannot be started, or the server not be reached.
            EasyEPError: a subclass says what is wrong with the checkpoint.
        """
        if self.backend == "hf":
            model = self._loaded()
            tokenizer = loading.load_tokenizer(self.path, trust_remote_code=self.trust_remote_code)
            return in_process(
                model, tokenizer, batch_size=self.batch_size, **self._thinking(), **self.args
            )
        try:
            with calm():
                from lm_eval.api.registry import get_model

                kind = get_model(self.backend)
                return kind.create_from_arg_obj(
                    self._server_args() if self.backend in SERVERS else self._engine_args(),
                    {"batch_size": self.batch_size or ("auto" if self.backend == "vllm" else 1)},
                )
        except ImportError as error:
            extra = self.backend if self.backend not in SERVERS else "eval"
            raise MissingDependencyError(
                f"the backend {self.backend} needs more packages ({error}): "
                f"pip install 'easyep[{extra}]'"
            ) from None
        except Exception as error:  # an engine raises what it likes
            said = without_keys(str(error))
            raise EvaluationError(f"{self.backend} cannot be started: {said}") from error

    def _loaded(self) -> "PreTrainedModel":
        if self.selection is not None:
            from easyep.masking import load_masked

            return load_masked(
                self.path,
                self.selection,
                dtype=self.dtype,
                device=self.device,
                trust_remote_code=self.trust_remote_code,
            )
        return loading.load_model(
            self.path,
            dtype=self.dtype,
            device=self.device,
            trust_remote_code=self.trust_remote_code,
        )

    def _engine_args(self) -> dict[str, Any]:
        return {
            "pretrained": str(self.path),
            "dtype": self.dtype,
            "trust_remote_code": self.trust_remote_code,
            **self._thinking(),
            **self.args,
        }

    def _server_args(self) -> dict[str, Any]:
        chat = self.backend == "local-chat-completions"
        own: dict[str, Any] = {
            "model": self.name or str(self.path),
            "tokenizer": None if chat else str(self.path),
            "tokenizer_backend": None if chat else "huggingface",
            "trust_remote_code": self.trust_remote_code,
            "max_length": _context(self.path),
            **(self._thinking() if chat else {}),
        }
        own.pop("enable_thinking", None)  # the server decides it
        return {**own, **self.args}

    def _thinking(self) -> dict[str, Any]:
        if self.thinking is None:
            return {}
        if not self.thinking:
            return {} if self.backend == "sglang" else {"enable_thinking": False}
        # lm-eval leaves out of an answer what comes before this.
        end = {"think_end_token": "</think>"}
        return end if self.backend == "sglang" else {"enable_thinking": True, **end}


def in_process(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    *,
    batch_size: int | None = None,
    **args: Any,
) -> Any:
    """lm-eval's model for a loaded one.

    Args:
        model: a causal language model, pruned or not, masked or not.
        tokenizer: its tokenizer.
        batch_size: items at a time; 16 unless it is given.
        args: further arguments of lm-eval's `HFLM`.

    Raises:
        MissingDependencyError: lm-eval is not installed.
        EvaluationError: it refuses an argument.
    """
    try:
        with calm():
            from lm_eval.models.huggingface import HFLM

            return HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size or 16, **args)
    except ImportError as error:
        raise MissingDependencyError(
            f"evaluation needs lm-eval ({error}): pip install 'easyep[eval]'"
        ) from None
    except (TypeError, ValueError) as error:
        raise EvaluationError(f"lm-eval's hf backend refuses its arguments: {error}") from error


def _context(path: Path) -> int:
    """How many tokens the model reads; lm-eval cuts a server's prompts at 2,048 by default."""
    config = parse_object(read_text(path, CONFIG), CONFIG)
    return stated_size(config, "max_position_embeddings") or 2048
