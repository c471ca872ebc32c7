"""Whatever a page leads to is there, and whatever it tells to run can be read by what runs it."""

import json
import re
import subprocess

import pytest
import yaml

from tests.docs import pages
from tests.docs.pages import ROOT, blocks


def named(found):
    """Ids for a test of each block: the page and the line."""
    return [pytest.param(block.text, id=f"{block.page}:{block.line}") for block in found]


@pytest.mark.parametrize("page", pages.pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    """Every file that a page links to is there, and has the heading that the link names."""
    for link in pages.links(page):
        if link.startswith(("https://", "http://")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"links to {link}"
        assert not anchor or anchor in pages.anchors(target), f"links to {link}: no such heading"


# A path of the project without a link, or a test there.
PATH = re.compile(r"`((?:bench|docs|examples|handler|knative|terraform|tests)/[\w./-]+)(?:::\w+)?`")


@pytest.mark.parametrize("page", pages.pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_the_files_that_it_names_are_there(page):
    """What is written as a path of the project is one; the file of one's own variables is the exception."""
    named = set(PATH.findall(page.read_text())) - {"terraform/terraform.tfvars"}
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_anchors_are_those_of_github(tmp_path):
    """Small letters, hyphens for spaces, other signs left out; a second heading of the same name has a number."""
    page = tmp_path / "page.md"
    page.write_text(
        "# Beyond 10 MB\n\n## What `usage` costs: a, b\n\n## A & B\n\n## A & B\n\n```sh\n# no heading\n```\n"
    )
    assert pages.anchors(page) == {"beyond-10-mb", "what-usage-costs-a-b", "a--b", "a--b-1"}


def test_every_page_is_led_to():
    """docs/index.md links to every page of docs/."""
    led = {(ROOT / "docs" / link.partition("#")[0]).resolve() for link in pages.links(ROOT / "docs/index.md")}
    assert set((ROOT / "docs").glob("*.md")) - led == {ROOT / "docs/index.md"}


@pytest.mark.parametrize("text", named(blocks("sh", "bash")))
def test_the_shell_reads_its_blocks(text):
    """Each is something that a shell can run."""
    done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("text", named(blocks("python")))
def test_python_compiles_its_blocks(text):
    """Each is a program, or a part of one."""
    compile(text, "page", "exec")


@pytest.mark.parametrize("text", named(blocks("json")))
def test_json_is_json(text):
    """One object, or one a line."""
    try:
        json.loads(text)
    except json.JSONDecodeError:
        assert all(isinstance(json.loads(line), dict) for line in text.splitlines())


@pytest.mark.parametrize("text", named(blocks("yaml")))
def test_yaml_is_yaml(text):
    """One document, or several."""
    assert all(document is not None for document in yaml.safe_load_all(text))


def test_blocks_are_found():
    """In each language, and so the tests above have something to look at."""
    assert all(blocks(language) for language in ("sh", "python", "json", "yaml"))
