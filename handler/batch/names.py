"""The full names of topics and subscriptions, and the project that they are in where none is said."""

import os
from contextlib import suppress

import google.auth
from google.auth.exceptions import DefaultCredentialsError

from handler.batch.errors import CannotRun


def emulated() -> bool:
    """Whether Pub/Sub is a local one."""
    return bool(os.environ.get("PUBSUB_EMULATOR_HOST"))


def default_project() -> str:
    """The project of names that have none. Raises CannotRun."""
    project = os.environ.get("GOOGLE_CLOUD_PROJECT") or ("local" if emulated() else None)
    if not project:
        with suppress(DefaultCredentialsError):
            project = google.auth.default()[1]
    if not project:
        raise CannotRun("which project? Give --project, or set GOOGLE_CLOUD_PROJECT, or write projects/ID/topics/NAME")
    return str(project)


def full_name(kind: str, name: str, project: str | None) -> str:
    """projects/ID/topics/NAME of a topic's (or a subscription's) short or full name."""
    return name if name.startswith("projects/") else f"projects/{project or default_project()}/{kind}/{name}"


def request_topic(name: str | None, project: str | None) -> str:
    """The full name of the topic for requests; the local one's or Terraform's where none is given."""
    return full_name("topics", name or ("requests" if emulated() else "inference-relay-requests"), project)


def response_topic(name: str | None, project: str | None) -> str:
    """The full name of the topic of responses; the local one's or Terraform's where none is given."""
    return full_name("topics", name or ("responses" if emulated() else "inference-relay-responses"), project)


def project_of(full: str) -> str:
    """The project in a full name."""
    return full.split("/")[1]
