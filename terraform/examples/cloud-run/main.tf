# A model service in the VPC, whose answers two programs read, with a ledger, and somebody who is told.

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
  image       = "registry.example/my-project/inference-relay/inference-relay@sha256:0000000000000000000000000000000000000000000000000000000000000000"
  model_url   = "http://10.0.0.5/openai"
  network     = { network = "default", subnetwork = "default" }
  model_slots = 128
  check_model = "my-model"

  ledger         = { tier = "STANDARD_HA" }
  secret_regions = ["europe-west4"]

  requesters = ["group:analysts@example.com"]
  response_subscriptions = {
    nightly = { filter = "attributes.batch_id = \"nightly\"", members = ["serviceAccount:nightly@my-project.iam.gserviceaccount.com"] }
    others  = { filter = "NOT attributes.batch_id = \"nightly\"", members = ["group:analysts@example.com"] }
  }
  dead_letter_readers   = ["group:operators@example.com"]
  notification_channels = ["projects/my-project/notificationChannels/1234567890"]
  labels                = { team = "search" }
}

output "publish" {
  description = "Command that publishes a first request."
  value       = module.relay.publish
}
