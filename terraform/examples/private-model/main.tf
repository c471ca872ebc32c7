# The model is a Cloud Run service of its own, with a GPU in each instance, which takes calls of the relay's account alone: each
# call carries an ID token. Its image has the model's weights in it.

terraform {
  required_version = ">= 1.9"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 8.7"
    }
  }
}

provider "google" {
  project = "my-project"
  region  = "europe-west4"
}

locals {
  sequences = 64 # that one GPU works on at once
  gpus      = 2
}

resource "google_service_account" "model" {
  account_id   = "gemma"
  display_name = "The model's service, which may do nothing"
}

resource "google_cloud_run_v2_service" "model" {
  name                 = "gemma"
  location             = "europe-west4"
  deletion_protection  = false # nothing is lost with it
  ingress              = "INGRESS_TRAFFIC_ALL"
  invoker_iam_disabled = false # it is private: who may not invoke it gets a 403 of Cloud Run's

  # Each that is kept is a GPU that is paid day and night.
  scaling {
    min_instance_count = local.gpus
    max_instance_count = local.gpus
  }

  template {
    service_account                  = google_service_account.model.email
    timeout                          = "600s"               # no shorter than the relay waits
    max_instance_request_concurrency = local.sequences + 16 # a few more, which wait in vLLM: Cloud Run would refuse them
    gpu_zonal_redundancy_disabled    = true

    scaling {
      max_instance_count = local.gpus
    }

    node_selector {
      accelerator = "nvidia-l4"
    }

    containers {
      image = "registry.example/my-project/models/vllm-gemma@sha256:0000000000000000000000000000000000000000000000000000000000000000"
      args  = ["--model", "/model", "--served-model-name", "gemma", "--port", "8000", "--max-num-seqs", tostring(local.sequences)]

      ports {
        container_port = 8000
      }

      resources {
        limits = {
          cpu              = "8"
          memory           = "32Gi"
          "nvidia.com/gpu" = "1"
        }
        cpu_idle          = false
        startup_cpu_boost = true
      }

      env {
        name  = "HF_HUB_OFFLINE"
        value = "1"
      }

      # The longest that Cloud Run lets a start take: four minutes before the first look, and four more.
      startup_probe {
        initial_delay_seconds = 240
        period_seconds        = 10
        timeout_seconds       = 5
        failure_threshold     = 24
        http_get {
          path = "/health"
        }
      }
    }
  }
}

module "relay" {
  source = "../../modules/relay"

  project     = "my-project"
  region      = "europe-west4"
  image       = "registry.example/my-project/inference-relay/inference-relay@sha256:0000000000000000000000000000000000000000000000000000000000000000"
  model_slots = local.gpus * local.sequences
  check_model = "gemma"

  model_url       = google_cloud_run_v2_service.model.uri
  model_auth      = "google-id-token"
  model_cloud_run = { service = google_cloud_run_v2_service.model.name }
}

output "publish" {
  description = "Command that publishes a first request."
  value       = module.relay.publish
}
