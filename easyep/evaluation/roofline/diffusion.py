"""Language models that fill in masks instead of adding a token: what bounds their decoding.

A diffusion language model computes many tokens in each pass and settles a few of them:

* block by block (LLaDA2): the tokens before the block are cached, a block of G
  tokens is computed in every pass, and filled after some passes;
* the full sequence (LLaDA, arXiv 2502.09992): every pass computes prompt and answer anew.

Every pass touches the experts of B G tokens, U(B G), so that pruning pays at batch 1 already.
Tokens are computed again and again, so that operations bind at small batches already; from there
on a larger batch gains nothing ("How Efficient Are Diffusion Language Models?", arXiv 2510.18480).
"""

from dataclasses import dataclass
from math import inf

from easyep.errors import EvaluationError
from easyep.evaluation.roofline.decoder import Decoder
from easyep.evaluation.roofline.machine import Machine
from easyep.evaluation.roofline.step import Step, decode, step
from easyep.evaluation.roofline.traffic import Traffic


@dataclass(frozen=True)
class Decoding:
    """How an answer comes about.

    Attributes:
        block: tokens that a pass computes of each sequence (G); 0 = prompt and answer, all of
            them; 1 = one after the other.
        tokens_per_step: of them, how many a pass settles on average; the block is filled after
            ``block / tokens_per_step`` passes.
    """

    block: int = 1
    tokens_per_step: float = 1.0

    def __post_init__(self) -> None:
        most = self.block or inf
        if self.block < 0 or not 0 < self.tokens_per_step <= most:
            raise EvaluationError(
                f"a pass over {self.block} tokens cannot settle {self.tokens_per_step:g}"
            )


@dataclass(frozen=True)
class Generation:
    """What generating takes at least.

    Attributes:
        batch: sequences at a time.
        passes: over the model for one answer.
        step: one of them, in the middle of the answer.
        throughput: tokens of answers per second at most, prefill left out.
    """

    batch: int
    passes: float
    step: Step
    throughput: float


def generate(
    decoder: Decoder,
    machine: Machine,
    traffic: Traffic,
    decoding: Decoding,
    batch: int,
    input_len: int,
    output_len: int,
) -> Generation:
    """Bound the generation of answers of `output_len` tokens, `batch` at a time.

    Autoregressive decoding is ``Decoding(1)``. Attention in a block is without a mask: every token
    sees all others.
    """
    if decoding.block == 1:
        one = decode(decoder, machine, traffic, batch, input_len, output_len)
    else:
        whole = input_len + output_len
        one = step(
            decoder,
            machine,
            traffic,
            batch,
            context=input_len + output_len / 2 if decoding.block else whole,
            queries=decoding.block or whole,
        )
    passes = output_len / decoding.tokens_per_step
    return Generation(batch, passes, one, batch * decoding.tokens_per_step / one.seconds)
