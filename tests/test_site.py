"""The documentation site builds without a warning, holds all pages, and fetches nothing."""

import re
from pathlib import Path

import pytest

pytest.importorskip("mkdocs", reason="needs dualvit[docs]")
pytest.importorskip("material", reason="needs dualvit[docs]")
pytest.importorskip("mkdocstrings", reason="needs dualvit[docs]")

from mkdocs.commands.build import build
from mkdocs.config import load_config

ROOT = Path(__file__).resolve().parents[1]
PAGES = [page for page in (ROOT / "docs").rglob("*.md") if "theme" not in page.parts]
FETCHED = re.compile(
    r"<(?:script|img|iframe|link rel=\"(?:stylesheet|preconnect|icon)\")[^>]*(?:src|href)=\"(https?:|//)"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory, network_attempts):
    """The site; `strict` makes errors of links, anchors and pages that the navigation lacks."""
    folder, before = tmp_path_factory.mktemp("site"), list(network_attempts)  # of other tests in this process
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_MKDOCS_2_WARNING", "1")
        patch.chdir(ROOT)
        config = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder))
        assert config.strict
        config.plugins.on_startup(command="build", dirty=False)
        build(config)
    assert network_attempts == before
    return folder


@pytest.mark.slow
class TestSite:
    def test_each_page_is_there(self, site):
        for page in PAGES:
            name = page.relative_to(ROOT / "docs").with_suffix(".html")
            assert (site / (name.with_name("index.html") if name.stem == "README" else name)).is_file()
        for name in ("overview", "security", "contributing", "changes", "introduction.zh-CN"):
            assert (site / f"{name}.html").is_file()

    def test_nothing_is_fetched(self, site):
        pages = [file.read_text() for file in site.rglob("*.html")]
        assert len(pages) > len(PAGES)
        assert [match[0] for text in pages for match in FETCHED.finditer(text)] == []
        styles = "".join(file.read_text() for file in site.rglob("*.css"))
        assert not re.search(r"@import[^;]*//|url\(\"?(https?:)?//", styles)

    def test_the_reference_has_signatures_and_examples(self, site):
        text = (site / "api.html").read_text()
        for name in ("dualvit.create_model", "dualvit.fuse", "dualvit.yolo.YOLO", "dualvit.weights.convert"):
            assert name in text
        assert "&gt;&gt;&gt;" in text
        assert "dualvit_n" in text

    def test_the_home_page_has_a_figure_for_each_palette(self, site):
        text = (site / "index.html").read_text()
        assert {"light", "dark"} <= set(re.findall(r"pathways-(\w+)\.svg", text))

    def test_sources_of_the_theme_are_not_published(self, site):
        assert list(site.rglob("*.py")) == []
