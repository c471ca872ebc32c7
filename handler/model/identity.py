"""As whom the model service is called: a key, or a token of Google's that is fetched and kept fresh."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

import google.auth
from google.auth.credentials import Credentials, TokenState
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.requests import Request

from handler.greenlets import Deadline, DeadlinePassed

SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
FETCH_SECONDS = 10.0  # for a token from the metadata server, or from whoever else gives them
FAILED_SECONDS = 1.0  # for which a failure is everybody's who waited for it
AGAIN_SECONDS = 10.0  # after a failed refresh in the background, while the old token is still good

_log = logging.getLogger(__name__)


class NoToken(Exception):
    """No token could be had. The message names the kind of the cause."""


class Identity(Protocol):
    """Who the relay is to the model service."""

    def headers(self) -> Mapping[str, str]:
        """What a request carries. Raises NoToken."""
        ...

    def renew(self, refused: Mapping[str, str]) -> bool:
        """Whether there is something better than these headers, which were refused. Raises NoToken."""
        ...


class Fixed:
    """A key, or nothing."""

    def __init__(self, key: str | None = None) -> None:
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}

    def headers(self) -> Mapping[str, str]:
        """Always the same."""
        return self._headers

    def renew(self, refused: Mapping[str, str]) -> bool:  # noqa: ARG002 - there is only one
        """Nothing can be done about a key that is refused."""
        return False


class GoogleToken:
    """Google's tokens, by google-auth. Thread-safe; the first is fetched when it is wanted.

    A token that is about to expire is replaced in the background, so that no message waits for it. One at a time.
    """

    def __init__(self, credentials: Callable[[Any], Credentials]) -> None:
        """`credentials` finds them, given what makes HTTP requests."""
        self._find = credentials
        self._request: Any = partial(Request(), timeout=FETCH_SECONDS)
        self._credentials: Credentials | None = None
        self._refreshing = threading.Lock()
        self._next_refresh = 0.0
        self._failed_at = float("-inf")

    def headers(self) -> Mapping[str, str]:
        """The current token's."""
        state = self._state()
        if state is TokenState.INVALID:
            with self._refreshing:
                if self._state() is TokenState.INVALID:
                    self._refresh()
        elif state is TokenState.STALE and time.monotonic() > self._next_refresh:
            self._next_refresh = time.monotonic() + AGAIN_SECONDS
            threading.Thread(target=self._refresh_early, daemon=True).start()
        return self._applied()

    def renew(self, refused: Mapping[str, str]) -> bool:
        """Fetch another token, unless that was done since the refused one was handed out."""
        with self._refreshing:
            if self._applied() == refused:
                self._refresh()
        return self._applied() != refused

    def _state(self) -> TokenState:
        return TokenState.INVALID if self._credentials is None else self._credentials.token_state

    def _applied(self) -> Mapping[str, str]:
        headers: dict[str, str] = {}
        if self._credentials is not None:
            self._credentials.apply(headers)
        return {name.title(): value for name, value in headers.items()}

    def _refresh(self) -> None:
        if time.monotonic() < self._failed_at + FAILED_SECONDS:
            raise NoToken("just failed")
        try:
            with Deadline(FETCH_SECONDS):  # google-auth tries again and again, for longer than anybody should wait
                if self._credentials is None:
                    self._credentials = self._find(self._request)
                self._credentials.refresh(self._request)
        except (GoogleAuthError, ValueError, DeadlinePassed) as error:
            self._failed_at = time.monotonic()
            _log.error("no token for the model service: %s. %s", type(error).__name__, HINT)
            raise NoToken(type(error).__name__) from None

    def _refresh_early(self) -> None:
        with self._refreshing:
            try:
                self._refresh()
            except NoToken:
                return  # it is tried again, as long as the old one is good


HINT = (
    "Outside Google Cloud, GOOGLE_APPLICATION_CREDENTIALS names the key of a service account or a workload identity; "
    "on Cloud Run and GKE the service has a service account"
)


def access_token() -> GoogleToken:
    """Access tokens: for Vertex AI, and other APIs of Google's."""
    return GoogleToken(lambda request: google.auth.default(scopes=SCOPES, request=request)[0])


def id_token(audience: str) -> GoogleToken:
    """ID tokens for an audience: for a private Cloud Run service, or one behind IAP."""
    from google.oauth2.id_token import fetch_id_token_credentials  # what it needs costs a start 0.1 s

    return GoogleToken(lambda request: fetch_id_token_credentials(audience, request=request))
