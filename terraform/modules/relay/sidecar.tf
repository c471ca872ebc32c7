# Google's managed Prometheus beside the service: it reads the service's GET /metrics within the instance and writes it to Cloud
# Monitoring. What it is to read is a file, which Cloud Run mounts from a secret.

locals {
  sidecar = var.prometheus_sidecar == null ? [] : [var.prometheus_sidecar]
  # What the service has to serve for it. The port is its own: the other one can be reached from outside.
  sidecar_settings = { for one in local.sidecar : "METRICS_PORT" => tostring(one.port) }
  sidecar_config = {
    apiVersion = "monitoring.googleapis.com/v1beta"
    kind       = "RunMonitoring"
    metadata   = { name = var.name }
    spec = {
      endpoints = [for one in local.sidecar : {
        port     = one.port
        path     = "/metrics"
        interval = "${one.interval_seconds}s"
      }]
      # The instance is in a label of its own in any case.
      targetLabels = { metadata = ["service", "revision"] }
    }
  }
}

resource "google_secret_manager_secret" "sidecar" {
  count = length(local.sidecar)

  project   = var.project
  secret_id = "${var.name}-run-monitoring" # nothing in it is secret
  labels    = var.labels

  replication {
    dynamic "auto" {
      for_each = length(var.secret_regions) == 0 ? ["everywhere"] : []
      content {}
    }

    dynamic "user_managed" {
      for_each = length(var.secret_regions) == 0 ? [] : [var.secret_regions]
      content {
        dynamic "replicas" {
          for_each = user_managed.value
          content {
            location = replicas.value

            dynamic "customer_managed_encryption" {
              for_each = var.kms_key == null ? [] : [var.kms_key]
              content {
                kms_key_name = customer_managed_encryption.value
              }
            }
          }
        }
      }
    }
  }
}

resource "google_secret_manager_secret_version" "sidecar" {
  count = length(local.sidecar)

  secret          = google_secret_manager_secret.sidecar[0].id
  secret_data     = yamlencode(local.sidecar_config)
  deletion_policy = "ABANDON" # as in routes.tf
}

resource "google_secret_manager_secret_iam_member" "sidecar_reads" {
  count = length(local.sidecar)

  project   = var.project
  secret_id = google_secret_manager_secret.sidecar[0].secret_id
  role      = "roles/secretmanager.secretAccessor"
  member    = local.relay_member

  lifecycle {
    replace_triggered_by = [google_secret_manager_secret.sidecar[0].id]
  }
}

# A role on the project: Cloud Monitoring knows no smaller one.
resource "google_project_iam_member" "sidecar_writes" {
  count = length(local.sidecar)

  project = var.project
  role    = "roles/monitoring.metricWriter"
  member  = local.relay_member
}
