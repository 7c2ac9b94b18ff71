"""What the model of a study was shown, and the scores that follow."""

import json
from collections.abc import Iterator
from pathlib import Path

from easyep import calibration, demonstrations, scoring
from easyep.artifacts import Observations, Scores
from easyep.criteria import needs_record
from easyep.errors import DemosError
from easyep.progress import SILENT, Progress
from easyep.recipe import Recipe
from easyep.source import Source
from easyep.study.design import Study


class Shown:
    """Observations of a study, made when they are first needed.

    Args:
        study: what is compared.
        source: the model.
        folder: a temporary folder, for demonstrations without answers.
        work_dir: where observations are kept; None keeps none.
    """

    def __init__(
        self,
        study: Study,
        source: Source,
        folder: Path,
        work_dir: Path | None = None,
        progress: Progress = SILENT,
    ) -> None:
        self._study = study
        self._source = source
        self._folder = folder
        self._work_dir = work_dir
        self._progress = progress
        self._seen: dict[tuple[str, int, int], dict[str, Observations]] = {}

    def scores(
        self, criterion: str, shown: str, n_demos: int, draw: int, seed: int
    ) -> Iterator[tuple[str, str, Scores]]:
        """(what was shown, the domain that it is for, scores), as `design.SHOWN` says."""
        domains = self._study.domains
        if not needs_record(criterion):
            found = scoring.score((), criterion, model=self._source, seed=seed)
            yield from (("nothing", domain, found) for domain in domains)
            return
        seen = self._observed(shown, n_demos, draw)
        tokens: scoring.Tokens = "response" if shown == "response" else "all"
        if shown in ("mixed", "max-min"):
            mix = "mean" if shown == "mixed" else shown
            mixed = scoring.score(list(seen.values()), criterion, model=self._source, mix=mix)
            yield from ((shown, domain, mixed) for domain in domains)
            return
        each = {
            name: scoring.score(one, criterion, model=self._source, tokens=tokens)
            for name, one in seen.items()
        }
        for domain in domains:
            if shown == "others":
                yield from ((name, domain, each[name]) for name in domains if name != domain)
            else:
                yield shown, domain, each["foreign" if shown == "foreign" else domain]

    def _observed(self, shown: str, n_demos: int, draw: int) -> dict[str, Observations]:
        """Domain -> observations; texts of no domain are called foreign."""
        kind = shown if shown in ("input", "foreign") else "own"
        if (kind, n_demos, draw) not in self._seen:
            study = self._study
            names, files = study.domains, [str(self._file(domain)) for domain in study.domains]
            if kind == "foreign":
                names, files = ("foreign",), [str(study.foreign)]
            elif kind == "input":
                files = [self._without_answers(domain) for domain in study.domains]
            recipe = Recipe(
                model=study.model,
                demos=tuple(files),
                dtype=study.dtype,
                device=study.device,
                n_demos=n_demos,
                seed=draw,
                batch_size=study.batch_size,
                trust_remote_code=study.trust_remote_code,
            )
            found = calibration.calibrate(
                recipe,
                self._source,
                criteria=[name for name in study.criteria if needs_record(name)],
                work_dir=self._work_dir,
                progress=self._progress,
            )
            self._seen[kind, n_demos, draw] = dict(zip(names, found, strict=True))
        return self._seen[kind, n_demos, draw]

    def _file(self, domain: str) -> Path:
        if self._study.demos is not None:
            return Path(self._study.demos.replace("{domain}", domain))
        return demonstrations.domain_file(domain, self._source.model.calibration)

    def _without_answers(self, domain: str) -> str:
        """A file with the domain's demonstrations up to the last answer."""
        path = self._folder / f"{Path(domain).name}-input.jsonl"  # a domain may be a path
        if not path.exists():
            lines = []
            for demo in demonstrations.read(self._file(domain)):
                content = dict(demo.content)
                if "messages" in content and content["messages"][-1]["role"] == "assistant":
                    content["messages"] = content["messages"][:-1]
                elif "prompt" in content:
                    content = {"text": content["prompt"]}
                else:
                    raise DemosError(f"{demo.origin}: there is no answer that could be left out")
                lines.append(json.dumps(content) + "\n")
            path.write_text("".join(lines), encoding="utf-8")
        return str(path)
