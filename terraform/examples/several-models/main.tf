# Three model services behind one relay, each called as it wants; and three streams: people's requests, which go ahead, another
# team's, which get their answers in a topic of their own, and the rest, which leave a quarter of each model to the others.

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

  project = "my-project"
  region  = "europe-west4"
  image   = "registry.example/my-project/inference-relay/inference-relay@sha256:0000000000000000000000000000000000000000000000000000000000000000"
  network = { network = "default", subnetwork = "default" }

  routes = [
    {
      name           = "chat"
      models         = ["llama-3.3-70b", "llama-3*"]
      url            = "http://10.0.0.5"
      slots          = 128
      api_key_secret = { secret = "llama-api-key", version = "1" }
    },
    {
      name            = "embeddings"
      models          = ["bge-*"]
      url             = "https://embed-abc123-ez.a.run.app"
      slots           = 30
      auth            = "google-id-token"
      cloud_run       = { service = "embed" }
      timeout_seconds = 60
      allowed_paths   = ["/v1/embeddings"]
    },
    {
      name           = "gemini"
      models         = ["gemini-flash"]
      model          = "google/gemini-2.5-flash"
      url            = "https://aiplatform.googleapis.com/v1beta1/projects/my-project/locations/global/endpoints/openapi"
      slots          = 60
      auto           = true
      auth           = "google-access-token"
      vertex_project = "my-project"
      allowed_paths  = ["/chat/completions"]
    },
  ]

  requesters = ["group:analysts@example.com"]
  streams = {
    push   = { max_share = 0.75 }
    people = { priority = "high", requesters = ["serviceAccount:chat@my-project.iam.gserviceaccount.com"] }
    team-b = {
      models                 = ["llama-3*", "bge-*"]
      max_attempts           = 3
      requesters             = ["group:team-b@example.com"]
      response_subscriptions = { answers = { members = ["group:team-b@example.com"] } }
    }
  }

  attribute_headers = { tenant = "x-llm-d-inference-fairness-id" }
}

output "stream_topics" {
  description = "Where each stream's requests are published."
  value       = module.relay.stream_topics
}
