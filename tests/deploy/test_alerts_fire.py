"""Each alert is raised by what it is for, and by nothing less: promtool evaluates its query on series made for it.

Cloud Monitoring evaluates the same PromQL; what it counts between two looks is a counter there as here.
"""

import pytest

from tests.deploy import promtool as tool

PUSH = '{project_id="my-project",subscription_id="inference-relay-push"}'
DEAD = '{project_id="my-project",subscription_id="inference-relay-dead-letters"}'
LOGGED = 'project_id="my-project",monitored_resource="cloud_run_revision"'
WAITING = f"pubsub_googleapis_com:subscription_num_undelivered_messages{PUSH}"
OUTSTANDING = f"pubsub_googleapis_com:subscription_num_outstanding_messages{PUSH}"
OLDEST = f"pubsub_googleapis_com:subscription_oldest_unacked_message_age{PUSH}"
LETTERS = f"pubsub_googleapis_com:subscription_num_undelivered_messages{DEAD}"


def pushed(response):
    """What Pub/Sub counts of pushes that got such a response."""
    return f'pubsub_googleapis_com:subscription_push_request_count{PUSH[:-1]},response_class="{response}"}}'


def logged(name, **labels):
    """A metric of log lines."""
    more = "".join(f',{label}="{value}"' for label, value in labels.items())
    return f"logging_googleapis_com:user_inference_relay_{name}{{{LOGGED}{more}}}"


def reason(word):
    """The lines with a reason."""
    return logged("pushes", reason=word)


ACK, REFUSED, LATE = pushed("ack"), pushed("remote_server_4xx"), pushed("deadline_exceeded")
# By alert: what raises it, one case after the other, and below what does not. In promtool's notation, a value a minute
# for an hour: 0+5x60 is a counter that grows by five a minute, 7x60 a gauge that stays at seven.
FIRES = {
    "waiting": [{OLDEST: "43201x60"}],
    "stalled": [
        {WAITING: "1x60", ACK: "900x60"},  # it was alive once
        {WAITING: "1x60"},  # and was not
        {WAITING: "1x60", ACK: "900x60", pushed("unreachable"): "0+9x60"},
    ],
    "slots-unused": [
        {WAITING: "200x60", OUTSTANDING: "40x60"},  # of 81 slots
        {WAITING: "82x60"},  # no push at all
    ],
    "dead-letter": [{LETTERS: "1x60"}],
    "error-answers": [
        {ACK: "0+100x60", reason("gave_up"): "0+6x60"},
        {
            ACK: "0+100x60",
            reason("gave_up"): "0+2x60",
            reason("model_timed_out"): "0+2x60",
            reason("response_too_large"): "0+2x60",
        },
        {ACK: "0+1x60", reason("model_timed_out"): "0+1x60"},
    ],
    "pushes-refused": [
        {ACK: "0+97x60", REFUSED: "0+3x60"},
        {ACK: "0+97x60", pushed("remote_server_5xx"): "0+3x60", reason("overdue"): "0+3x60"},
        {REFUSED: "0+1x60"},
    ],
    "near-deadline": [
        {ACK: "0+98x60", logged("late_pushes"): "0+2x60"},
        {ACK: "0+98x60", LATE: "0+2x60"},
    ],
    "tokens-refused": [{logged("tokens_refused"): "0+1x60", REFUSED: "0+1x60"}],
    "operator-errors": [
        {reason(word): "0+1x60"}
        for word in ("model_misconfigured", "publish_failed", "storage_failed", "keys_unavailable")
    ],
    "bug": [{logged("bugs"): "0x30 1x30"}],
    "ledger-away": [{logged("ledger_troubles"): "0+1x60"}],
}
QUIET = {
    "waiting": [{OLDEST: "43199x60"}, {OLDEST: "43201x2 0x58"}],
    "stalled": [
        {WAITING: "9x60", ACK: "0+1x60"},
        {WAITING: "9x60", ACK: "0x31 1x29"},  # one answer within half an hour
        {WAITING: "0x60", ACK: "900x60"},  # nothing to do
        {WAITING: "0x40 1x20", ACK: "900x60"},  # the first for hours
    ],
    "slots-unused": [
        {WAITING: "200x60", OUTSTANDING: "41x60"},
        {WAITING: "121x60", OUTSTANDING: "40x60"},  # no more wait than can be under way
        {WAITING: "4000x60", OUTSTANDING: "3000x60"},
        {WAITING: "0x60", OUTSTANDING: "0x60"},
    ],
    "dead-letter": [{LETTERS: "0x60"}, {WAITING: "9x60"}],
    "error-answers": [
        {ACK: "0+100x60", reason("gave_up"): "0+4x60"},
        {ACK: "0+100x60", reason("request_refused"): "0+50x60", reason("model_failed"): "0+50x60"},
        {ACK: "0x46 10x14", reason("gave_up"): "0x46 4x14"},  # four of ten are too few to tell
    ],
    "pushes-refused": [
        {ACK: "0+995x60", REFUSED: "0+5x60"},
        {ACK: "0+100x60", pushed("remote_server_5xx"): "0+50x60"},
        {ACK: "0x46 10x14", REFUSED: "0x46 4x14"},
    ],
    "near-deadline": [
        {ACK: "0+999x60", logged("late_pushes"): "0+1x60"},
        {ACK: "0x46 10x14", logged("late_pushes"): "0x46 4x14"},
    ],
    "tokens-refused": [
        {logged("tokens_refused"): "0+9x60", REFUSED: "0x60", ACK: "0+9x60"},  # strangers
        {logged("tokens_refused"): "0x60", REFUSED: "0+9x60"},  # the line is full
    ],
    "operator-errors": [
        {reason("publish_failed"): "0x50 9x10"},  # one bad moment
        {reason("model_failed"): "0+9x60"},
    ],
    "bug": [{logged("bugs"): "3x120"}, {reason("answered"): "0+9x60"}],
    "ledger-away": [{logged("ledger_troubles"): "0x50 3x10"}],
}
MORE = {"operator-errors": ["model_misconfigured", "publish_failed", "storage_failed", "keys_unavailable"]}


@pytest.fixture(scope="module")
def promtool(checker):
    """The alerts that are made without the sidecar."""
    return checker("with_ledger")


@pytest.fixture(scope="module")
def checker(watched, tmp_path_factory):
    """By a run of the plan: what evaluates its alerts after an hour of some series, and says what promtool does."""
    tool.needed()
    return lambda run: tool.made(watched[run].conditions, tmp_path_factory.mktemp("promtool"))


def test_there_are_cases_for_every_alert(watched):
    """Each has something that raises it, and something that nearly does."""
    assert FIRES.keys() == QUIET.keys() == watched["with_ledger"].policies.keys()


@pytest.mark.parametrize("name", FIRES)
def test_it_is_raised(promtool, name):
    """After an hour of that."""
    labels = [{"reason": word} for word in MORE.get(name, [])] or [{}] * len(FIRES[name])
    code, said = promtool([(name, series, [label]) for series, label in zip(FIRES[name], labels, strict=True)])
    assert code == 0, said


@pytest.mark.parametrize("name", QUIET)
def test_it_is_not_raised(promtool, name):
    """By less than that, nor by what passes."""
    code, said = promtool([(name, series, []) for series in QUIET[name]])
    assert code == 0, said


def test_a_wrong_expectation_is_found(promtool):
    """The check checks."""
    assert promtool([("waiting", {OLDEST: "43199x60"}, [{}])])[0] == 1
    assert promtool([("waiting", {OLDEST: "43201x60"}, [])])[0] == 1


SCRAPED = 'cluster="__run__",namespace="inference-relay",route="kubeai"'


def own(name, value):
    """A metric of the service's own, as the sidecar brings it."""
    return {f"inference_relay_{name}{{{SCRAPED}}}": value}


def test_the_service_tells_of_slots_that_pubsub_cannot_see(checker):
    """With the sidecar: pushes wait in the line while half of the slots are unused."""
    held = {WAITING: "3000x60", OUTSTANDING: "3000x60"}
    slots = own("slots", "81x60")
    cases = [
        ("slots-unused", held | slots | own("slots_in_use", "40x60") | own("waiting", "9x60"), [{"route": "kubeai"}]),
        ("slots-unused", held | slots | own("slots_in_use", "41x60") | own("waiting", "9x60"), []),
        ("slots-unused", held | slots | own("slots_in_use", "40x60") | own("waiting", "0x60"), []),
        ("slots-unused", {WAITING: "82x60"}, [{}]),
    ]
    code, said = checker("with_sidecar")(cases)
    assert code == 0, said
