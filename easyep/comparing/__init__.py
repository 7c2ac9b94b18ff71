"""Two models on the same text: how far apart they are, token by token and answer by answer."""

from easyep.comparing.comparison import Comparison
from easyep.comparing.two_models import compare

__all__ = ["Comparison", "compare"]
