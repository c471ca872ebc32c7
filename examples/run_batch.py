"""Runs a batch from Python.

python examples/run_batch.py batch.jsonl answers.jsonl
"""

import sys

from handler import batch

if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    options = batch.Options(in_order=True, max_in_flight=1_000)
    summary = batch.run(sys.argv[1], sys.argv[2], options, wrong=lambda problem: print(problem, file=sys.stderr))
    print(f"{summary.answered} of {summary.total} answered, {summary.failed} failed: {dict(summary.failed_by_code)}")
    sys.exit(summary.exit_status)
