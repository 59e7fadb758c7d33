"""What mkdocs needs to make a site of pages that are written for the repository's host (mkdocs.yml, `hooks`).

README.md is the site's first page, and files beside docs/ that its pages link to are pages below repository/. A link from one
file of the repository to another is mended: to the page where there is one, else only its words stay. A link to no file is a
warning, which `mkdocs build --strict` fails on.
"""

from __future__ import annotations

import logging
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
BESIDE = (
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "deploy/*/README.md",
    "results/README.md",
    "results/*/*.png",
    "results/weights/*.md",
)
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^()\s]+)\)")
ITEM = re.compile(r"(- |\d+\. )")

log = logging.getLogger("mkdocs.hooks.site")


def beside() -> list[str]:
    """Files of the repository that the site has below repository/."""
    return sorted(str(path.relative_to(ROOT)) for pattern in BESIDE for path in ROOT.glob(pattern))


def on_files(files: Any, config: Any) -> Any:
    files.append(File.generated(config, "index.md", abs_src_path=str(ROOT / "README.md")))
    for name in beside():
        files.append(File.generated(config, f"repository/{name}", abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    there = {file.src_uri for file in files}
    return nested(LINK.sub(lambda link: mended(link, page.file.src_uri, there), markdown))


def mended(link: re.Match[str], uri: str, there: set[str]) -> str:
    """The link as it holds on the page with this address.

    Args:
        there: addresses of all files of the site.
    """
    image, words, target = link.groups()
    name, mark, anchor = target.partition("#")
    if not name or re.match(r"\w+:", name):
        return link.group()
    path = posixpath.normpath(posixpath.join(posixpath.dirname(path_of(uri)), name))
    if not (ROOT / path).exists():
        log.warning("%s links to %s, which is not there", path_of(uri), path)
    other = uri_of(path)
    if other in there:
        return f"{image}[{words}]({posixpath.relpath(other, posixpath.dirname(uri) or '.')}{mark}{anchor})"
    return words


def path_of(uri: str) -> str:
    """The file of the repository that a page of the site was made from."""
    if uri == "index.md":
        return "README.md"
    return uri.removeprefix("repository/") if uri.startswith("repository/") else f"docs/{uri}"


def uri_of(path: str) -> str:
    if path == "README.md":
        return "index.md"
    return path.removeprefix("docs/") if path.startswith("docs/") else f"repository/{path}"


def nested(markdown: str) -> str:
    """What belongs to an item of a list, moved to the four columns that Python-Markdown asks for; the host asks for two or three."""
    lines, more = [], 0
    for line in markdown.splitlines():
        if item := ITEM.match(line):
            more = 4 - len(item.group())
        elif line and not line.startswith(" "):
            more = 0
        lines.append(" " * more + line if more and line.startswith(" ") else line)
    return "\n".join(lines) + "\n"
