"""Links that leave `docs/` lead to copies inside the site.

A hook of mkdocs. Pages are read in the repository, too, where such links are right as they are.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

FOLDER = "repository"
_LINK = re.compile(r"(\]\()([^)#\s]+)((?:#[^)\s]*)?\))")


def outside(root: Path, page: Path) -> dict[str, str]:
    """Targets of a page's links to files of the repository outside `docs/` -> path from `root`."""
    found = {}
    for _, target, _ in _LINK.findall(page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        path = posixpath.normpath(posixpath.join(page.parent.relative_to(root).as_posix(), target))
        if not path.startswith(("docs/", "..")) and (root / path).is_file():
            found[target] = path
    return found


def on_files(files: Any, config: Any) -> Any:
    """Add every file that a page links to; Markdown is shown as text."""
    from mkdocs.structure.files import File

    root = Path(config.config_file_path).parent
    pages = Path(config.docs_dir).rglob("*.md")
    for path in sorted({path for page in pages for path in outside(root, page).values()}):
        name = f"{FOLDER}/{_name(path)}"
        files.append(File.generated(config, name, abs_src_path=str(root / path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Point the links to the copies."""
    if page.file.abs_src_path is None:
        return markdown
    root = Path(config.config_file_path).parent
    targets = outside(root, Path(page.file.abs_src_path))
    depth = page.file.src_uri.count("/")

    def replaced(link: re.Match[str]) -> str:
        before, target, after = link.groups()
        if target not in targets:
            return link.group(0)
        return f"{before}{'../' * depth}{FOLDER}/{_name(targets[target])}{after}"

    return _LINK.sub(replaced, markdown)


def _name(path: str) -> str:
    return f"{path}.txt" if path.endswith(".md") else path
