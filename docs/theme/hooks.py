"""What the site adds to the pages of docs/: those of the repository's root, and links that hold on both sides.

A page in docs/ links to `../SECURITY.md`, so that the link works where the files are read. On the site that page lies
beside the others.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[2]
PAGES = {  # in the repository, and on the site
    "SECURITY.md": "security.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changes.md",
    "README.md": "overview.md",
    "README.zh-CN.md": "introduction.zh-CN.md",
}
FILES = ("CITATION.cff", "LICENSE", "src/dualvit/yolo/LICENSE")
CHINESE = ".zh-CN."
LINK = re.compile(r"(?<=\]\()([^)\s#:]+)(?=[#)])|(?<=src=\")([^\":]+)(?=\")|(?<=srcset=\")([^\":]+)(?=\")")


def notebooks() -> list[str]:
    """Return the notebooks of the repository."""
    return sorted(str(file.relative_to(ROOT)) for file in (ROOT / "examples").glob("*.ipynb"))


def on_files(files: Any, config: Any) -> Any:
    """Add the pages and files that lie outside of docs/."""
    for source, page in {**PAGES, **{name: name for name in (*FILES, *notebooks())}}.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Point links at pages of the site, and let the home page and the Chinese pages be what they are."""
    here = page.file.src_uri
    if here == "index.md":
        page.meta |= {"hide": ["navigation", "toc"]}
    markdown = re.sub(r"<picture>.*?</picture>", both_figures, markdown, flags=re.DOTALL)
    source = {site: name for name, site in PAGES.items()}.get(here, f"docs/{here}")
    return LINK.sub(lambda match: site_link(match[0], source, here), markdown)


def on_page_content(html: str, page: Any, **_: Any) -> str:
    """Say that a page is Chinese: browsers choose the forms of its characters by it."""
    return f'<div lang="zh-CN">{html}</div>' if CHINESE in page.file.src_uri else html


def both_figures(picture: re.Match[str]) -> str:
    """Return a picture for each palette: the reader's choice on the site may differ from that of the system."""
    files = re.findall(r"src(?:set)?=\"([^\"]+)\"", picture[0])
    words = re.search(r"alt=\"([^\"]+)\"", picture[0])
    said = " ".join(words[1].split()) if words else ""
    return "\n".join(f"![{said}]({file}#only-{'dark' if 'dark' in file else 'light'})" for file in files)


def site_link(link: str, source: str, here: str) -> str:
    """Return where a link leads on the site.

    Args:
        link: As it stands on the page, without its anchor.
        source: The page in the repository.
        here: The page on the site.
    """
    target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
    known = {**PAGES, **{name: name for name in (*FILES, *notebooks())}}
    if target.startswith("docs/"):
        target = target.removeprefix("docs/")
    elif target in known:
        target = known[target]
    else:
        return link  # which the build names as one that leads nowhere
    return posixpath.relpath(target, posixpath.dirname(here) or ".")
