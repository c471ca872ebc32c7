# The service's settings, from the same variables as what they have to agree with.

locals {
  on_cloud_run = var.platform == "cloud-run"
  endpoint     = local.on_cloud_run ? one(google_cloud_run_v2_service.relay[*].uri) : var.knative.endpoint
  audience     = local.on_cloud_run ? local.endpoint : coalesce(var.knative.audience, var.knative.endpoint)

  settings = merge(
    {
      ACK_DEADLINE_SECONDS    = tostring(var.ack_deadline_seconds)
      CONCURRENCY             = tostring(var.concurrency)
      MAX_AGE_SECONDS         = tostring(var.max_age_seconds)
      MAX_ATTEMPTS            = tostring(var.max_attempts)
      MODEL_TIMEOUT_SECONDS   = tostring(var.model_timeout_seconds)
      PUBLISH_TIMEOUT_SECONDS = tostring(var.publish_timeout_seconds)
      RESPONSE_TOPIC          = "projects/${var.project}/topics/${google_pubsub_topic.responses.name}"
    },
    var.model_url == null ? {} : { MODEL_URL = var.model_url },
    var.environment,
  )

  cloud_run_settings = merge(local.settings, {
    GRACE_SECONDS = "8" # Cloud Run kills 10 s after SIGTERM
    PUSH_AUTH     = "platform"
  })

  knative_settings = merge(local.settings, {
    GRACE_SECONDS        = "570" # timeoutSeconds of 600, less the 30 s that Knative waits for requests to stop
    PUSH_AUTH            = "verify"
    PUSH_AUDIENCE        = local.audience
    PUSH_SERVICE_ACCOUNT = google_service_account.push.email
  })
}
