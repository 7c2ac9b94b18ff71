"""The demo that ships with easyep: a small DeepSeek-V3 model, its world and how both were made.

Nothing here imports torch except `training` and the modules that only it uses.
"""

from __future__ import annotations

from pathlib import Path

#: The trained checkpoint, in the layout of the Hugging Face hub.
MODEL_DIRECTORY = Path(__file__).parent / "model"
#: How it was trained and what was measured; outside of the checkpoint, for copies not to carry it.
REPORT = Path(__file__).parent / "training.json"
