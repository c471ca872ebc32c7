# The root module, with the values of terraform.tfvars.example: terraform test -var-file=terraform.tfvars.example

mock_provider "google" {
  mock_data "google_project" {
    defaults = { number = "1234567890" }
  }
  mock_resource "google_cloud_run_v2_service" {
    defaults = { uri = "https://relay.example.app" }
  }
}

run "example" {
  assert {
    condition     = output.slots == { used = 66, of = 64, instances = 3, an_instance = 22, held = 3000 }
    error_message = "The example uses what the model has, and holds what Pub/Sub sends at once."
  }

  assert {
    condition     = output.endpoint == "https://relay.example.app" && output.knative_settings == null && output.check != null
    error_message = "The example runs on Cloud Run."
  }

  assert {
    condition     = output.response_subscriptions == { answers = "inference-relay-answers" }
    error_message = "The example has one reader."
  }
}

run "knative" {
  variables {
    deletion_protection = false
    platform            = "knative"
    image               = null
    network             = null
    model_url           = "http://kubeai/openai"
    knative             = { endpoint = "https://relay.example.com" }
  }

  assert {
    condition     = output.endpoint == "https://relay.example.com" && output.knative_settings.PUSH_AUTH == "verify"
    error_message = "The platform can be Knative."
  }
}
