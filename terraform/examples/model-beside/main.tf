# vLLM beside the relay, in each of up to two instances, on a GPU of theirs. Its image has the model's weights in it.

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

  project       = "my-project"
  region        = "europe-west4"
  image         = "registry.example/my-project/inference-relay/inference-relay@sha256:0000000000000000000000000000000000000000000000000000000000000000"
  model_slots   = 128 # 2 x --max-num-seqs
  max_instances = 2
  min_instances = 1 # a GPU that is paid day and night; the second one comes when 600 pushes wait at the first

  model_container = {
    image        = "registry.example/my-project/models/vllm-gemma@sha256:0000000000000000000000000000000000000000000000000000000000000000"
    args         = ["--model", "/model", "--served-model-name", "gemma", "--port", "8000", "--max-num-seqs", "64"]
    environment  = { HF_HUB_OFFLINE = "1" }
    load_seconds = 120
  }
}

output "publish" {
  description = "Command that publishes a first request."
  value       = module.relay.publish
}
