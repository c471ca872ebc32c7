"""The benchmark measures what it says: logs made by hand, and stand-ins against programs that do it wrong."""

import base64
import json
import subprocess
import sys
import textwrap
from dataclasses import replace

import pytest

from bench import figures, model
from bench.compare import Result
from bench.figures import Call, Figures, Seen, Usage
from bench.message import Mold, index_of, message_id
from bench.processes import ROOT, BenchError
from bench.report import TABLES, Report, ratios
from bench.run import measure
from bench.scenarios import BY_NAME, Kind, Scenario
from bench.summary import BEGIN, END, PAGE, summary, write
from bench.systems import peer

SMALL = Scenario("small", "", slots=16, mean_seconds=0.05, pushes=16)

# Answers each push as its argument says.
PEER = """
import asyncio, base64, json, os, sys
import grpc.aio
from aiohttp import ClientSession, web
from google.pubsub_v1 import types

seen = set()

async def handle(request):
    message = (await request.json())["message"]
    first = message["messageId"] not in seen
    seen.add(message["messageId"])
    asked = json.loads(base64.b64decode(message["data"]))
    odd = int(asked["body"]["user"]) % 2
    if first and sys.argv[1] == "refuses":
        if odd:
            request.transport.abort()
        return web.Response(status=503)
    if len(seen) > 50 and sys.argv[1] == "ends":
        os._exit(1)
    async with ClientSession() as session:
        await session.post(os.environ["MODEL_URL"] + asked["path"], json=asked["body"])
    attributes = {"request_message_id": message["messageId"]}
    for _ in range((0, 2)[odd] if sys.argv[1] == "miscounts" else 1):
        await publish(request_class(topic="t", messages=[{"data": b"{}", "attributes": attributes}]))
    return web.Response(status=204)

async def serve():
    global publish, request_class
    request_class = types.PublishRequest.pb()
    publish = grpc.aio.insecure_channel(os.environ["PUBSUB_EMULATOR_HOST"]).unary_unary(
        "/google.pubsub.v1.Publisher/Publish", request_class.SerializeToString, types.PublishResponse.pb().FromString
    )
    app = web.Application()
    app.router.add_post("/", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(os.environ["PORT"])).start()
    await asyncio.Event().wait()

asyncio.run(serve())
"""


def seen(**changes):
    """Two slots, three messages: 0 and 1 for 4 s, 2 for 2 s after 0; all in order."""
    calls = [Call(0, 0.9, 1.0, 5.0), Call(1, 1.9, 2.0, 6.0), Call(2, 5.5, 6.0, 8.0)]
    return replace(
        Seen(
            slots=2,
            calls=calls,
            sent=[0.5, 0.5, 5.25],
            answered=[5.25, 6.5, 9.0],
            published=[[0, 1], [2]],
            statuses={},
            usage=Usage(cpu_seconds=0.6, memory_before=1_000_000, memory_peak=5_000_000),
        ),
        **changes,
    )


def test_figures_of_a_log_made_by_hand():
    """Each figure is what counting on one's fingers gives."""
    found = figures.figures(seen(), pushes=2, body_bytes=1000)
    assert not found.problems
    # From 1.0 to 6.0 two slots have 10 s, of which 4 + 4 are used.
    assert found.utilisation == pytest.approx(0.8)
    assert found.utilisation_full == pytest.approx(7 / 8)  # from 2.0 on, when the second slot is taken: 3 + 4 of 8 s
    assert found.cpu_ms == pytest.approx(200)
    assert found.added_p50_ms == pytest.approx(1750)  # 0.75, 2.0, 1.75 s
    assert found.memory_per_push_mb == pytest.approx(2)
    assert found.publishes == pytest.approx(2 / 3)
    assert found.messages_per_second == pytest.approx(1 / 4.75)
    assert found.seconds == pytest.approx(8.5)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"published": [[0, 1]]}, "1 responses were lost"),
        ({"published": [[0, 1], [2], [1]]}, "1 responses came twice"),
        ({"published": [[0, 1], [2], [-1]]}, "1 responses belong to no message"),
        ({"answered": [5.25, None, 9.0]}, "1 pushes never got a 204"),
        ({"usage": Usage(1, 1, 1, {"sink": 8.0})}, "the bench's own sink was busy 94% of the time"),
    ],
)
def test_what_makes_a_run_not_count(changes, problem):
    """A message lost, doubled, unknown or unanswered, and a stand-in at its limit, are named."""
    assert figures.figures(seen(**changes), 2, 1000).problems == [problem]


def test_nothing_answered_is_a_problem_and_not_a_crash():
    """A run in which nothing happened says so."""
    assert figures.figures(seen(answered=[None] * 3), 2, 1000).problems == ("no message was answered",)


def test_slots_in_use_over_time():
    """The curve is the average of each part of the time."""
    calls = [Call(0, 0, 0.0, 2.0), Call(1, 0, 1.0, 3.5)]
    assert figures.in_use(calls, 0.0, 4.0, 4) == pytest.approx([1, 2, 1, 0.5])


def test_service_times_are_the_same_each_time_and_have_their_mean():
    """What is compared had the same to do."""
    times = model.service_times(20_000, 0.5)
    assert times == model.service_times(20_000, 0.5)
    assert times[:10] == model.service_times(10, 0.5)
    assert sum(times) / len(times) == pytest.approx(0.5, rel=0.02)


@pytest.mark.parametrize("size", [1000, 1001, 1002, 100_000])
def test_pushes_are_as_pubsub_sends_them_and_name_their_message(size):
    """Another handler can read them, and the model finds the index without reading JSON."""
    mold = Mold(8080, size)
    head, _, body = b"".join(mold.push(17)).partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    push = json.loads(body)
    message = push["message"]
    assert message["messageId"] == message["message_id"] == message_id(17)
    assert index_of(message["messageId"]) == model.index_of(body) == 17
    request = json.loads(base64.b64decode(message["data"], validate=True))
    assert len(request["body"]["prompt"]) == pytest.approx(size, rel=0.1)
    for text in (json.dumps(request["body"]), json.dumps(request["body"], separators=(",", ":"))):
        assert model.index_of(text.encode()) == 17
    assert mold.push(17) == mold.push(17)


@pytest.mark.parametrize("key", ["", "abc", "12", "9" * 20])
def test_ids_of_others_have_no_index(key):
    """What is not the bench's is not taken for it."""
    assert index_of(key) == -1


def test_report_survives_json_and_pairs_runs():
    """What was written can be shown again; a ratio is of two runs side by side."""
    one, other = Figures(utilisation=0.9, cpu_ms=1.0), Figures(utilisation=0.6, cpu_ms=2.0)
    bad = Figures(problems=("1 responses were lost",), utilisation=0.1)
    report = Report(
        {
            "date": "d", "revision": "r", "cpu": "c", "cores": 2, "memory_gb": 1.0, "kernel": "k", "python": "p",
            "load_average": [0.0], "packages": {},
        },
        [Result(BY_NAME["tight-64-0.5"], {"relay": [one, bad], "reference": [other, other]})],
    )  # fmt: skip
    again = Report.from_json(report.to_json())
    assert again.to_json() == report.to_json()
    assert "| tight-64-0.5 | 0.9000 | 0.6000 | 1.50 |" in again.to_markdown()
    assert again.problems == ["tight-64-0.5, relay, run 2: 1 responses were lost"]
    assert list(ratios(TABLES[0], [one, bad], [other, other])) == pytest.approx([1.5])
    assert "| 64, 0.5, 64 | 0.900 | - | 0.600 | 1.00 | 2.00 | 0.50 |" in summary(again)


def test_the_page_has_a_place_for_the_summary(tmp_path, monkeypatch):
    """Only what is between the marks is written anew."""
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}old\n{END}after\n")
    monkeypatch.setattr("bench.summary.PAGE", page)
    write(Report({"cpu": "c", "cores": 2, "python": "p"}, []))
    assert page.read_text().startswith(f"before\n{BEGIN}c, 2 cores, Python p:")
    assert page.read_text().endswith(f"{END}after\n")
    assert BEGIN in PAGE.read_text()


def test_scenarios_are_long_enough_and_cold_is_repeated():
    """A run lasts for some requests a slot."""
    assert BY_NAME["tight-512-2"].messages(24) == 6144
    assert BY_NAME["headroom-64-0.5"].pushes == 71
    assert BY_NAME["cold"].kind is Kind.COLD
    assert BY_NAME["cold"].least_runs > 1


@pytest.fixture
def other(tmp_path):
    script = tmp_path / "peer.py"
    script.write_text(textwrap.dedent(PEER))
    return lambda how: peer(f"peer={sys.executable} {script} {how}")


def test_each_message_must_be_answered_once(other):
    """A program that loses or doubles responses is found out."""
    problems = ["80 responses were lost", "80 responses came twice"]
    assert measure(SMALL, other("miscounts"), seconds=0.5).problems == problems


def test_what_is_not_a_204_is_counted_and_pushed_again(other):
    """As Pub/Sub does it; a program that answers each message once in the end has no problem."""
    found = measure(SMALL, other("refuses"), seconds=0.5)
    assert found.problems == []
    assert found.statuses == {"503": 80, "broken": 80}
    assert found.added_p50_ms > 100


def test_a_program_that_ends_is_noticed(other):
    """At once, with the end of its log, and not after a minute of silence."""
    with pytest.raises(BenchError, match="has ended while it got pushes"):
        measure(SMALL, other("ends"), seconds=1)


def test_without_valgrind_nothing_is_counted():
    """It says what to install."""
    command = [sys.executable, "-m", "bench.instructions"]
    ran = subprocess.run(command, cwd=ROOT, env={"PATH": ""}, capture_output=True, text=True, check=False)
    assert (ran.returncode, "install your system's package" in ran.stderr) == (1, True)
