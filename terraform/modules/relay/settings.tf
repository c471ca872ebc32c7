# The service's settings, from the same variables as what they have to agree with.

locals {
  on_cloud_run = var.platform == "cloud-run"
  # A model that runs beside the service is reached within the instance.
  model_url = var.model_container == null ? var.model_url : "http://127.0.0.1:${var.model_container.port}"
  endpoint  = local.on_cloud_run ? one(google_cloud_run_v2_service.relay[*].uri) : var.knative.endpoint
  audience  = local.on_cloud_run ? local.endpoint : coalesce(var.knative.audience, var.knative.endpoint)

  settings = merge(
    {
      ACK_DEADLINE_SECONDS    = tostring(var.ack_deadline_seconds)
      MARGIN_SECONDS          = tostring(var.margin_seconds)
      MAX_AGE_SECONDS         = tostring(var.max_age_seconds)
      MAX_ATTEMPTS            = tostring(var.max_attempts)
      MAX_WAITING             = tostring(local.line)
      MODEL_SLOTS             = tostring(local.slots)
      MODEL_TIMEOUT_SECONDS   = tostring(var.model_timeout_seconds)
      PUBLISH_TIMEOUT_SECONDS = tostring(var.publish_timeout_seconds)
      RESPONSE_TOPIC          = "projects/${local.responses.project}/topics/${local.responses.name}"
    },
    local.model_url == null ? {} : { MODEL_URL = local.model_url },
    var.control_messages ? { CONTROL_MESSAGES = "true" } : {},
    contains(local.secret_names, "MODEL_CA_FILE") ? { MODEL_CA_FILE = "${local.secret_root}/model-ca/ca.pem" } : {},
    var.environment,
  )

  cloud_run_settings = merge(local.settings, {
    GRACE_SECONDS  = "8" # Cloud Run kills 10 s after SIGTERM
    MAX_WAITING_MB = tostring(local.waiting_mb)
    PUSH_AUTH      = "platform"
  })

  knative_settings = merge(local.settings, {
    GRACE_SECONDS        = "570" # timeoutSeconds of 600, less the 30 s that Knative waits for requests to stop
    PUSH_AUTH            = "verify"
    PUSH_AUDIENCE        = local.audience
    PUSH_SERVICE_ACCOUNT = local.push_account
  })
}
