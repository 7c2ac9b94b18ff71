"""How much the kept set depends on which demonstrations were shown, and on the domain.

The studies of EASY-EP (arXiv 2504.06792): the overlap of the top-M set against the number of
demonstrations, between data sets of one domain, and between domains.
"""

from easyep.overlap.findings import Stability
from easyep.overlap.study import stability

__all__ = ["Stability", "stability"]
