"""The page's server, as any program sees it: its events, its buttons, and whom it refuses."""

import http.client
import re
import socket
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.parts.processes import until

from .conftest import SAID, SLOTS

ROOT = Path(__file__).parents[2]
STATIC = ROOT / "handler/local/page/static"


def test_one_request_from_publish_to_answer(up):
    """Every stage is told, and at the end what the model said."""
    stages = set()
    with up.watched() as watched:
        watched.next()
        before = watched.state["totals"]["published"]
        up.publish("The sky is", priority="high")

        def is_answered(seen):
            stages.update(message["stage"] for message in seen.state["messages"])
            return len(seen.messages) == before + 1 and seen.last()["stage"] == "answered"

        watched.until(is_answered)
        # The reason is in the service's log, which comes on a way of its own.
        watched.until(lambda seen: all(attempt["reason"] for attempt in seen.last()["attempts"]))
    message = watched.last()
    assert {"model", "answered"} <= stages
    assert (message["prompt"], message["priority"]) == ("The sky is", "high")
    assert message["answer"] == {"status": 200, "text": f"{SAID}."}
    assert [(attempt["status"], attempt["reason"]) for attempt in message["attempts"]] == [(204, "answered")]
    assert watched.state["slots"]["limit"] == SLOTS
    assert watched.state["model_name"] == "slow-model"


def test_a_browser_that_comes_back_goes_on_where_it_was(up):
    """With the last id only what is newer is sent; with that of another run, everything."""
    up.publish("First")
    with up.watched() as first:
        first.until(lambda seen: seen.messages and {each["stage"] for each in seen.messages.values()} == {"answered"})
    up.publish("Second")
    with up.watched(first.last_id) as again:
        again.until(lambda seen: any(message["prompt"] == "Second" for message in seen.messages.values()))
        assert not again.state["all"]
        assert all(message["prompt"] != "First" for message in again.messages.values())
    with up.watched(f"other-{first.last_id.partition('-')[2]}") as new:
        assert new.next()["all"]
        assert len(new.messages) > len(again.messages)


def test_a_full_model_holds_a_line(up):
    """As many calls as there are slots; the rest waits in the line."""
    up.publish("Many", 40)
    with up.watched() as watched:
        watched.until(lambda seen: len(seen.state["slots"]["taken"]) == SLOTS and seen.state["stages"]["line"] > 0)
        numbers = watched.state["slots"]["taken"].values()
        assert {watched.messages[number]["stage"] for number in numbers} <= {"model", "publishing"}
        watched.until(lambda seen: sum(seen.state["stages"].values()) == 0)
        assert watched.state["totals"]["lost"] == 0


@pytest.mark.parametrize(
    ("mode", "statuses", "ends"),
    [("fails", {500}, "503"), ("hangs", {0}, "503"), ("away", set(), "503")],
)
def test_each_trouble_becomes_a_redelivery(up, mode, statuses, ends):
    """The message is given back, waits, and is answered once the model works."""
    assert up.post("model", {"mode": mode})[0] == 204
    with up.watched() as watched:
        watched.next()
        before = watched.state["totals"]["published"]
        up.publish(f"It {mode}")
        watched.until(lambda seen: len(seen.messages) > before and seen.last()["attempts"])
        if mode == "hangs":
            watched.until(lambda seen: seen.last()["stage"] == "model")
            up.post("model", {"mode": "away"})
        watched.until(lambda seen: seen.last()["stage"] == "again")
        assert watched.last()["wait"] >= 2
        assert up.post("model", {"mode": "works"})[0] == 204
        watched.until(lambda seen: seen.last()["stage"] == "answered")
    first = watched.last()["attempts"][0]
    assert (str(first["status"]), first["reason"], set(first["calls"])) == (ends, "model_failed", statuses)


def test_a_killed_service_loses_nothing(up):
    """What it held breaks off, is pushed again to the new one, and is answered."""
    up.post("model", {"mode": "slow"})
    up.publish("Killed", 12)
    with up.watched() as watched:
        watched.until(lambda seen: len(seen.state["slots"]["taken"]) == SLOTS)
        assert up.post("service/kill")[0] == 202
        watched.until(lambda seen: seen.state["service"]["state"] == "killed")
        with_service = ("line", "model", "pause", "publishing")
        watched.until(lambda seen: not any(seen.state["stages"][stage] for stage in with_service))
        watched.until(lambda seen: not seen.state["slots"]["taken"])  # nobody works for a caller that is gone
        up.post("model", {"mode": "works"})
        watched.until(lambda seen: seen.state["service"]["state"] == "running")
        watched.until(lambda seen: sum(seen.state["stages"].values()) == 0)
    assert watched.state["totals"]["lost"] == 0
    assert watched.state["service"]["kills"] == 1
    killed = [message["attempts"] for message in watched.messages.values() if message["prompt"] == "Killed"]
    assert [attempts[-1]["status"] for attempts in killed] == [204] * 12
    assert any((attempts[0]["status"], attempts[0]["trouble"]) == (0, "the connection broke") for attempts in killed)


# --- what it refuses


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"prompt": ""}, b"a prompt of 1 to 2000"),
        ({"prompt": "x" * 2001}, b"a prompt of 1 to 2000"),
        ({"prompt": 7}, b"a prompt of 1 to 2000"),
        ({"count": 101}, b"1 to 100 requests"),
        ({"count": 0}, b"1 to 100 requests"),
        ({"count": "1"}, b"1 to 100 requests"),
        ({"priority": "urgent"}, b"high, normal, low"),
        ({"model": " "}, b"the model's name"),
    ],
)
def test_orders_that_cannot_be_carried_out(up, fields, said):
    """It is said why, and nothing is published."""
    status, words = up.post("requests", {"prompt": "x", "count": 1, "priority": "low", "model": "m"} | fields)
    assert (status, said in words) == (400, True), words


@pytest.mark.parametrize(
    ("path", "data"), [("requests", b"no json"), ("requests", b"[]"), ("model", b'{"mode": "mad"}')]
)
def test_what_is_no_order(up, path, data):
    """Neither is a crash."""
    assert up.post(path, data)[0] == 400


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1", None])
@pytest.mark.parametrize("path", ["requests", "model", "service/kill"])
def test_other_sites_press_no_button(up, path, origin):
    """A form or a script of another site, or none that says where it is from."""
    assert up.post(path, {"mode": "fails"}, Origin=origin)[0] == 403
    with up.watched() as watched:
        watched.next()
    assert (watched.state["model"], watched.state["service"]["state"]) == ("works", "running")


@pytest.mark.parametrize(
    ("host", "status"), [("evil.example", 403), ("127.0.0.1.evil.example:80", 403), ("[::1", 403), ("localhost:9", 200)]
)
def test_names_that_were_rebound_to_this_machine(up, host, status):
    """Only names of this machine are served, on any port: a tunnel has its own."""
    connection = http.client.HTTPConnection(urlsplit(up.page).netloc, timeout=20)
    connection.request("GET", "/", headers={"Host": host})
    assert connection.getresponse().status == status
    connection.close()


def test_it_listens_on_this_machine_alone(up):
    """Nothing else reaches it, whatever it sends."""
    assert urlsplit(up.page).hostname == "127.0.0.1"
    with pytest.raises(OSError):  # noqa: PT011 - refused, or an address that a Mac does not have
        socket.create_connection(("127.0.0.2", urlsplit(up.page).port), 5)


def test_nothing_comes_from_elsewhere(up):
    """Neither script nor style nor font, inline or foreign; nobody may frame the page."""
    with urllib.request.urlopen(up.page, timeout=20) as response:
        policies = response.headers["Content-Security-Policy"].split(";")
        page = response.read().decode()
    policy = dict(one.strip().partition(" ")[::2] for one in policies)
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert {policy[name] for name in ("script-src", "style-src", "connect-src", "img-src")} == {"'self'"}
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert "http://" not in page
    assert "https://" not in page
    linked = re.findall(r'(?:src|href)="(/static/[^"]+)"', page)
    assert len(linked) >= 5
    for path in linked:
        with urllib.request.urlopen(up.origin + path, timeout=20) as file:
            assert file.read()


def test_so_many_browsers_and_no_more(up):
    """Each takes a connection; one too many is told so, and let in when another has gone."""

    def look():
        return urllib.request.urlopen(up.page + "events", timeout=20)

    with ExitStack() as browsers:
        for _ in range(32):
            browsers.enter_context(look())
        with pytest.raises(urllib.error.HTTPError, match="503") as error:
            look()
        error.value.close()
    until(lambda: look().close() is None)


# --- its words


def test_every_reason_has_its_words():
    """Each reason of the decision table (docs/behaviour.md) is told in plain words, and no other."""
    table = (ROOT / "docs/behaviour.md").read_text().partition("## The decision table")[2].partition("\n204 ")[0]
    reasons = set(re.findall(r"^\| `(\w+)` \|", table, re.M))
    words = (STATIC / "words.js").read_text().partition("export const WHY = {")[2].partition("};")[0]
    assert len(reasons) > 15
    assert set(re.findall(r"^  (\w+):", words, re.M)) == reasons


def test_every_mode_has_its_words():
    """Each way of breaking the model has a button, and says what it does."""
    page, words = (STATIC / "index.html").read_text(), (STATIC / "words.js").read_text()
    buttons = re.findall(r'name="mode" value="(\w+)"', page)
    assert buttons == ["works", "fails", "busy", "hangs", "slow", "away"]
    for table in ("MODES", "MODEL"):
        told = words.partition(f"export const {table} = {{")[2].partition("};")[0]
        assert re.findall(r"^  (\w+):", told, re.M) == buttons


def test_text_goes_in_as_text():
    """No script makes HTML or runs text as code, so that no prompt can."""
    scripts = {file.name: file.read_text() for file in STATIC.glob("*.js")}
    assert "main.js" in scripts
    for name, script in scripts.items():
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", script), (
            name
        )
        for imported in re.findall(r'from "\./(.+?)"', script):
            assert imported in scripts
