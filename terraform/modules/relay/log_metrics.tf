# Metrics made of what is logged anyway: each push leaves one line (docs/behaviour.md). They need no code, count from the
# day that they are made, and cost next to nothing.

locals {
  # Where the service's own lines are. On GKE every container's lines are collected; the manifests call this one relay.
  namespace  = try(var.knative.workload_identity.namespace, null)
  own_lines  = local.on_cloud_run ? "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"${var.name}\"" : join(" AND ", concat(["resource.type=\"k8s_container\"", "resource.labels.container_name=\"relay\""], local.namespace == null ? [] : ["resource.labels.namespace_name=\"${local.namespace}\""]))
  push_lines = "${local.own_lines} AND jsonPayload.reason:* AND jsonPayload.status:*"
  # From here on a push is near its ack deadline: whoever answers later than the deadline has answered in vain.
  late_seconds = floor(0.95 * var.ack_deadline_seconds)

  # What is counted, and by what of the line.
  counted = {
    pushes = {
      says   = "Pushes, by the reason of each (docs/behaviour.md) and by the status that Pub/Sub got."
      filter = local.push_lines
      labels = { reason = "EXTRACT(jsonPayload.reason)", status = "EXTRACT(jsonPayload.status)" }
    }
    late_pushes = {
      says   = "Pushes that took at least ${local.late_seconds} s of the ${var.ack_deadline_seconds} s that Pub/Sub waits."
      filter = "${local.push_lines} AND jsonPayload.seconds>=${local.late_seconds}"
      labels = {}
    }
    # On Cloud Run the front end looks at tokens, and the service never sees what it refuses.
    tokens_refused = {
      says   = "Requests without a token, or with one that is not allowed to push."
      filter = local.on_cloud_run ? "${local.own_lines} AND logName=\"projects/${var.project}/logs/run.googleapis.com%2Frequests\" AND httpRequest.status=(401 OR 403)" : "${local.push_lines} AND jsonPayload.reason=(\"unauthenticated\" OR \"forbidden\")"
      labels = {}
    }
    # Those too that end otherwise: after the response was published, or answered at the last attempt.
    bugs = {
      says   = "Lines that a bug in the service has left."
      filter = "${local.own_lines} AND jsonPayload.reason=\"bug\""
      labels = {}
    }
    ledger_troubles = {
      says   = "Lines that say that the ledger is bypassed: one a minute at most from each instance, while it is."
      filter = "${local.own_lines} AND jsonPayload.troubles:*"
      labels = {}
    }
  }
}

resource "google_logging_metric" "relay" {
  for_each = var.monitoring ? local.counted : {}

  project          = var.project
  name             = "${var.name}/${each.key}"
  description      = each.value.says
  filter           = each.value.filter
  label_extractors = each.value.labels

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "INT64"

    dynamic "labels" {
      for_each = each.value.labels
      content {
        key        = labels.key
        value_type = "STRING"
      }
    }
  }
}

resource "google_logging_metric" "push_seconds" {
  count = var.monitoring ? 1 : 0

  project          = var.project
  name             = "${var.name}/push_seconds"
  description      = "How long pushes took, the wait in the line and the model's call included, by the reason of each."
  filter           = "${local.push_lines} AND jsonPayload.seconds:*"
  value_extractor  = "EXTRACT(jsonPayload.seconds)"
  label_extractors = { reason = "EXTRACT(jsonPayload.reason)" }

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "DISTRIBUTION"
    unit        = "s"

    labels {
      key        = "reason"
      value_type = "STRING"
    }
  }

  # From embeddings, which take milliseconds, to the longest ack deadline there is.
  bucket_options {
    explicit_buckets {
      bounds = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 240, 320, 400, 480, 540, 570, 600]
    }
  }
}

# What works, but not as well as it could: a warning of the plan.
check "logged" {
  assert {
    condition     = !var.monitoring || contains(["DEBUG", "INFO"], lookup(var.environment, "LOG_LEVEL", "INFO"))
    error_message = "LOG_LEVEL leaves lines out that the dashboard and the alert near-deadline are made of: they will not see pushes that went well. The other alerts do not need them, down to LOG_LEVEL = WARNING."
  }
}
