"""The pages build as a site, strictly."""

import subprocess
import sys
from pathlib import Path

from tests.docs.pages import ROOT

BIN = Path(sys.executable).parent


def test_the_site_builds():
    """`make site` finds nothing wrong, and makes a page of each."""
    made = ["make", "--old-file=.venv/.dev", "--old-file=.venv/.local", f"BIN={BIN}", "site"]
    done = subprocess.run(made, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for page in (ROOT / "docs").glob("*.md"):
        assert (ROOT / "build/site/docs" / page.with_suffix(".html").name).exists()


def test_a_wrong_link_fails_the_build(tmp_path):
    """The check checks: a file, and a heading."""
    (tmp_path / "pages").mkdir()
    (tmp_path / "mkdocs.yml").write_text("site_name: test\ndocs_dir: pages\nsite_dir: site\n")

    def builds(text):
        (tmp_path / "pages/index.md").write_text(text)
        built = [BIN / "zensical", "build", "--strict", "--clean"]
        return subprocess.run(built, cwd=tmp_path, capture_output=True, timeout=100, check=False).returncode == 0

    assert builds("# Here\n\n[here](index.md#here)\n")
    assert not builds("# Here\n\n[nowhere](nowhere.md)\n")
    assert not builds("# Here\n\n[nowhere](index.md#nowhere)\n")
