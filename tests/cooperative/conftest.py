"""What only works where everything waits in greenlets, as in the service; tests/unit/test_cooperative.py runs it."""

from gevent import monkey

collect_ignore_glob = [] if monkey.is_module_patched("socket") else ["test_*.py"]
