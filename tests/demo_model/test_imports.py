"""What only makes text does not load torch."""

from __future__ import annotations

import subprocess
import sys


def test_the_generators_do_not_import_torch() -> None:
    program = (
        "import sys, easyep.demo_model.corpus, easyep.demo_model.tokenizer;"
        "sys.exit(int('torch' in sys.modules or 'transformers' in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
