"""The four rooms whose tests are themselves tested: which files they are, and what tests them."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

_CHECKPOINT = (
    *("blocks", "computed", "config_edits", "copied", "copying", "disk", "json_text"),
    *("kept_experts", "layerwise", "manifest", "output_files", "output_units", "parts"),
    *("planning", "renumbering", "resuming", "rewriting", "shard_file", "shard_writing"),
    *("side_files", "small_writing", "target", "work_folder"),
)

_OF_DEFINITIONS = (
    *("deepseek_relatives", "definitions", "moe_layers", "observing", "released_models"),
    *("router", "spec", "special_keys"),
)
_OF_LAYOUT = (
    *("explaining", "inspection", "layout", "longcat_flash", "planning", "rewriting"),
    "second_series",
)
_OF_REWRITING = (
    *("blocks", "computed", "config_edits", "copied", "copying", "disk", "inspection"),
    *("json_text", "layerwise", "longcat_flash", "manifest", "output_files", "output_units"),
    *("hostile_sources", "planning", "resuming", "rewriting", "second_series", "shard_writing"),
    *("side_files", "small_writing", "target", "work_folder"),
)

# Room -> its sources, as patterns.
SOURCES = {
    "criteria": ["easyep/criteria/*.py"],
    "selection": ["easyep/selection/*.py"],
    "layout": [
        "easyep/architectures/moe_layers.py",
        "easyep/architectures/router.py",
        "easyep/architectures/rules.py",
        "easyep/checkpoint/explaining.py",
        "easyep/checkpoint/layout.py",
        "easyep/checkpoint/moe_layer.py",
    ],
    "rewriting": [
        *(f"easyep/checkpoint/{name}.py" for name in _CHECKPOINT),
        "easyep/strict_json.py",
    ],
}

# Room -> the folders and files of tests that are meant for it. What prunes a model of every family
# reaches nearly all of it too, but takes minutes and says little about a single line.
TESTS = {
    "criteria": [
        "tests/criteria/test_family.py",
        "tests/criteria/test_pairwise.py",
        "tests/criteria/test_protocol.py",
        "tests/criteria/test_weights.py",
    ],
    "selection": ["tests/selection"],
    "layout": [
        *(f"tests/architectures/test_{name}.py" for name in _OF_DEFINITIONS),
        *(f"tests/checkpoint/test_{name}.py" for name in _OF_LAYOUT),
    ],
    "rewriting": [
        *(f"tests/checkpoint/test_{name}.py" for name in _OF_REWRITING),
        "tests/test_strict_json.py",
    ],
}


def sources(room: str) -> list[Path]:
    """The room's files, relative to the repository."""
    return sorted(path.relative_to(ROOT) for each in SOURCES[room] for path in ROOT.glob(each))
