"""A progress that remembers, and can fail in the middle."""


class Recorder:
    """Remembers what it is told; raises `error` as soon as `fail_at` units are done."""

    def __init__(self, fail_at: int | None = None, error: BaseException | None = None) -> None:
        self.tasks: list[tuple[str, int, str]] = []
        self.said: list[str] = []
        self.done = 0
        self.fail_at, self.error = fail_at, error

    def task(self, title: str, total: int, unit: str) -> "Recorder":
        self.tasks.append((title, total, unit))
        return self

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def say(self, sentence: str) -> None:
        self.said.append(sentence)

    def advance(self, amount: int = 1) -> None:
        self.done += amount
        if self.fail_at is not None and self.done >= self.fail_at and self.error:
            raise self.error
