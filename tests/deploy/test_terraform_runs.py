"""The test runs of terraform/modules/relay: what it plans, and which values it refuses."""

import re

import pytest

from tests.deploy.terraform_run import RELAY, RUN, TERRAFORM

# What these ask for is known only once it is made. What the others ask for is known of a plan; to make it, which with a
# mocked provider is to make up the rest, would take as long again.
MADE = {
    "cloudrun.tftest.hcl": {"as_asked", "files", "check"},
    "iam.tftest.hcl": {"defaults"},
    "knative.tftest.hcl": {"as_asked", "defaults"},
    "ledger.tftest.hcl": {"defaults", "encrypted"},
    "pubsub.tftest.hcl": {"control_messages", "defaults"},
    "routes.tftest.hcl": {"private_cloud_run_service", "several_models", "topics_and_headers", "vertex"},
    "storage.tftest.hcl": {"defaults", "everything"},
    "streams.tftest.hcl": {"of_each_kind"},
}
# What is made to watch the relay is looked at by other tests too, whatever it is: all of these are.
WATCHED = "monitoring.tftest.hcl"
# Values that the rest of the module hands on as they are given; what there is to work out of them is in capacity.tf.
SUMS = {"cpu", "memory", "model_slots", "max_instances", "max_attempts", "max_age_seconds"}
SUMS |= {"margin_seconds", "model_timeout_seconds"}
GIVEN = re.compile(r"^    (\w+) +=", re.M)


def is_refused(text: str) -> bool:
    """Whether a run is about a value that is wrong."""
    return "expect_failures = [var." in text


def is_judged(text: str) -> bool:
    """Whether a run needs only what judges values: those of a plan that is stopped there, and bounds that are sums."""
    return is_refused(text) or ("assert {" not in text and set(GIVEN.findall(text)) <= SUMS)


# The text of each run, by the test file that it is in.
RUNS = {
    path.name: [one[0] for one in RUN.finditer(path.read_text())]
    for path in sorted((TERRAFORM / RELAY / "tests").iterdir())
}
JUDGED = [file for file, runs in RUNS.items() if any(map(is_judged, runs))]
PLANNED = [file for file, runs in RUNS.items() if not all(map(is_judged, runs))]


def passed(count: int) -> str:
    return f"Success! {count} passed, 0 failed."


@pytest.mark.parametrize("file", sorted(set(PLANNED) - {WATCHED}))
def test_the_relay_is_planned_as_promised(broken, file):
    """Every other run, of the whole module."""
    kept = broken.keep_runs(file, lambda _name, text: not is_judged(text))
    made = MADE.get(file, set())
    broken.plan_alone(file, made)

    assert made <= set(kept)
    assert passed(len(kept)) in broken.test(f"-filter=tests/{file}", at=RELAY)


def test_what_watches_it_is_made_as_promised(monitoring):
    assert passed(len(RUNS[WATCHED])) in monitoring[-1]["@message"]


@pytest.mark.parametrize("file", JUDGED)
def test_a_value_is_judged(broken, file):
    """A wrong one is refused, at its variable and at no other; one at its bound is taken.

    A plan of a wrong value gets no further: the files that judge values are enough for it.
    """
    broken.keep_limits()
    kept = broken.keep_runs(file, lambda _name, text: is_judged(text))

    assert passed(len(kept)) in broken.test(f"-filter=tests/{file}", at=RELAY)


def test_every_run_is_seen():
    """What is left out above is so by its text, and never because it was not found."""
    for file, found in RUNS.items():
        text = (TERRAFORM / RELAY / "tests" / file).read_text()
        assert len(found) == len(re.findall(r"^\s*run\b", text, re.M)) > 0
