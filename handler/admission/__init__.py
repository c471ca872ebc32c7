"""Who goes to the model next, who waits, and who is told at once to come again."""

from handler.rules.verdict.outcome import Reason


class Refused(Exception):
    """A push is given back to Pub/Sub without work. `reason` and `detail` say why."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail
