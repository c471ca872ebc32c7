"""What may be wrong with settings although they are valid."""

from collections.abc import Iterator, Mapping

from handler.config.settings import Settings


def doubts(settings: Settings, environment: Mapping[str, str]) -> Iterator[str]:
    """Doubts in plain words, for whoever reads the log at the start; `environment` says where the process runs."""
    if settings.push_auth == "platform" and not _is_cloud_run(environment):
        yield (
            "PUSH_AUTH=platform trusts the platform to check who pushes, but this is not Cloud Run. Unless something "
            "else checks, anybody who reaches this port can use the model: set PUSH_AUTH=verify"
        )
    if settings.concurrency is not None:
        yield (
            f"CONCURRENCY is the old name of MODEL_SLOTS and will go: set MODEL_SLOTS={settings.concurrency} instead. "
            "Pushes beyond it are no longer refused, but wait in a line (MAX_WAITING)"
        )


def _is_cloud_run(environment: Mapping[str, str]) -> bool:
    """Whether this is a Cloud Run service, or a job there, as which Terraform runs `check`.

    https://docs.cloud.google.com/run/docs/container-contract#env-vars
    """
    # Knative sets K_SERVICE, too; pods alone have Kubernetes' own variable.
    return bool({"K_SERVICE", "CLOUD_RUN_JOB"} & environment.keys()) and "KUBERNETES_SERVICE_HOST" not in environment
