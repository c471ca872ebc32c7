resource "google_cloud_run_v2_service" "relay" {
  count = local.on_cloud_run ? 1 : 0

  project              = var.project
  location             = var.region
  name                 = var.name
  labels               = var.labels
  deletion_protection  = var.deletion_protection
  ingress              = "INGRESS_TRAFFIC_INTERNAL_ONLY" # which pushes of the same project are
  invoker_iam_disabled = false                           # PUSH_AUTH=platform relies on it

  # For all revisions together: while one replaces another, both at their limit would be twice what the model takes. As many
  # at least as at most: the slots of an instance that is not there are not used (capacity.tf).
  scaling {
    min_instance_count = local.kept
    max_instance_count = local.instances
  }

  template {
    service_account                  = local.relay_account
    encryption_key                   = var.kms_key
    execution_environment            = "EXECUTION_ENVIRONMENT_GEN2"
    timeout                          = "600s"            # no shorter than any ack deadline, so that Pub/Sub's is the one that counts
    max_instance_request_concurrency = local.concurrency # slots and line: what waits shall wait where it is seen
    gpu_zonal_redundancy_disabled    = var.model_container == null ? null : true

    # A revision has a limit of its own, which would otherwise be a default.
    scaling {
      max_instance_count = local.instances
    }

    dynamic "node_selector" {
      for_each = var.model_container == null ? [] : [var.model_container]
      content {
        accelerator = node_selector.value.gpu
      }
    }

    containers {
      name       = "relay"
      image      = var.image
      depends_on = var.model_container == null ? null : ["model"]

      ports {
        container_port = 8080
      }

      resources {
        limits = {
          cpu    = tostring(var.cpu)
          memory = var.memory
        }
        # Nothing is left to do once a push is answered; but a GPU is paid all the time, and metrics are taken all the time.
        cpu_idle          = var.model_container == null && var.prometheus_sidecar == null
        startup_cpu_boost = true
      }

      dynamic "env" {
        for_each = merge(local.cloud_run_settings, local.sidecar_settings)
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

      # A new instance's way into the VPC may take more than a minute to open. Until the model and the ledger can be connected
      # to it gets no pushes, but after 90 s it gets them all the same; so the probe has to last for longer than that.
      startup_probe {
        period_seconds    = 2
        timeout_seconds   = 2
        failure_threshold = 60
        http_get {
          path = "/health/startup"
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

    dynamic "containers" {
      for_each = var.model_container == null ? [] : [var.model_container]
      content {
        name    = "model"
        image   = containers.value.image
        command = containers.value.command
        args    = containers.value.args

        resources {
          limits = {
            cpu              = tostring(containers.value.cpu)
            memory           = containers.value.memory
            "nvidia.com/gpu" = "1"
          }
          cpu_idle          = false
          startup_cpu_boost = true
        }

        dynamic "env" {
          for_each = containers.value.environment
          content {
            name  = env.key
            value = env.value
          }
        }

        # The longest that Cloud Run lets a start take: four minutes before the first look, and four more.
        startup_probe {
          initial_delay_seconds = containers.value.load_seconds
          period_seconds        = 10
          timeout_seconds       = 5
          failure_threshold     = 24
          http_get {
            path = containers.value.health
            port = containers.value.port
          }
        }
      }
    }

    dynamic "containers" {
      for_each = local.sidecar
      content {
        name       = "prometheus"
        image      = containers.value.image
        depends_on = ["relay"]

        resources {
          limits = {
            cpu    = tostring(containers.value.cpu)
            memory = containers.value.memory
          }
          cpu_idle          = false
          startup_cpu_boost = true
        }

        volume_mounts {
          name       = "run-monitoring"
          mount_path = "/etc/rungmp" # where it looks
        }
      }
    }

    dynamic "volumes" {
      for_each = google_secret_manager_secret_version.sidecar
      content {
        name = "run-monitoring"
        secret {
          secret = google_secret_manager_secret.sidecar[0].secret_id
          items {
            version = volumes.value.version
            path    = "config.yaml"
          }
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
        egress = vpc_access.value.egress # by default the model and the ledger; Google's APIs are reached directly
        network_interfaces {
          network    = vpc_access.value.network
          subnetwork = vpc_access.value.subnetwork
          tags       = vpc_access.value.tags
        }
      }
    }
  }

  dynamic "traffic" {
    for_each = var.traffic
    content {
      type     = traffic.value.revision == null ? "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST" : "TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION"
      revision = traffic.value.revision
      percent  = traffic.value.percent
      tag      = traffic.value.tag
    }
  }

  lifecycle {
    ignore_changes = [client, client_version] # who deployed last, which gcloud notes
  }

  # A revision whose secrets cannot be read does not start.
  depends_on = [google_secret_manager_secret_iam_member.relay_reads, google_secret_manager_secret_iam_member.sidecar_reads]
}

# The push account may invoke this service, and nothing else.
resource "google_cloud_run_v2_service_iam_member" "push_invokes" {
  count = local.on_cloud_run ? 1 : 0

  project  = var.project
  location = var.region
  name     = google_cloud_run_v2_service.relay[0].name
  role     = "roles/run.invoker"
  member   = local.push_member
}
