"""What the tests and the pictures do in the page, as a person would."""

import re

from tests.parts.processes import until

ANSWERED = "parseInt(document.getElementById('count-answers').textContent)"
COUNTING = (
    "document.getAnimations().filter(one => one.animationName === 'runs-out' && one.playState === 'running').length"
)
EXAMPLES = "document.getElementById('example').childElementCount"
IN_WORK = "document.querySelectorAll('.slot[data-taken=true]').length"
WIDTHS = {"desktop": (1280, 1000), "phone": (360, 800)}
SCHEMES = ("light", "dark")


def opened(page, url):
    """The page, which is told what happens from here on."""
    page.goto(url)
    page.wait_for_selector("#live[data-state=live]")
    until(lambda: page.get_by_label("Model", exact=True).input_value())
    return page


def publish(page, count, prompt=None):
    """Fill the form, and press one of its buttons."""
    if prompt:
        page.get_by_label("Prompt").fill(prompt)
    page.get_by_role("button", name=f"Publish {count}", exact=True).click()


def let_model(page, words):
    """Choose how the model is."""
    page.locator("#modes").get_by_text(words).click()


def at_least(page, what, count, seconds=90):
    """Wait until the page shows so many."""
    until(lambda: page.evaluate(what) >= count, seconds)


def stumble(page, count=10):
    """Let the model fail until so many messages wait to be pushed again, which one can read, and mend it."""
    let_model(page, "fails")
    at_least(page, COUNTING, count)
    page.get_by_text(re.compile(r"^again in \d\.\d s$")).first.wait_for()
    let_model(page, "works")


def everywhere(page, slots, *, is_second=False):
    """A moment with messages everywhere: in the line, in every slot, waiting for a redelivery, answered.

    Of several such moments the second, when some have been answered at a later attempt.
    """
    publish(page, 10)
    at_least(page, ANSWERED, 10)
    let_model(page, "slow")  # so that the line is long when it begins to fail, however slow this machine is
    publish(page, 100)
    at_least(page, IN_WORK, slots)
    stumble(page)
    if is_second:
        at_least(page, EXAMPLES, 1)
        stumble(page)
    at_least(page, IN_WORK, slots)


def shots(page, folder, scheme_names=SCHEMES, widths=tuple(WIDTHS)):
    """A picture for each width and scheme: the files."""
    files = []
    for width in widths:
        page.set_viewport_size(dict(zip(("width", "height"), WIDTHS[width], strict=True)))
        for scheme in scheme_names:
            page.emulate_media(color_scheme=scheme)
            page.evaluate("scrollTo(0, 0)")
            files.append(folder / f"page-{width}-{scheme}.png")
            page.screenshot(path=files[-1])
    return files
