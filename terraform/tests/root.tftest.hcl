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
    condition     = output.slots.used == 64 && output.slots.of == 64
    error_message = "The example uses what the model has."
  }

  assert {
    condition     = output.endpoint == "https://relay.example.app" && output.knative_settings == null
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
