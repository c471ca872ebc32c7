"""OIDC tokens, with a clock that the test holds."""

import google.auth.jwt
import pytest

from handler.local.pubsub.push.tokens import Tokens


def test_a_token_is_used_again_for_most_of_its_hour() -> None:
    """The same for 50 minutes, then a new one, of the same key; another audience has another token."""
    now = [1_000_000.0]
    tokens = Tokens(lambda: now[0])
    first = tokens.token("a@b", "me")
    now[0] += 2999
    assert tokens.token("a@b", "me") == first
    assert tokens.token("a@b", "you") != first
    now[0] += 1
    assert tokens.token("a@b", "me") != first


def test_a_token_of_another_broker_is_not_verified() -> None:
    """Each broker has a key of its own."""
    token = Tokens().token("a@b", "me")
    with pytest.raises(ValueError, match="not found"):
        google.auth.jwt.decode(token, Tokens().certificates())


def test_the_subject_is_an_accounts_number() -> None:
    """21 digits, the same for the same account, and the authorized party too."""
    claims = [google.auth.jwt.decode(Tokens().token("a@b", "me"), verify=False) for _ in range(2)]
    assert claims[0]["sub"] == claims[1]["azp"]
    assert len(claims[0]["sub"]) == 21
    assert claims[0]["sub"].isdecimal()
