# Each wrong value of identities and routes stops the plan, at the variable that says why.

mock_provider "google" {}

variables {
  project     = "my-project"
  region      = "europe-west4"
  image       = "registry.example/my-project/relay/inference-relay@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  model_url   = "https://model.example.com/openai"
  model_slots = 80
}

run "model_auth_unknown" {
  command = plan
  variables {
    model_auth = "basic"
  }
  expect_failures = [var.model_auth]
}

run "model_auth_without_a_key" {
  command = plan
  variables {
    model_auth = "key"
  }
  expect_failures = [var.model_auth]
}

run "model_auth_with_a_key_too_many" {
  command = plan
  variables {
    model_auth           = "google-id-token"
    model_api_key_secret = { secret = "key" }
  }
  expect_failures = [var.model_auth]
}

run "model_audience_of_nothing" {
  command = plan
  variables {
    model_audience = "https://model.example.com"
  }
  expect_failures = [var.model_audience]
}

run "model_audience_blank" {
  command = plan
  variables {
    model_auth     = "google-id-token"
    model_audience = "two words"
  }
  expect_failures = [var.model_audience]
}

run "model_cloud_run_without_a_token" {
  command = plan
  variables {
    model_cloud_run = { service = "model" }
  }
  expect_failures = [var.model_cloud_run]
}

run "model_cloud_run_url" {
  command = plan
  variables {
    model_auth      = "google-id-token"
    model_cloud_run = { service = "https://model.a.run.app" }
  }
  expect_failures = [var.model_cloud_run]
}

run "model_vertex_without_a_token" {
  command = plan
  variables {
    model_vertex_project = "models-project"
  }
  expect_failures = [var.model_vertex_project]
}

run "model_vertex_number" {
  command = plan
  variables {
    model_auth           = "google-access-token"
    model_vertex_project = "1234567890"
  }
  expect_failures = [var.model_vertex_project]
}

run "slots_missing" {
  command = plan
  variables {
    model_slots = null
  }
  expect_failures = [var.model_slots]
}

run "slots_twice" {
  command = plan
  variables {
    model_url = null
    routes    = [{ name = "chat", models = ["*"], url = "https://chat.example.com", slots = 64 }]
  }
  expect_failures = [var.model_slots]
}

run "url_and_routes" {
  command = plan
  variables {
    model_slots = null
    routes      = [{ name = "chat", models = ["*"], url = "https://chat.example.com", slots = 64 }]
  }
  expect_failures = [var.model_url]
}

run "neither_url_nor_routes" {
  command = plan
  variables {
    model_url = null
  }
  expect_failures = [var.model_url]
}

run "model_beside_and_routes" {
  command = plan
  variables {
    model_url       = null
    model_slots     = null
    max_instances   = 1
    min_instances   = 1
    model_container = { image = "registry.example/vllm@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" }
    routes          = [{ name = "chat", models = ["*"], url = "https://chat.example.com", slots = 64 }]
  }
  expect_failures = [var.model_url]
}

run "route_name" {
  command = plan
  variables {
    model_url   = null
    model_slots = null
    routes      = [{ name = "Chat", models = ["*"], url = "https://chat.example.com", slots = 64 }]
  }
  expect_failures = [var.routes]
}

run "route_name_long" {
  command = plan
  variables {
    model_url   = null
    model_slots = null
    routes      = [{ name = "a234567890123456789012345678901234567890x", models = ["*"], url = "https://chat.example.com", slots = 64 }]
  }
  expect_failures = [var.routes]
}

run "route_names_twice" {
  command = plan
  variables {
    model_url   = null
    model_slots = null
    routes      = [{ name = "chat", models = ["a"], url = "https://chat.example.com", slots = 64 }, { name = "chat", models = ["b"], url = "https://chat.example.com", slots = 64 }]
  }
  expect_failures = [var.routes]
}

run "route_models_none" {
  command = plan
  variables {
    model_url   = null
    model_slots = null
    routes      = [{ name = "chat", models = [], url = "https://chat.example.com", slots = 64 }]
  }
  expect_failures = [var.routes]
}

run "route_models_star_inside" {
  command = plan
  variables {
    model_url   = null
    model_slots = null
    routes      = [{ name = "chat", models = ["lla*ma"], url = "https://chat.example.com", slots = 64 }]
  }
  expect_failures = [var.routes]
}

run "route_models_empty" {
  command = plan
  variables {
    model_url   = null
    model_slots = null
    routes      = [{ name = "chat", models = [""], url = "https://chat.example.com", slots = 64 }]
  }
  expect_failures = [var.routes]
}

run "route_model_empty" {
  command = plan
  variables {
    model_url   = null
    model_slots = null
    routes      = [{ name = "chat", models = ["*"], url = "https://chat.example.com", slots = 64, model = "" }]
  }
  expect_failures = [var.routes]
}

run "route_models_twice" {
  command = plan
  variables {
    model_url   = null
    model_slots = null
    routes      = [{ name = "chat", models = ["a", "b*"], url = "https://chat.example.com", slots = 64 }, { name = "other", models = ["b*"], url = "https://chat.example.com", slots = 64 }]
  }
  expect_failures = [var.routes]
}

run "route_url_scheme" {
  command = plan
  variables {
    model_url   = null
    model_slots = null
    routes      = [{ name = "chat", models = ["*"], url = "chat.example.com", slots = 64 }]
  }
  expect_failures = [var.routes]
}

run "route_url_v1" {
  command = plan
  variables {
    model_url   = null
    model_slots = null
    routes      = [{ name = "chat", models = ["*"], url = "https://chat.example.com/v1", slots = 64 }]
  }
  expect_failures = [var.routes]
}

run "route_url_user" {
  command = plan
  variables {
    model_url   = null
    model_slots = null
    routes      = [{ name = "chat", models = ["*"], url = "https://me:secret@chat.example.com", slots = 64 }]
  }
  expect_failures = [var.routes]
}

run "route_url_query" {
  command = plan
  variables {
    model_url   = null
    model_slots = null
    routes      = [{ name = "chat", models = ["*"], url = "https://chat.example.com?a=b", slots = 64 }]
  }
  expect_failures = [var.routes]
}

run "route_url_braces" {
  command = plan
  variables {
    model_url   = null
    model_slots = null
    routes      = [{ name = "chat", models = ["*"], url = "https://{tenant}.example.com", slots = 64 }]
  }
  expect_failures = [var.routes]
}

run "route_http_without_a_network" {
  command = plan
  variables {
    model_url   = null
    model_slots = null
    routes      = [{ name = "chat", models = ["*"], url = "http://10.0.0.5", slots = 64 }]
  }
  expect_failures = [var.routes]
}

run "route_slots_none" {
  command = plan
  variables {
    model_url   = null
    model_slots = null
    routes      = [{ name = "chat", models = ["*"], url = "https://chat.example.com", slots = 0 }]
  }
  expect_failures = [var.routes]
}

run "route_slots_half" {
  command = plan
  variables {
    model_url   = null
    model_slots = null
    routes      = [{ name = "chat", models = ["*"], url = "https://chat.example.com", slots = 1.5 }]
  }
  expect_failures = [var.routes]
}

run "route_slots_many" {
  command = plan
  variables {
    model_url   = null
    model_slots = null
    routes      = [{ name = "chat", models = ["*"], url = "https://chat.example.com", slots = 2001 }]
  }
  expect_failures = [var.routes]
}

run "route_auth" {
  command = plan
  variables {
    model_url   = null
    model_slots = null
    routes      = [{ name = "chat", models = ["*"], url = "https://chat.example.com", slots = 64, auth = "basic" }]
  }
  expect_failures = [var.routes]
}

run "route_auth_without_a_key" {
  command = plan
  variables {
    model_url   = null
    model_slots = null
    routes      = [{ name = "chat", models = ["*"], url = "https://chat.example.com", slots = 64, auth = "key" }]
  }
  expect_failures = [var.routes]
}

run "route_key_without_use" {
  command = plan
  variables {
    model_url   = null
    model_slots = null
    routes      = [{ name = "chat", models = ["*"], url = "https://chat.example.com", slots = 64, auth = "none", api_key_secret = { secret = "key" } }]
  }
  expect_failures = [var.routes]
}

run "route_audience_without_a_token" {
  command = plan
  variables {
    model_url   = null
    model_slots = null
    routes      = [{ name = "chat", models = ["*"], url = "https://chat.example.com", slots = 64, audience = "https://chat.example.com" }]
  }
  expect_failures = [var.routes]
}

run "route_cloud_run_without_a_token" {
  command = plan
  variables {
    model_url   = null
    model_slots = null
    routes      = [{ name = "chat", models = ["*"], url = "https://chat.example.com", slots = 64, auth = "google-access-token", cloud_run = { service = "chat" } }]
  }
  expect_failures = [var.routes]
}

run "route_vertex_without_a_token" {
  command = plan
  variables {
    model_url   = null
    model_slots = null
    routes      = [{ name = "chat", models = ["*"], url = "https://chat.example.com", slots = 64, auth = "google-id-token", vertex_project = "models-project" }]
  }
  expect_failures = [var.routes]
}

run "route_audience_of_many_hosts" {
  command = plan
  variables {
    model_url   = null
    model_slots = null
    routes      = [{ name = "chat", models = ["*"], url = "https://{model}.example.com", slots = 64, auth = "google-id-token" }]
  }
  expect_failures = [var.routes]
}

run "route_audience_for_many_hosts" {
  command = plan
  variables {
    model_url   = null
    model_slots = null
    routes      = [{ name = "chat", models = ["*"], url = "https://{model}.example.com", slots = 64, auth = "google-id-token", audience = "https://models.example.com" }]
  }
}

run "route_audience_blank" {
  command = plan
  variables {
    model_url   = null
    model_slots = null
    routes      = [{ name = "chat", models = ["*"], url = "https://chat.example.com", slots = 64, auth = "google-id-token", audience = "two words" }]
  }
  expect_failures = [var.routes]
}

run "route_cloud_run_url" {
  command = plan
  variables {
    model_url   = null
    model_slots = null
    routes      = [{ name = "chat", models = ["*"], url = "https://chat.example.com", slots = 64, auth = "google-id-token", cloud_run = { service = "https://chat.a.run.app" } }]
  }
  expect_failures = [var.routes]
}

run "route_vertex_number" {
  command = plan
  variables {
    model_url   = null
    model_slots = null
    routes      = [{ name = "chat", models = ["*"], url = "https://chat.example.com", slots = 64, auth = "google-access-token", vertex_project = "12345" }]
  }
  expect_failures = [var.routes]
}

run "route_key_variable_on_cloud_run" {
  command = plan
  variables {
    model_url   = null
    model_slots = null
    routes      = [{ name = "chat", models = ["*"], url = "https://chat.example.com", slots = 64, api_key_env = "CHAT_API_KEY" }]
  }
  expect_failures = [var.routes]
}

run "route_ca_file_on_cloud_run" {
  command = plan
  variables {
    model_url   = null
    model_slots = null
    routes      = [{ name = "chat", models = ["*"], url = "https://chat.example.com", slots = 64, ca_file = "/etc/ca.pem" }]
  }
  expect_failures = [var.routes]
}

run "route_key_secret_on_knative" {
  command = plan
  variables {
    model_url   = null
    model_slots = null
    platform    = "knative"
    image       = null
    knative     = { endpoint = "https://relay.example.com" }
    routes      = [{ name = "chat", models = ["*"], url = "https://chat.example.com", slots = 64, api_key_secret = { secret = "key" } }]
  }
  expect_failures = [var.routes]
}

run "route_ca_secret_on_knative" {
  command = plan
  variables {
    model_url   = null
    model_slots = null
    platform    = "knative"
    image       = null
    knative     = { endpoint = "https://relay.example.com" }
    routes      = [{ name = "chat", models = ["*"], url = "https://chat.example.com", slots = 64, ca_secret = { secret = "ca" } }]
  }
  expect_failures = [var.routes]
}

run "route_key_itself" {
  command = plan
  variables {
    model_url   = null
    model_slots = null
    routes      = [{ name = "chat", models = ["*"], url = "https://chat.example.com", slots = 64, api_key_secret = { secret = "sk-this.is the key" } }]
  }
  expect_failures = [var.routes]
}

run "route_ca_version" {
  command = plan
  variables {
    model_url   = null
    model_slots = null
    routes      = [{ name = "chat", models = ["*"], url = "https://chat.example.com", slots = 64, ca_secret = { secret = "ca", version = "newest" } }]
  }
  expect_failures = [var.routes]
}

run "route_key_variable" {
  command = plan
  variables {
    model_url   = null
    model_slots = null
    platform    = "knative"
    image       = null
    knative     = { endpoint = "https://relay.example.com" }
    routes      = [{ name = "chat", models = ["*"], url = "https://chat.example.com", slots = 64, api_key_env = "CHAT-KEY" }]
  }
  expect_failures = [var.routes]
}

run "route_key_variable_taken" {
  command = plan
  variables {
    model_url   = null
    model_slots = null
    platform    = "knative"
    image       = null
    knative     = { endpoint = "https://relay.example.com" }
    routes      = [{ name = "chat", models = ["*"], url = "https://chat.example.com", slots = 64, api_key_env = "MODEL_API_KEY" }]
  }
  expect_failures = [var.routes]
}

run "route_ca_file_relative" {
  command = plan
  variables {
    model_url   = null
    model_slots = null
    platform    = "knative"
    image       = null
    knative     = { endpoint = "https://relay.example.com" }
    routes      = [{ name = "chat", models = ["*"], url = "https://chat.example.com", slots = 64, ca_file = "ca.pem" }]
  }
  expect_failures = [var.routes]
}

run "route_timeout_none" {
  command = plan
  variables {
    model_url   = null
    model_slots = null
    routes      = [{ name = "chat", models = ["*"], url = "https://chat.example.com", slots = 64, timeout_seconds = 0 }]
  }
  expect_failures = [var.routes]
}

run "route_timeout_does_not_fit" {
  command = plan
  variables {
    model_url   = null
    model_slots = null
    routes      = [{ name = "chat", models = ["*"], url = "https://chat.example.com", slots = 64, timeout_seconds = 561 }]
  }
  expect_failures = [var.routes]
}

run "route_paths_none" {
  command = plan
  variables {
    model_url   = null
    model_slots = null
    routes      = [{ name = "chat", models = ["*"], url = "https://chat.example.com", slots = 64, allowed_paths = [] }]
  }
  expect_failures = [var.routes]
}

run "route_paths_query" {
  command = plan
  variables {
    model_url   = null
    model_slots = null
    routes      = [{ name = "chat", models = ["*"], url = "https://chat.example.com", slots = 64, allowed_paths = ["/v1/completions?a=b"] }]
  }
  expect_failures = [var.routes]
}

run "route_paths_up" {
  command = plan
  variables {
    model_url   = null
    model_slots = null
    routes      = [{ name = "chat", models = ["*"], url = "https://chat.example.com", slots = 64, allowed_paths = ["/v1/../admin"] }]
  }
  expect_failures = [var.routes]
}

run "route_and_model_auth" {
  command = plan
  variables {
    model_url   = null
    model_slots = null
    model_auth  = "none"
    routes      = [{ name = "chat", models = ["*"], url = "https://chat.example.com", slots = 64 }]
  }
  expect_failures = [var.routes]
}

run "route_and_model_key" {
  command = plan
  variables {
    model_url            = null
    model_slots          = null
    model_api_key_secret = { secret = "key" }
    routes               = [{ name = "chat", models = ["*"], url = "https://chat.example.com", slots = 64 }]
  }
  expect_failures = [var.routes]
}

run "route_and_model_identity" {
  command = plan
  variables {
    model_url       = null
    model_slots     = null
    model_auth      = "google-id-token"
    model_audience  = "a"
    model_cloud_run = { service = "model" }
    routes          = [{ name = "chat", models = ["*"], url = "https://chat.example.com", slots = 64 }]
  }
  expect_failures = [var.routes]
}

run "routes_with_a_key_everywhere" {
  command = plan
  variables {
    model_url   = null
    model_slots = null
    kms_key     = "projects/p/locations/l/keyRings/r/cryptoKeys/k"
    routes      = [{ name = "chat", models = ["*"], url = "https://chat.example.com", slots = 64 }]
  }
  expect_failures = [var.kms_key]
}

run "max_instances_for_a_small_route" {
  command = plan
  variables {
    model_url     = null
    model_slots   = null
    max_instances = 3
    routes        = [{ name = "chat", models = ["*"], url = "https://chat.example.com", slots = 64 }, { name = "small", models = ["s"], url = "https://chat.example.com", slots = 2 }]
  }
  expect_failures = [var.max_instances]
}

run "max_instances_for_an_odd_route" {
  command = plan
  variables {
    model_url     = null
    model_slots   = null
    max_instances = 3
    routes        = [{ name = "chat", models = ["*"], url = "https://chat.example.com", slots = 64 }, { name = "odd", models = ["s"], url = "https://chat.example.com", slots = 4 }]
  }
  expect_failures = [var.max_instances]
}

run "max_instances_for_many" {
  command = plan
  variables {
    model_url     = null
    model_slots   = null
    max_instances = 1
    routes        = [{ name = "chat", models = ["*"], url = "https://chat.example.com", slots = 600 }, { name = "more", models = ["s"], url = "https://chat.example.com", slots = 600 }]
  }
  expect_failures = [var.max_instances]
}

# And what is just right does not.

run "routes_just_right" {
  command = plan
  variables {
    model_url   = null
    model_slots = null
    routes = [
      { name = "a", models = ["org/Model-7B.gguf:q4", "b*"], url = "https://[fd00::1]:8443/{model}/openai/", slots = 2000, timeout_seconds = 560 },
      { name = "a2345678901234567890123456789012345678-0", models = ["*"], url = "https://model.example.com/v1beta/openai", slots = 2000, allowed_paths = ["/chat/completions"] },
    ]
  }
}
