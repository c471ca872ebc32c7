"""Which ledger the settings ask for."""

from handler.config.settings import Settings
from handler.ledger import Ledger
from handler.ledger.memory import MemoryLedger


def connect(settings: Settings) -> Ledger:
    """Make the ledger: in Redis at LEDGER_URL, in this process' memory where that is not set. Nothing is sent yet."""
    if settings.ledger_url is None:
        return MemoryLedger(settings.answered_ttl_seconds)
    # Imported here since redis costs a start 0.1 s and more.
    from handler.ledger.redis import RedisLedger

    return RedisLedger(settings.ledger_url.get_secret_value(), settings.answered_ttl_seconds)
