# The service's settings, from the same variables as what they have to agree with.

locals {
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
      MODEL_TIMEOUT_SECONDS   = tostring(var.model_timeout_seconds)
      PUBLISH_TIMEOUT_SECONDS = tostring(var.publish_timeout_seconds)
      RESPONSE_TOPIC          = "projects/${local.responses.project}/topics/${local.responses.name}"
    },
    # One model, or the file that says it for each.
    local.has_routes_file ? { ROUTES_FILE = "${local.on_cloud_run ? local.secret_root : "/etc/inference-relay"}/routes/routes.yaml" } : { MODEL_SLOTS = tostring(local.slots) },
    local.has_routes_file || local.model_url == null ? {} : { MODEL_URL = local.model_url },
    local.has_routes_file || var.model_auth == null ? {} : { MODEL_AUTH = var.model_auth },
    local.has_routes_file || var.model_audience == null ? {} : { MODEL_AUDIENCE = var.model_audience },
    length(var.response_topics) == 0 ? {} : { RESPONSE_TOPICS = join(",", var.response_topics) },
    length(var.attribute_headers) == 0 ? {} : { ATTRIBUTE_HEADERS = join(",", [for attribute, header in var.attribute_headers : "${attribute}=${header}"]) },
    var.control_messages ? { CONTROL_MESSAGES = "true" } : {},
    contains(local.secret_names, "MODEL_CA_FILE") ? { MODEL_CA_FILE = "${local.secret_root}/model-ca/ca.pem" } : {},
    length(var.request_buckets) == 0 ? {} : { REQUEST_BUCKETS = join(",", sort(var.request_buckets)) },
    var.response_bucket == null ? {} : { RESPONSE_BUCKET = local.response_bucket },
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
