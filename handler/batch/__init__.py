"""A file of requests in, a file of answers out: the requester's side of the relay."""

from handler.batch.api import cancel, check, collect, retry, run, status, submit
from handler.batch.errors import CannotRun
from handler.batch.options import Options
from handler.batch.work.summary import Price, Summary

__all__ = [
    "CannotRun",
    "Options",
    "Price",
    "Summary",
    "cancel",
    "check",
    "collect",
    "retry",
    "run",
    "status",
    "submit",
]
