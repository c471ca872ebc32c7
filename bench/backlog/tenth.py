"""main.py, with the line's own times divided by ten as well, for scenarios in which all times are."""

from handler.admission import line

_DIVISOR = 10
line.REDELIVERY_SECONDS /= _DIVISOR
line.REDELIVERY_HEAD_START_SECONDS /= _DIVISOR
line.MAX_CLOSED_SECONDS /= _DIVISOR

from main import handle  # noqa: E402, F401 - what functions-framework looks for
