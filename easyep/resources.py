"""Where easyep's own data lies: in the repository, or in the installed package."""

from pathlib import Path

_PACKAGE = Path(__file__).parent


def folder(name: str) -> Path:
    """The folder `name`: ``calibration_data``, ``recipes``, ``eval`` or one inside of that.

    A wheel carries these folders inside the package; an editable install finds them beside it.
    """
    packaged = _PACKAGE / "_data" / name
    return packaged if packaged.is_dir() else _PACKAGE.parent / name


def demo_model() -> Path:
    """The small trained model that comes with easyep."""
    return _PACKAGE / "demo_model" / "model"
