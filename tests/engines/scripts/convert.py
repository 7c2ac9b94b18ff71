"""llama.cpp's converter, told the pre-tokenizer of a tokenizer that it cannot know.

    python convert.py convert_hf_to_gguf.py DIRECTORY --outfile FILE --outtype f32

The converter recognises released tokenizers by a hash and refuses all others. A tiny one that
splits text as GPT-2's does gets that answer here; all else runs as it was released.
"""

import runpy
import sys
from pathlib import Path


def main(converter: Path) -> None:
    sys.path[:0] = [str(converter.parent), str(converter.parent / "gguf-py")]
    from conversion.base import TextModel

    TextModel.get_vocab_base_pre = lambda self, tokenizer: "gpt-2"
    runpy.run_path(str(converter), run_name="__main__")


if __name__ == "__main__":
    sys.argv = sys.argv[1:]
    main(Path(sys.argv[0]))
