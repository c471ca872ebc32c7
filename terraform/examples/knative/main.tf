# The service in a cluster; its topics, subscriptions and accounts here. The requests' topic is another team's.

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

module "relay" {
  source = "../../modules/relay"

  project     = "my-project"
  region      = "europe-west4"
  platform    = "knative"
  model_slots = 256

  knative = {
    endpoint          = "https://inference-relay.inference-relay.example.com"
    workload_identity = { namespace = "inference-relay", service_account = "inference-relay" }
  }

  topics                 = { requests = "projects/their-project/topics/documents" }
  response_subscriptions = { answers = { members = ["user:me@example.com"] } }
}

output "knative_settings" {
  description = "The settings that the service in the cluster has to have."
  value       = module.relay.knative_settings
}
