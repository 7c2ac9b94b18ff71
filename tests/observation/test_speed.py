"""What stands beside the bar of a streaming run."""

from pathlib import Path

from easyep.observation.speed import Speed
from easyep.observation.weights.partial import PartialModel
from easyep.progress import SILENT
from easyep.source import Source
from tests.tiny_models import build


class Bar:
    """A task that remembers."""

    def __init__(self) -> None:
        self.done, self.notes = 0, list[str]()

    def advance(self, amount: int = 1) -> None:
        self.done += amount

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_speeds(tmp_path: Path) -> None:
    source = Source.open(build("qwen3_moe", tmp_path / "m"))
    model, bar = PartialModel(source.checkpoint, source.layout), Bar()
    speed = Speed(bar, model.reader, 300, 3)
    speed.begins(1)
    speed.passed(600)
    model.reader.bytes_read += 40_000_000
    assert bar.done == 600
    assert len(bar.notes) == 1  # not twice in a second
    line = speed.line(10.0)
    assert line.startswith("layer 2 of 3, 20.0 tokens/s, 4 MB/s read, ")
    with SILENT.task("nobody looks", 1, "tokens") as task:
        Speed(task, model.reader, 300, 3).begins(0)
