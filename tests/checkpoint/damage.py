"""A pruned DeepSeek-V3 to be damaged, in ways that its checksums do not betray."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from easyep.artifacts.selection import Selection
from easyep.checkpoint.files import Checkpoint
from easyep.checkpoint.headers import build_header
from easyep.checkpoint.rewriting import rewrite
from easyep.checkpoint.verification import Verification, verify
from tests.checkpoint.raw_files import Raw, read_file

INDEX = "model.safetensors.index.json"
MANIFEST = "easyep.json"


class Pruned:
    """A pruned checkpoint and its source."""

    def __init__(self, path: Path, source: Path) -> None:
        self.path, self.source = path, source

    @classmethod
    def make(
        cls, source: Path, choose: Callable[..., Selection], folder: Path, mtp: str = "score"
    ) -> "Pruned":
        """Prune a copy of `source`, in shards of 60 kB, in the empty `folder`."""
        original = Path(shutil.copytree(source, folder / "original"))
        (original / "chat_template.jinja").write_text("{{ messages }}")
        chosen = choose(original, mtp=mtp == "score")
        out = rewrite(original, chosen, folder / "out", mtp=mtp, max_shard_size=60_000).path
        return cls(out, original)

    def copy(self, path: Path) -> "Pruned":
        """Another one at `path`, of the same source."""
        return Pruned(Path(shutil.copytree(self.path, path)), self.source)

    def shard_of(self, tensor: str) -> Path:
        return self.path / Checkpoint.open(self.path).tensors[tensor].shard

    def flip(self, tensor: str, at: int = 0) -> None:
        """Flip one bit of byte `at` of a tensor."""
        found = Checkpoint.open(self.path).tensors[tensor]
        file = self.path / found.shard
        content = bytearray(file.read_bytes())
        content[found.begin + at] ^= 1
        file.write_bytes(content)

    def flip_in_header(self, tensor: str, text: bytes) -> None:
        """Flip one bit in the first byte of `text` in the header of the tensor's file."""
        file = self.shard_of(tensor)
        content = bytearray(file.read_bytes())
        content[content.index(text)] ^= 1
        file.write_bytes(content)

    def rebuild(self, shard: Path, change: Callable[[dict[str, Raw]], object]) -> None:
        """Write a weight file again with other tensors, as a valid file."""
        tensors = read_file(shard)
        change(tensors)
        header = build_header(((n, d, s) for n, (d, s, _) in tensors.items()), {"format": "pt"})
        shard.write_bytes(header + b"".join(raw[2] for raw in tensors.values()))

    def swap(self, one: str, two: str) -> None:
        """Exchange the content of two tensors, wherever they lie."""
        raw = {name: read_file(self.shard_of(name))[name] for name in (one, two)}
        self.rebuild(self.shard_of(one), lambda tensors: tensors.update({one: raw[two]}))
        self.rebuild(self.shard_of(two), lambda tensors: tensors.update({two: raw[one]}))

    def remove(self, name: str) -> None:
        """Take a tensor out of its file and out of the index."""
        self.rebuild(self.shard_of(name), lambda tensors: tensors.pop(name))
        self.edit(INDEX, lambda index: index["weight_map"].pop(name))

    def edit(self, name: str, change: Callable[[dict[str, Any]], object]) -> None:
        """Change a JSON file."""
        value = json.loads((self.path / name).read_text())
        change(value)
        (self.path / name).write_text(json.dumps(value, indent=2))

    def sign(self) -> None:
        """Make all checksums right again, so that only the comparison can find the fault."""
        names = sorted(file.name for file in self.path.iterdir() if file.name != MANIFEST)
        sums = {n: hashlib.sha256((self.path / n).read_bytes()).hexdigest() for n in names}
        self.edit(MANIFEST, lambda manifest: manifest.update(checksums=sums))

    def verify(self, with_source: bool = True) -> Verification:
        return verify(self.path, self.source if with_source else None)
