"""The sum on docs/performance.md is the one that its program makes."""

import re

from tests.docs.pages import blocks, rows


def test_the_table_is_made_by_the_program():
    """Prompts, seconds and slots in; minutes and dollars out."""
    (text,) = (block.text for block in blocks("python") if block.page == "docs/performance.md")
    program = {}
    exec(compile(text, "docs/performance.md", "exec"), program)
    checked = 0
    for prompts, seconds, slots, minutes, gpu, relay in (row for row in rows("docs/performance.md") if len(row) == 6):
        if re.fullmatch(r"[\d,]+", prompts):
            sums = program["estimate"](int(prompts.replace(",", "")), float(seconds), int(slots))
            assert sums == (int(minutes), float(gpu), float(relay))
            checked += 1
    assert checked == 4
