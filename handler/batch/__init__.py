"""A file of requests in, a file of answers out: the requester's side of the relay."""

from handler.batch.api import cancel, cancel_sent, check, collect, retry, run, status, submit
from handler.batch.asking import NoAnswer, Where, ask
from handler.batch.controlling import NotDone, Reply, cancel_requests, requests_status
from handler.batch.errors import CannotRun
from handler.batch.options import Options
from handler.batch.replaying import Found, Which, replay
from handler.batch.work.summary import Price, Summary

__all__ = [
    "CannotRun",
    "Found",
    "NoAnswer",
    "NotDone",
    "Options",
    "Price",
    "Reply",
    "Summary",
    "Where",
    "Which",
    "ask",
    "cancel",
    "cancel_requests",
    "cancel_sent",
    "check",
    "collect",
    "replay",
    "requests_status",
    "retry",
    "run",
    "status",
    "submit",
]
