"""The subscription that answers wait in: how long they may, and that it is there before they are paid for."""

import pytest
from google.api_core import exceptions

from handler import batch
from handler.batch import pubsub
from handler.batch.errors import CannotRun
from handler.batch.pubsub import Subscription

from .conftest import openai_line, states, write_lines


def test_answers_wait_for_as_long_as_pubsub_keeps_any(place, brokers):
    """A batch's own subscription keeps answers for 31 days, and is there for as long as any could be in it.

    Google's emulator refuses to keep anything for longer than 7 days, and has the batch all the same.
    """
    requests = write_lines(place.folder / "requests.jsonl", [openai_line("a")])
    done = place.run("batch", "submit", requests, "-o", place.folder / "answers.jsonl", "--batch-id", "b1")
    assert done.returncode == 0, done.stderr
    made = place.subscriber.get_subscription(subscription=place.name("subscriptions", "relay-b1"))
    assert made.message_retention_duration.days == (31 if place.address == brokers("local") else 7)
    if place.address == brokers("local"):
        assert made.expiration_policy.ttl.days >= 2 * 31  # a request waits for that long at most, and then its answer


def test_a_subscription_that_is_there_keeps_answers_as_long(local_place):
    """That of a batch that an earlier version began is the batch's own, too."""
    name, topic = local_place.subscribe("mine", "responses"), local_place.name("topics", "responses")
    with Subscription(name) as subscription:
        subscription.create(topic, "")
    assert local_place.subscriber.get_subscription(subscription=name).message_retention_duration.days == 31


class Judging:
    """A client that may make a subscription, and refuses to keep anything for long; it may not change one either."""

    def __init__(self, refused):
        self.made, self._refused = [], refused

    def create_subscription(self, request, **_):
        self.made.append("message_retention_duration" in request)
        if self.made[-1]:
            raise self._refused("the retention")

    def update_subscription(self, *_, **__):
        raise exceptions.PermissionDenied("no")


@pytest.mark.parametrize(
    ("refused", "emulator", "made"),
    [
        (exceptions.InvalidArgument, "127.0.0.1:1", [True, False]),
        (exceptions.InvalidArgument, "", None),
        (exceptions.AlreadyExists, "", [True]),
    ],
)
def test_nothing_is_kept_for_less_unnoticed(monkeypatch, refused, emulator, made):
    """Only an emulator's subscription keeps answers for less than 31 days; one that is there is taken as it is."""
    client = Judging(refused)
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", emulator)
    monkeypatch.setattr(pubsub, "_client", lambda *_: client)
    subscription = Subscription("projects/p/subscriptions/s")
    if made is None:
        with pytest.raises(CannotRun, match=r"no subscription could be made.*the retention"):
            subscription.create("projects/p/topics/t", "")
    else:
        subscription.create("projects/p/topics/t", "")
        assert client.made == made


def test_submit_sends_nothing_that_nobody_could_read(local_place, files):
    """A given subscription that is not there ends `submit` before anything is published."""
    write_lines(files.requests, [openai_line("a")])
    done = local_place.run("batch", "submit", files.requests, "-o", files.answers, "--subscription", "misspelt")
    assert (done.returncode, "misspelt does not exist" in done.stderr) == (2, True), done.stderr
    assert states(files.journal)["pending"] == 1
    assert local_place.calls() == []


class Refusing:
    """A client whose pulls are refused."""

    def __init__(self, error):
        self._error = error

    def pull(self, **_):
        raise self._error


@pytest.mark.parametrize(
    ("error", "by_reader", "is_refused"),
    [
        (exceptions.NotFound("gone"), True, True),
        (exceptions.NotFound("gone"), False, True),
        (exceptions.FailedPrecondition("it pushes"), False, True),
        (exceptions.PermissionDenied("no"), True, True),
        (exceptions.PermissionDenied("no"), False, False),
        (exceptions.DeadlineExceeded("none waits"), True, False),
    ],
)
def test_what_is_seen_of_a_subscription(monkeypatch, error, by_reader, is_refused):
    """Whoever reads has to be allowed to; whoever only sends need not be, but what is not there is nobody's."""
    monkeypatch.setattr(pubsub, "_client", lambda *_: Refusing(error))
    subscription = Subscription("projects/p/subscriptions/s")
    if is_refused:
        with pytest.raises(CannotRun, match="projects/p/subscriptions/s"):
            subscription.see(by_reader=by_reader)
    else:
        subscription.see(by_reader=by_reader)


class Counting:
    """Pub/Sub's own client, and how many messages its pulls ask for."""

    def __init__(self, client, asked):
        self._client, self._asked = client, asked

    def __getattr__(self, name):
        return getattr(self._client, name)

    def pull(self, request, **given):
        self._asked.add(request["max_messages"])
        return self._client.pull(request, **given)


@pytest.mark.parametrize(("fetch_bodies", "most"), [(True, 20), (False, 1_000)])
def test_how_many_are_pulled_at_once(local_place, files, monkeypatch, fetch_bodies, most):
    """Where each may take seconds to fetch, few are leased while they wait behind others; else as many as may be."""
    asked, client = set(), pubsub._client
    monkeypatch.setattr(pubsub, "_client", lambda *given: Counting(client(*given), asked))
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", local_place.project)
    write_lines(files.requests, [openai_line("a")])
    assert batch.run(str(files.requests), str(files.answers), batch.Options(fetch_bodies=fetch_bodies)).answered == 1
    assert asked == {most}
