resource "google_cloud_run_v2_service" "relay" {
  count = local.on_cloud_run ? 1 : 0

  project              = var.project
  location             = var.region
  name                 = var.name
  labels               = var.labels
  deletion_protection  = var.deletion_protection
  ingress              = "INGRESS_TRAFFIC_INTERNAL_ONLY" # which pushes of the same project are
  invoker_iam_disabled = false                           # PUSH_AUTH=platform relies on it

  # For all revisions together: while one replaces another, both at their limit would be twice what the model takes.
  scaling {
    min_instance_count = var.min_instances
    max_instance_count = var.max_instances
  }

  template {
    service_account                  = google_service_account.relay.email
    execution_environment            = "EXECUTION_ENVIRONMENT_GEN2"
    timeout                          = "600s"          # no shorter than any ack deadline, so that Pub/Sub's is the one that counts
    max_instance_request_concurrency = var.concurrency # what is beyond it the service would refuse with 429

    # A revision has a limit of its own, which would otherwise be a default.
    scaling {
      max_instance_count = var.max_instances
    }

    containers {
      image = var.image

      ports {
        container_port = 8080
      }

      resources {
        limits = {
          cpu    = tostring(var.cpu)
          memory = var.memory
        }
        cpu_idle          = true # nothing is left to do once a push is answered
        startup_cpu_boost = true
      }

      dynamic "env" {
        for_each = local.cloud_run_settings
        content {
          name  = env.key
          value = env.value
        }
      }

      dynamic "env" {
        for_each = local.secret_names
        content {
          name = env.key
          value_source {
            secret_key_ref {
              secret  = local.secrets[env.key].secret
              version = local.secrets[env.key].version
            }
          }
        }
      }

      startup_probe {
        period_seconds    = 2
        timeout_seconds   = 2
        failure_threshold = 30
        http_get {
          path = "/health/ready"
        }
      }

      liveness_probe {
        period_seconds    = 30
        timeout_seconds   = 10
        failure_threshold = 4
        http_get {
          path = "/health/live"
        }
      }
    }

    dynamic "vpc_access" {
      for_each = var.network == null ? [] : [var.network]
      content {
        egress = "PRIVATE_RANGES_ONLY" # the model and the ledger; Google's APIs are reached directly
        network_interfaces {
          network    = vpc_access.value.network
          subnetwork = vpc_access.value.subnetwork
          tags       = vpc_access.value.tags
        }
      }
    }
  }

  traffic {
    type    = "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST"
    percent = 100
  }

  lifecycle {
    ignore_changes = [client, client_version] # who deployed last, which gcloud notes
  }

  # A revision whose secrets cannot be read does not start.
  depends_on = [google_secret_manager_secret_iam_member.relay_reads]
}

# The push account may invoke this service, and nothing else.
resource "google_cloud_run_v2_service_iam_member" "push_invokes" {
  count = local.on_cloud_run ? 1 : 0

  project  = var.project
  location = var.region
  name     = google_cloud_run_v2_service.relay[0].name
  role     = "roles/run.invoker"
  member   = google_service_account.push.member
}
