"""The names that a deployment may set."""

from handler.config.settings import Settings


def setting_names() -> set[str]:
    """The service's settings, as environment variables."""
    return {name.upper() for name in Settings.model_fields}
