"""Prometheus' promtool: evaluates alerts on series that are made for it."""

import shutil
import subprocess
from pathlib import Path

import yaml

from tests.parts.processes import missing


def needed():
    """Skip a test where there is no promtool; CI has one."""
    if shutil.which("promtool") is None:
        missing("there is no promtool on the PATH (Debian has it in the package prometheus)")


def made(conditions, scratch):
    """Evaluates cases with these alerts."""
    return lambda cases: evaluated(scratch, conditions, cases)


def rules(conditions, names):
    """Those of the alerts that are asked about: each that is not would be evaluated all the same."""
    return [
        {"alert": name, "expr": query, "for": seconds} for name, (query, seconds) in conditions.items() if name in names
    ]


def evaluated(scratch: Path, conditions, cases):
    """What promtool says of some cases: the name of an alert, the series, and the labels of what they should raise."""
    asked = rules(conditions, {name for name, *_ in cases})
    (scratch / "rules.yaml").write_text(
        yaml.safe_dump({"groups": [{"name": "relay", "interval": "1m", "rules": asked}]})
    )
    tests = [
        {
            "interval": "1m",
            "input_series": [{"series": one, "values": values} for one, values in series.items()],
            "alert_rule_test": [
                {"eval_time": "58m", "alertname": name, "exp_alerts": [{"exp_labels": labels} for labels in expected]}
            ],
        }
        for name, series, expected in cases
    ]
    (scratch / "test.yaml").write_text(
        yaml.safe_dump({"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": tests})
    )
    done = subprocess.run(
        ["promtool", "test", "rules", "test.yaml"], cwd=scratch, capture_output=True, text=True, check=False, timeout=60
    )
    return done.returncode, done.stdout + done.stderr
