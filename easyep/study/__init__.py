"""Many pruned models from one calibration per domain, each evaluated: who keeps what."""

from easyep.study.design import Study
from easyep.study.run import run
from easyep.study.summary import Cell, summarise, to_json

__all__ = ["Cell", "Study", "run", "summarise", "to_json"]
