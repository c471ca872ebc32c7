"""The names that a deployment may set."""

from handler.config import Settings

# The line in front of the model, and the margin: named here for as long as the service does not have them.
AHEAD = {"MODEL_SLOTS", "MAX_WAITING", "MAX_WAITING_MB", "MARGIN_SECONDS"}


def setting_names() -> set[str]:
    """The service's settings, as environment variables."""
    known = {name.upper() for name in Settings.model_fields}
    return known if known >= AHEAD else known | AHEAD
