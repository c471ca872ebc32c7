"""The page in a real browser: break everything, and see on it that nothing is lost."""

import re

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.parts.processes import until

from . import scenes
from .conftest import SAID, SLOTS


def answered(page):
    """What the page says at its top: published, answered, lost."""
    text = page.locator("#balance-text").inner_text()
    return tuple(int(number) for number in re.findall(r"(\d+) (?:published|answered|lost)", text))


@pytest.mark.timeout(300)  # far more than it needs, where two cores do not have other work
def test_a_hundred_through_every_trouble(up, page):
    """A hundred requests, a model that fails twice and a service that is killed: all are answered, and none is lost."""
    scenes.opened(page, up.page)
    scenes.everywhere(page, SLOTS)
    scenes.let_model(page, "slow")  # so that there is something to kill, however fast this machine is
    page.get_by_role("button", name="Kill the service").click()
    page.get_by_text(re.compile("The service is dead. Pub/Sub still has all")).wait_for()
    assert page.get_by_role("button", name="Kill the service").is_disabled()
    scenes.let_model(page, "works")
    page.get_by_text("All 110 requests are answered. Lost: 0.").wait_for(timeout=200_000)
    assert answered(page) == (110, 110, 0)
    told = {message["stage"] for message in everything(up).messages.values()}
    assert told == {"answered"}
    page.locator("#filter").get_by_text("delivered again").click()
    row = page.locator("#rows .row").first
    row.locator("summary").click()
    row.get_by_text("acknowledged").first.wait_for()  # it is drawn when it has opened
    story = row.locator(".details").inner_text()
    assert re.search(r"Delivery 1(: 503| broke off) .*Pub/Sub pushed it again\.", story, re.S), story
    assert re.search(r"Delivery \d: 204 after \d+\.\d s, acknowledged", story), story
    assert SAID in story


def everything(up):
    """All that the server tells a browser that comes now."""
    with up.watched() as watched:
        watched.next()
        return watched


def test_pictures_in_two_widths_and_both_schemes(up, page, tmp_path):
    """Nothing is wider than the screen, and nobody is shut out, in whatever width and scheme."""
    scenes.opened(page, up.page)
    scenes.publish(page, 10)
    scenes.at_least(page, scenes.IN_WORK, 1)
    for width in scenes.WIDTHS:
        for scheme in scenes.SCHEMES:
            (file,) = scenes.shots(page, tmp_path, [scheme], [width])
            assert file.stat().st_size > 10_000
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            found = Axe().run(page)
            assert found.violations_count == 0, found.generate_report()


def test_by_keyboard_alone(up, page):
    """Publish, break, mend, kill and read, without a mouse; where the focus is can be seen."""
    scenes.opened(page, up.page)
    before = answered(page)[0]
    page.get_by_label("Prompt").press("Enter")
    until(lambda: answered(page)[:2] == (before + 1, before + 1))
    page.locator("#modes input:checked").press("ArrowRight")
    page.get_by_text("The model says 500 to everything.").wait_for()
    page.locator("#modes input:checked").press("ArrowLeft")
    page.get_by_text("The model works.").wait_for()
    focused = page.locator("#modes input:checked + span")
    assert focused.evaluate("each => getComputedStyle(each).outlineWidth") == "3px"
    page.locator("#rows summary").first.press("Enter")
    page.get_by_text("Delivery 1: 204").wait_for()


def test_it_survives_a_reload_and_a_second_browser(up, page, browser):
    """The server knows everything: a page that comes later, or again, shows the same."""
    scenes.opened(page, up.page)
    scenes.publish(page, 1, "Only once")
    until(lambda: len(set(answered(page)[:2])) == 1)
    scenes.let_model(page, "slow")
    page.reload()
    page.get_by_text("Only once").first.wait_for()
    page.wait_for_selector("#modes input[value=slow]:checked", state="attached")
    with browser.new_context() as context:
        other = scenes.opened(context.new_page(), up.page)
        # The first page may have it from the form that the browser has filled again; this one has it from the server.
        other.wait_for_selector("#modes input[value=slow]:checked", state="attached")
        scenes.let_model(other, "works")
        # Before the other one goes, which may take along what it has not sent yet.
        page.wait_for_selector("#modes input[value=works]:checked", state="attached")


def test_a_prompt_is_text(up, page):
    """HTML in a prompt is shown, not obeyed."""
    scenes.opened(page, up.page)
    prompt = "<img src=x onerror=\"document.title='broken'\"><b>bold</b>"
    scenes.publish(page, 1, prompt)
    page.get_by_text(prompt).first.wait_for()
    assert page.locator("#rows b, #rows img").count() == 0
    assert page.title() == "inference-relay on this machine"


def test_what_the_form_refuses_is_said(up, page):
    """A prompt that is too long for the server is an alert, not silence."""
    scenes.opened(page, up.page)
    page.evaluate("document.getElementById('prompt').removeAttribute('maxlength')")
    scenes.publish(page, 1, "x" * 2001)
    page.get_by_role("alert").get_by_text("a prompt of 1 to 2000 characters is needed").wait_for()
    assert [text for text in page.complaints if "400" not in text] == []
    page.complaints.clear()  # the browser's own line on what was refused


def test_calm_for_those_who_want_it(up, browser):
    """With reduced motion nothing flies, shimmers or runs out; the countdown is text."""
    with browser.new_context(reduced_motion="reduce") as context:
        page = scenes.opened(context.new_page(), up.page)
        scenes.publish(page, 10)
        scenes.at_least(page, scenes.IN_WORK, 1)
        assert page.evaluate("document.getAnimations().length") == 0
