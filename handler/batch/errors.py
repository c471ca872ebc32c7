"""What keeps a command from doing its work at all."""


class CannotRun(Exception):
    """The command cannot begin, or cannot go on. The message says what to do; the exit status is 2."""
