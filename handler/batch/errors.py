"""What keeps a command from its work, and what may become of a call to Pub/Sub."""


class CannotRun(Exception):
    """The command cannot begin, or cannot go on. The message says what to do; the exit status is 2."""


class NotTaken(Exception):
    """Pub/Sub took none of the messages. `worth_a_retry` tells whether it may take them later."""

    def __init__(self, cause: Exception, *, worth_a_retry: bool) -> None:
        super().__init__(str(cause))
        self.worth_a_retry = worth_a_retry


class OutcomeUnknown(Exception):
    """The messages were sent, and no confirmation came: they may have been published, or not."""


class NotAcked(Exception):
    """Pub/Sub has not confirmed every ack: what was to be acked may come again."""
