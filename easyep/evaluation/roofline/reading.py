"""`config.json` -> `Decoder`: the shapes that transformers gives the families' matrices.

Two kinds of attention: grouped-query, with heads of one width, and MLA ("DeepSeek-V2", arXiv
2405.04434, section 2.1), which caches a latent vector. Routed and shared experts and dense layers
have three matrices each; what else there is in a layer are vectors, of which only the common ones
are counted. Other families (state spaces, linear or sparse attention, two sets of experts) are
refused: their cache and their operations would be wrong.
"""

from collections.abc import Mapping
from typing import Any

from easyep.architectures.spec import Architecture, find_architecture
from easyep.errors import UnsupportedModelError
from easyep.evaluation.roofline.decoder import Attention, Decoder
from easyep.evaluation.roofline.weights import SIZES, Format, Matrix, plain, quantised

# The families whose matrices were compared with checkpoints, see the tests.
FAMILIES = (
    *("aria", "axk1", "bailing_moe", "deepseek_v2", "deepseek_v3", "dots1", "ernie4_5_moe"),
    *("exaone_moe", "flex_olmo", "flint", "glm4_moe", "glm4_moe_lite", "glm4v_moe", "gpt_oss"),
    *("granitemoe", "hy_v3", "kimi_k25", "llada2_moe", "minimax_m2", "mistral4", "mixtral"),
    *("olmoe", "qwen2_moe", "qwen3_moe", "qwen3_omni_moe", "qwen3_vl_moe", "solar_open"),
)

# No width, no vocabulary and no number of heads is larger; more is a broken file.
LARGEST = 10**9

_WINDOWED = ("sliding_attention", "chunked_attention")


def read_decoder(
    config: Mapping[str, Any],
    *,
    name: str = "",
    dtype: str = "auto",
    cache_dtype: str = "auto",
    latent_cache: bool = True,
) -> Decoder:
    """The numbers of a model, from its configuration alone.

    Args:
        config: the parsed `config.json`.
        name: of the model, for people.
        dtype: what it is loaded as, for a model that is not quantised; ``"auto"`` = its own type.
        cache_dtype: of keys and values; ``"auto"`` = the model's plain type.
        latent_cache: MLA caches its latent vectors, as vLLM and SGLang do; otherwise keys and
            values, as transformers does.

    Raises:
        UnsupportedModelError: the model is dense, or has layers that this does not describe.
        CheckpointError: the configuration contradicts itself.
    """
    architecture = find_architecture(config)
    section: Any = config
    for key in architecture.section(config):
        section = section[key]
    _refuse_other_layers(section, architecture)
    settings = config.get("quantization_config") or section.get("quantization_config")
    own = str(section.get("dtype") or section.get("torch_dtype") or config.get("dtype") or "")
    own = own or str(config.get("torch_dtype") or "bfloat16")
    base = own if dtype == "auto" or settings else dtype
    stored = quantised(settings, base)
    width = 1.0 if cache_dtype == "fp8" else SIZES[base if cache_dtype == "auto" else cache_dtype]
    return _Reader(architecture, config, section, plain(base), stored).decoder(
        name, width, latent_cache
    )


def _refuse_other_layers(section: Mapping[str, Any], architecture: Architecture) -> None:
    kinds = {str(kind) for kind in section.get("layer_types") or ()}
    other = sorted(kinds - {"full_attention", *_WINDOWED, "attention"})
    if architecture.name not in FAMILIES or other:
        reason = f"{other[0]} in its layers" if other else "its layers"
        raise UnsupportedModelError(
            f"no throughput can be predicted for the family {architecture.name}, since easyep does "
            f"not know what {reason} cost; it can for {', '.join(FAMILIES)}"
        )


class _Reader:
    """The matrices of one model."""

    def __init__(
        self,
        architecture: Architecture,
        config: Mapping[str, Any],
        section: Mapping[str, Any],
        base: Format,
        stored: Format,
    ) -> None:
        self._architecture, self._section = architecture, section
        self._base, self._stored = base, stored
        self._router = architecture.router(config)
        moe = architecture.expected_moe_layers(config)
        if moe is None:
            raise UnsupportedModelError(
                f"the configuration of the family {architecture.name} does not tell which layers "
                "have experts"
            )
        self._layers, self._moe = self._router.num_layers, len(moe)
        if not self._layers:
            raise self._missing("num_hidden_layers")
        self._hidden = self._number("hidden_size")

    def decoder(self, name: str, cache_width: float, latent_cache: bool) -> Decoder:
        expert = self._mlp(self._expert_width(), 1)
        shared = self._mlp(self._shared_width(), self._moe)
        others = self._layers - self._moe
        dense = self._mlp(self._number("intermediate_size"), others) if others else []
        attention, norms = self._attention_weights()
        router = Matrix(self._router.num_experts, self._hidden, self._moe, quantised=False)
        vocabulary = self._number("vocab_size")
        table = Matrix(vocabulary, self._hidden, 1, quantised=False)
        tied = bool(self._section.get("tie_word_embeddings"))
        other_norms = self._base.bytes_of(
            Matrix(1, self._hidden, 2 * self._layers + 1, quantised=False)
        )
        final_norm = self._base.bytes_of(Matrix(1, self._hidden, quantised=False))
        # The bias of the choice, one float32 for each expert.
        biased = self._architecture.routing.get("bias") is not None
        bias = 4.0 * router.rows * router.count if biased else 0.0
        parts = {
            "routed experts": self._bytes(expert, routed=True)
            * self._router.num_experts
            * self._moe,
            "router": self._bytes([router]) + bias,
            "shared experts": self._bytes(shared),
            "attention": self._bytes(attention) + self._base.bytes_of(norms),
            "rest of the layers": self._bytes(dense) + other_norms - final_norm,
            "embeddings and head": self._bytes([table]) * (1 if tied else 2) + final_norm,
        }
        head = self._bytes([table])
        always = ("shared experts", "attention", "rest of the layers")
        return Decoder(
            name=name,
            experts=self._router.num_experts,
            top_k=self._router.top_k,
            moe_layers=self._moe,
            expert_bytes=self._bytes(expert, routed=True),
            expert_numbers=sum(each.numbers for each in expert),
            router_bytes=parts["router"] / self._router.num_experts,
            dense_bytes=sum(parts[part] for part in always) + head + final_norm,
            dense_numbers=sum(m.numbers for m in (*shared, *dense, *attention)),
            head_numbers=table.numbers,
            idle_bytes=0.0 if tied else head,
            attention=self._attention(cache_width, latent_cache),
            compute_dtype="fp8" if self._stored.name == "fp8" else self._base.name,
            hidden=self._hidden,
            parts={part: nbytes for part, nbytes in parts.items() if nbytes},
        )

    def _attention_weights(self) -> tuple[list[Matrix], Matrix]:
        """Matrices of all layers, and the norms inside, as one row."""
        hidden, heads, layers = self._hidden, self._number("num_attention_heads"), self._layers
        if not self._is_latent():
            width, groups = self._head_dim(), self._groups()
            return [
                Matrix(heads * width, hidden, layers),
                Matrix(groups * width, hidden, 2 * layers),
                Matrix(hidden, heads * width, layers),
            ], Matrix(1, 2 * width if self._normed_heads() else 0, layers)
        rank, rope, nope = self._latent()
        value = self._number("v_head_dim")
        queries = self._number("q_lora_rank") if self._section.get("q_lora_rank") else 0
        width = heads * (nope + rope)
        query = (
            [Matrix(queries, hidden, layers), Matrix(width, queries, layers)]
            if queries
            else [Matrix(width, hidden, layers)]
        )
        return [
            *query,
            Matrix(rank + rope, hidden, layers),
            Matrix(heads * (nope + value), rank, layers),
            Matrix(hidden, heads * value, layers),
        ], Matrix(1, rank + queries, layers)

    def _attention(self, width: float, latent_cache: bool) -> Attention:
        heads = self._number("num_attention_heads")
        if self._is_latent():
            rank, rope, nope = self._latent()
            value = self._number("v_head_dim")
            # Two operations per number: scores over keys, then the sum over values.
            written_out = 2.0 * heads * (nope + rope + value) * self._layers
            if latent_cache:
                cache = width * (rank + rope) * self._layers
                absorbed = 2.0 * heads * (2 * rank + rope) * self._layers
                return Attention(cache, absorbed, prefill_flops=written_out)
            cache = width * heads * (nope + rope + value) * self._layers
            return Attention(cache, written_out)
        per_layer = width * 2 * self._groups() * self._head_dim()
        flops = 4.0 * heads * self._head_dim()
        windowed, window = self._windowed()
        full = self._layers - windowed
        return Attention(
            per_layer * full, flops * full, per_layer * windowed, flops * windowed, window
        )

    def _windowed(self) -> tuple[int, int]:
        """Layers that look back only so far, and how far."""
        kinds = self._section.get("layer_types") or ()
        window = self._section.get("sliding_window") or self._section.get("attention_chunk_size")
        if type(window) is not int or self._section.get("use_sliding_window") is False:
            return 0, 0
        return sum(str(kind) in _WINDOWED for kind in list(kinds)[: self._layers]), max(1, window)

    def _mlp(self, width: int, count: int) -> list[Matrix]:
        """Gate and up projection, and the one back, `count` times; none if they have no width."""
        if not width:
            return []
        return [Matrix(width, self._hidden, 2 * count), Matrix(self._hidden, width, count)]

    def _bytes(self, matrices: list[Matrix], routed: bool = False) -> float:
        plain_too = self._stored.experts_only and not routed
        return sum(
            (self._stored if each.quantised and not plain_too else self._base).bytes_of(each)
            for each in matrices
        )

    def _expert_width(self) -> int:
        for key in ("moe_intermediate_size", "expert_ffn_hidden_size", "intermediate_size"):
            if type(self._section.get(key)) is int:
                return int(self._section[key])
        raise self._missing("moe_intermediate_size")

    def _shared_width(self) -> int:
        for key in ("shared_expert_intermediate_size", "shared_intermediate_size"):
            if type(self._section.get(key)) is int:
                return int(self._section[key])
        for key in ("n_shared_experts", "num_shared_experts", "moe_num_shared_experts"):
            if type(self._section.get(key)) is int:
                return int(self._section[key]) * self._expert_width()
        return 0

    def _is_latent(self) -> bool:
        return bool(self._section.get("kv_lora_rank"))

    def _latent(self) -> tuple[int, int, int]:
        keys = ("kv_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim")
        rank, rope, nope = (self._number(key) for key in keys)
        return rank, rope, nope

    def _head_dim(self) -> int:
        if self._section.get("head_dim"):
            return self._number("head_dim")
        if width := self._hidden // self._number("num_attention_heads"):
            return width
        raise self._missing("head_dim")

    def _groups(self) -> int:
        stated = bool(self._section.get("num_key_value_heads"))
        return self._number("num_key_value_heads" if stated else "num_attention_heads")

    def _normed_heads(self) -> bool:
        qwen = str(self._section.get("model_type")).startswith("qwen3")
        return qwen or bool(self._section.get("use_qk_norm"))

    def _number(self, key: str) -> int:
        value = self._section.get(key)
        if type(value) is not int or not 1 <= value <= LARGEST:
            raise self._missing(key)
        return value

    def _missing(self, key: str) -> UnsupportedModelError:
        return UnsupportedModelError(
            f"no throughput can be predicted: config.json states no {key} (architecture "
            f"{self._architecture.name})"
        )
