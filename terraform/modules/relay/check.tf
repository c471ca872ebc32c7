# `inference-relay check` from where the service runs: the same image, settings, secrets, network and account. A job can be
# run before the service gets the same, and the traffic with it: docs/deploy-cloud-run.md.
resource "google_cloud_run_v2_job" "check" {
  count = local.on_cloud_run && var.model_container == null ? 1 : 0

  project             = var.project
  location            = var.region
  name                = "${var.name}-check"
  labels              = var.labels
  deletion_protection = false # nothing is lost with it

  template {
    template {
      service_account = local.relay_account
      encryption_key  = var.kms_key
      timeout         = "300s"
      max_retries     = 1

      containers {
        image   = var.image
        command = ["inference-relay"]
        args    = concat(["check"], var.check_model == null ? [] : ["--model", var.check_model])

        dynamic "env" {
          for_each = local.cloud_run_settings
          content {
            name  = env.key
            value = env.value
          }
        }

        dynamic "env" {
          for_each = setsubtract(local.secret_names, keys(local.secret_files))
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

        dynamic "volume_mounts" {
          for_each = local.secret_files
          content {
            name       = volume_mounts.value.at
            mount_path = "${local.secret_root}/${volume_mounts.value.at}"
          }
        }
      }

      dynamic "volumes" {
        for_each = local.secret_files
        content {
          name = volumes.value.at
          secret {
            secret = local.secrets[volumes.key].secret
            items {
              version = local.secrets[volumes.key].version
              path    = volumes.value.file
            }
          }
        }
      }

      dynamic "vpc_access" {
        for_each = var.network == null ? [] : [var.network]
        content {
          egress = vpc_access.value.egress
          network_interfaces {
            network    = vpc_access.value.network
            subnetwork = vpc_access.value.subnetwork
            tags       = vpc_access.value.tags
          }
        }
      }
    }
  }

  lifecycle {
    ignore_changes = [client, client_version]
  }

  depends_on = [
    google_cloud_run_v2_service_iam_member.relay_invokes,
    google_project_iam_member.relay_predicts,
    google_pubsub_topic_iam_member.relay_publishes,
    google_secret_manager_secret_iam_member.relay_reads,
    google_storage_bucket_iam_member.relay_reads,
    google_storage_bucket_iam_member.relay_writes,
  ]
}
