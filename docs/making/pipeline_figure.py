"""Draws `docs/figures/pipeline.svg`: the stages, and what travels between them.

python docs/making/pipeline_figure.py
"""

from html import escape
from pathlib import Path

FIGURE = Path(__file__).parents[1] / "figures" / "pipeline.svg"

# What is made, the command that makes it, what that does.
STAGES = (
    ("demonstrations", "demos", ("a domain or a file", "-> token sequences")),
    (
        "observations",
        "observe",
        ("the model runs; per layer,", "token and route: expert,", "weight, norm, shift"),
    ),
    ("scores", "score", ("a criterion:", "one number per expert")),
    ("selection", "select", ("a budget, the router's", "limits: kept experts", "of every layer")),
    ("checkpoint", "rewrite", ("byte ranges copied,", "experts numbered anew")),
    ("proof", "verify, eval, bench", ("bytes, accuracy,", "throughput, beside", "the source")),
)
WIDTH, HEIGHT, GAP, TOP = 196, 118, 30, 44


def draw() -> str:
    """The figure as SVG; its colours follow the reader's scheme."""
    width = len(STAGES) * (WIDTH + GAP) - GAP + 20
    parts = []
    for number, (made, command, lines) in enumerate(STAGES):
        x = 10 + number * (WIDTH + GAP)
        middle = x + WIDTH / 2
        if number:
            y = TOP + HEIGHT / 2
            parts.append(f'<path class="arrow" d="M{x - GAP + 3} {y}H{x - 9}"/>')
            parts.append(f'<path class="head" d="M{x - 3} {y}l-8 -5v10z"/>')
        parts.append(f'<rect x="{x}" y="{TOP}" width="{WIDTH}" height="{HEIGHT}" rx="8"/>')
        parts.append(f'<text class="made" x="{middle}" y="{TOP + 28}">{escape(made)}</text>')
        for row, line in enumerate(lines):
            y = TOP + 54 + 19 * row
            parts.append(f'<text x="{middle}" y="{y}">{escape(line)}</text>')
        parts.append(f'<text class="command" x="{middle}" y="{TOP - 12}">{escape(command)}</text>')
    below = TOP + HEIGHT + 34
    last = 10 + 4 * (WIDTH + GAP) - GAP
    for start, end, words in (
        (10, 10 + 2 * WIDTH + GAP, "needs the model, once"),
        (10 + 2 * (WIDTH + GAP), last, "seconds, from files, without the model"),
        (last + GAP, width - 10, "needs the checkpoint's files"),
    ):
        parts.append(f'<path class="arrow" d="M{start} {below - 18}v6H{end}v-6"/>')
        parts.append(f'<text x="{(start + end) / 2}" y="{below + 8}">{escape(words)}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {below + 20}" role="img" '
        'aria-label="From demonstrations to a proven checkpoint, in six stages">\n<style>\n'
        "rect{fill:#eef2fb;stroke:#3f51b5;stroke-width:1.5}\n"
        "text{font:14px sans-serif;fill:#333;text-anchor:middle}\n"
        ".made{font-weight:bold;font-size:16px;fill:#1a237e}\n"
        ".command{font-family:monospace;fill:#3f51b5}\n"
        ".arrow{fill:none;stroke:#3f51b5;stroke-width:1.5}.head{fill:#3f51b5}\n"
        "svg{background:#fff}\n"
        "</style>\n" + "\n".join(parts) + "\n</svg>\n"
    )


if __name__ == "__main__":
    FIGURE.write_text(draw(), encoding="utf-8")
