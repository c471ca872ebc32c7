"""Dead letters, back to the requests topic: each published and confirmed before it is acked."""

import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from handler.batch.errors import CannotRun, NotAcked, NotTaken, OutcomeUnknown
from handler.batch.names import full_name, project_of, request_topic
from handler.batch.pubsub import MAX_BATCH_BYTES, Messages, Outgoing, Received, Subscription, Topic

_DEAD = "CloudPubSubDeadLetter"
_RESERVED = ("goog", "CloudPubSub")
_PREFIX = "dead_letter_"
_LEASE_SECONDS = 600
_TOGETHER = 100  # published in one request, and then acked


@dataclass(frozen=True, slots=True, kw_only=True)
class Which:
    """The dead letters that are meant: all that fit everything given. Ages are seconds since the request was published.

    `reason` is part of what Pub/Sub noted as the last error of the delivery; `attributes` are attributes' exact values.
    """

    older_than: float | None = None
    younger_than: float | None = None
    reason: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    count: int | None = None

    def fits(self, letter: Received, now: float) -> bool:
        """Whether this one is meant, but for the count."""
        age = now - published_first(letter)
        return (
            (self.older_than is None or age > self.older_than)
            and (self.younger_than is None or age < self.younger_than)
            and (self.reason is None or self.reason.lower() in reason_of(letter).lower())
            and all(letter.attributes.get(key) == value for key, value in self.attributes.items())
        )


@dataclass(slots=True)
class Found:
    """What was found: all that were looked at, those meant, and those published again. Times are seconds since 1970."""

    looked_at: int = 0
    meant: int = 0
    replayed: int = 0
    oldest: float | None = None
    newest: float | None = None
    reasons: Counter[str] = field(default_factory=Counter)

    def count(self, letter: Received) -> None:
        """Add one that is meant."""
        when = published_first(letter)
        self.meant += 1
        self.oldest, self.newest = min(self.oldest or when, when), max(self.newest or when, when)
        self.reasons[reason_of(letter) or "no error noted"] += 1


def published_first(letter: Received) -> float:
    """When the request was published that became this dead letter; its own time where that is not noted."""
    try:
        return datetime.fromisoformat(letter.attributes[f"{_DEAD}SourceTopicPublishTime"]).timestamp()
    except (KeyError, ValueError):
        return letter.published


def reason_of(letter: Received) -> str:
    """The last error of the delivery, as Pub/Sub noted it."""
    return letter.attributes.get(f"{_DEAD}SourceDeliveryErrorMessage", "")


def again(letter: Received) -> Outgoing:
    """The message to be published: the same, with the dead letter's own attributes under other names.

    `CloudPubSubDeadLetterSourceDeliveryCount` becomes `dead_letter_source_delivery_count`.
    """
    attributes = {key: value for key, value in letter.attributes.items() if not key.startswith(_RESERVED)}
    noted = {key.removeprefix(_DEAD): value for key, value in letter.attributes.items() if key.startswith(_DEAD)}
    attributes |= {f"{_PREFIX}{_snake(key)}": value for key, value in noted.items()}
    return Outgoing(letter.data, attributes, letter.ordering_key)


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


class _Pass:
    """One look through the dead letters. What is not replayed is leased meanwhile, and given back in the end."""

    def __init__(self, messages: Messages, topic: Topic | None, which: Which) -> None:
        self._messages, self._topic, self._which = messages, topic, which
        self._held: list[Received] = []
        self._seen: set[str] = set()
        self.found = Found()

    def run(self, quiet_seconds: float) -> None:
        """Look at all; it is over when nothing new has come for a while, or enough were found."""
        quiet_since = time.monotonic()
        try:
            while not self._enough() and time.monotonic() - quiet_since < quiet_seconds:
                if self._take(self._messages.next_ones(1_000, 0.5)):
                    quiet_since = time.monotonic()
        finally:
            # Given back only when nobody pulls here any more, or it would come straight back.
            self._messages.lease([*self._held, *self._messages.stop()], 0)

    def _enough(self) -> bool:
        return self._which.count is not None and self.found.meant >= self._which.count

    def _take(self, received: Sequence[Received]) -> bool:
        new = [each for each in received if each.message_id not in self._seen]
        self._seen.update(each.message_id for each in new)
        self._messages.lease(new, _LEASE_SECONDS)
        self._held += [Received(each.ack_id, b"", {}, "", each.message_id, 0.0) for each in new]
        self.found.looked_at += len(new)
        meant = self._meant(new)
        if self._topic:
            self._replay(self._topic, meant)
        return bool(new)

    def _meant(self, new: Sequence[Received]) -> list[Received]:
        meant = [each for each in new if self._which.fits(each, time.time())]
        if self._which.count is not None:
            meant = meant[: self._which.count - self.found.meant]
        for each in meant:
            self.found.count(each)
        return meant

    def _replay(self, topic: Topic, letters: Sequence[Received]) -> None:
        for together in _batches(letters):
            with self._told(topic.name, together):
                topic.publish([again(each) for each in together])
                self._messages.ack(together)
            self.found.replayed += len(together)
        gone = {each.message_id for each in letters}
        self._held = [each for each in self._held if each.message_id not in gone]

    @contextmanager
    def _told(self, topic: str, together: Sequence[Received]) -> Iterator[None]:
        """Whatever ends the work between a publish and its ack, the letters are named whose copies may be out."""
        until_now = f"{self.found.replayed} dead letters were replayed; then"
        try:
            yield
        except NotTaken as error:
            raise CannotRun(f"{until_now} {topic} took none of the next {len(together)}: {error}") from None
        except OutcomeUnknown as error:
            raise CannotRun(f"{until_now} {topic} did not confirm: {error}. {_twice(together)}") from None
        except NotAcked as error:
            raise CannotRun(
                f"{until_now} copies were published, and no ack taken: {error}. {_twice(together)}"
            ) from None
        except KeyboardInterrupt:
            raise CannotRun(f"{until_now} it was interrupted. {_twice(together)}") from None


def _twice(letters: Sequence[Received]) -> str:
    """What to do about letters of which nobody knows that they are both published and gone."""
    return (
        "Copies of the following may be with the relay, while they are still dead letters: another replay publishes "
        "them again, and the model is paid again. Before it, take those out that are answered: `gcloud pubsub "
        "subscriptions pull` shows a message's ack id, and `gcloud pubsub subscriptions ack --ack-ids` takes that. "
        f"Message ids: {', '.join(each.message_id for each in letters)}"
    )


def _batches(letters: Sequence[Received]) -> list[list[Received]]:
    batches: list[list[Received]] = []
    size = 0
    for letter in letters:
        if not batches or len(batches[-1]) == _TOGETHER or size + len(letter.data) > MAX_BATCH_BYTES:
            batches.append([])
            size = 0
        batches[-1].append(letter)
        size += len(letter.data) + 10_000
    return batches


def replay(
    subscription: str,
    topic: str | None = None,
    which: Which | None = None,
    *,
    project: str | None = None,
    go: bool = False,
    quiet_seconds: float = 10.0,
) -> Found:
    """Publish dead letters to the requests topic again and ack them, if `go`; otherwise only look. Raises CannotRun.

    It is over when nothing new has come for `quiet_seconds`.
    """
    source = full_name("subscriptions", subscription, project)
    target = request_topic(topic, project or project_of(source))
    with Subscription(source) as opened, Topic(target) as requests, opened.messages() as messages:
        work = _Pass(messages, requests if go else None, which or Which())
        work.run(quiet_seconds)
    return work.found
