"""The backlog's figures, and a small one drained by each of the systems."""

from dataclasses import replace

import pytest

from bench.backlog import report, run
from bench.backlog.figures import Figures, Seen, figures
from bench.backlog.scenarios import SCENARIOS, SYSTEMS, Backlog
from bench.figures import Call

REFUSES = "relay-refuses"
SMALL = Backlog(name="small", messages=60, seconds=0.2, slots=8)


def seen(**changes):
    """Two slots, four messages of 2 s: one at first, all slots from 3.0 on, the last response at 7.25."""
    calls = [Call(0, 0.9, 1.0, 3.0), Call(1, 3.0, 3.0, 5.0), Call(2, 3.0, 3.0, 5.0), Call(3, 5.0, 5.0, 7.0)]
    return replace(
        Seen(
            messages=4,
            slots=2,
            ideal_seconds=4.0,
            calls=calls,
            responses=[(0, 3.25), (1, 5.25), (2, 5.25), (3, 7.25)],
            answers={"204": 4, "429": 3, "0": 1, "503": 1},
            deliveries={"1": 2, "3": 1, "4": 1},
            dead_lettered=0,
            outstanding=3,
            outstanding_at=1.0,
            ended=None,
            health=[(0.5, 0.002), (2.0, 0.5), (6.5, 0.004)],
            memory_before=1_000_000,
            memory_peak=3_000_000,
        ),
        **changes,
    )


def test_figures_of_a_log_made_by_hand():
    """Each figure is what counting on one's fingers gives."""
    found = figures(seen())
    assert not found.problems
    assert found.seconds == pytest.approx(6.35)
    assert found.start_seconds == pytest.approx(2.1)
    assert found.over_ideal == pytest.approx(4.25 / 4)
    assert found.slots_share == pytest.approx(1.0)  # both from 3.0 on, until the last call began at 5.0
    assert (found.refused, found.other_nacks) == (3, 2)
    assert (found.deliveries_median, found.deliveries_most) == (3, 4)
    assert (found.health_median_ms, found.health_rush_ms, found.health_full_ms) == (4, 500, 4)
    assert found.memory_above_idle_mb == pytest.approx(2)


@pytest.mark.parametrize(
    ("changes", "problems"),
    [
        ({"responses": [(0, 3.0), (1, 5.0), (2, 5.0)]}, ["1 responses were lost"]),
        ({"responses": [(0, 3.0), (1, 5.0), (2, 5.0)], "ended": 6.0}, []),  # broken off: there was no time for it
        ({"responses": [(0, 3.0), (0, 3.0), (1, 5.0), (2, 5.0), (3, 7.0)]}, ["1 responses came twice"]),
        ({"responses": [(-1, 3.0), (0, 3.0), (1, 5.0), (2, 5.0), (3, 7.0)]}, ["1 responses belong to no message"]),
        ({"responses": []}, ("no message was answered",)),
    ],
)
def test_what_makes_a_run_not_count(changes, problems):
    """A message lost, doubled or unknown is named."""
    assert figures(seen(**changes)).problems == problems


def test_a_run_that_was_broken_off_has_no_time_over_ideal():
    """Its slots are counted to its end."""
    found = figures(seen(ended=9.0))
    assert (found.broken_off, found.over_ideal) == (True, None)
    assert found.slots_share == pytest.approx(6 / 12)


def test_a_model_that_was_never_full_has_no_start():
    """There is nothing to divide by."""
    found = figures(seen(slots=9))
    assert (found.start_seconds, found.over_ideal, found.slots_share) == (None, None, None)


def test_the_report_keeps_the_last_run_of_each_kind(tmp_path):
    """Runs are added to what is there; everything survives JSON; the picture is the same for the same figures."""
    machine = {
        "date": "d", "revision": "r", "cpu": "c", "cores": 2, "python": "p", "load_average": [0.0],
    }  # fmt: skip
    old, new = (report.Result("5000x2", "ack", "relay", machine, Figures(answered=number)) for number in (1, 4217))
    other = report.Result("1500x1", "", "pull", machine, figures(seen()))
    whole = report.Report([]).having(old).having(other).having(new)
    report.save(whole, tmp_path)
    again = report.Report.read(tmp_path)
    assert again.to_json() == whole.to_json()
    assert [one.scenario for one in again.results] == ["1500x1", "5000x2"]
    assert "| ack | relay | 4,217 |" in again.to_markdown()
    picture = (tmp_path / "backlog.svg").read_bytes()
    report.save(again, tmp_path)
    assert (tmp_path / "backlog.svg").read_bytes() == picture


# Without the line Pub/Sub's growing pauses decide, which would be 40 s, and minutes on a busy machine: a tenth of them.
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("system", "divisor"), [(name, 1 if name == "pull" else 10) for name in SYSTEMS])
def test_each_system_drains_a_small_backlog(system, divisor):
    """Every message is answered once; with the line nothing is refused."""
    found = run.measure(replace(SMALL, divisor=divisor), "ack", system, limit=270)
    assert (found.problems, found.answered, found.broken_off) == ([], 60, False)
    assert (found.refused > 0) == (system == REFUSES)


def test_compressed_scenarios_have_all_times_divided():
    """The relay's settings too."""
    tenth, real = SCENARIOS["2000x30-tenth"], SCENARIOS["2000x30"]
    assert tenth.seconds * tenth.divisor == real.seconds
    for name in ("ACK_DEADLINE_SECONDS", "MODEL_TIMEOUT_SECONDS", "PUBLISH_TIMEOUT_SECONDS", "MARGIN_SECONDS"):
        assert float(tenth.environment[name]) * 10 == float(real.environment[name])
