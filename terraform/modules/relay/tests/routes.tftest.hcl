# As whom the model is called; several models, by a file.

mock_provider "google" {
  override_resource {
    target = google_service_account.relay
    values = { name = "projects/my-project/serviceAccounts/run", email = "run@example.com" }
  }
  override_resource {
    target = google_secret_manager_secret_version.routes
    values = { version = "7" }
  }
}

variables {
  project = "my-project"
  region  = "europe-west4"
  image   = "registry.example/my-project/relay/inference-relay@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
}

run "private_cloud_run_service" {
  variables {
    model_url       = "https://model-abc-ez.a.run.app"
    model_slots     = 80
    model_auth      = "google-id-token"
    model_audience  = "https://model.example.com"
    model_cloud_run = { service = "model" }
  }

  assert {
    condition     = { for one in google_cloud_run_v2_service.relay[0].template[0].containers[0].env : one.name => one.value if contains(["MODEL_AUTH", "MODEL_AUDIENCE", "MODEL_URL", "ROUTES_FILE"], one.name) } == { MODEL_AUTH = "google-id-token", MODEL_AUDIENCE = "https://model.example.com", MODEL_URL = "https://model-abc-ez.a.run.app" }
    error_message = "The service asks for an ID token of its own, for this audience."
  }

  assert {
    condition     = [for one in google_cloud_run_v2_service_iam_member.relay_invokes : "${one.project} ${one.location} ${one.name} ${one.role} ${one.member}"] == ["my-project europe-west4 model roles/run.invoker serviceAccount:run@example.com"] && length(google_project_iam_member.relay_predicts) == 0
    error_message = "It may invoke the model's service, and nothing else."
  }

  assert {
    condition     = length(google_secret_manager_secret.routes) + length(google_pubsub_subscription.streams) + length(google_pubsub_topic.streams) == 0 && output.routes_file == null && output.stream_subscriptions == {} && output.stream_topics == {}
    error_message = "One model needs no file."
  }
}

run "private_service_elsewhere" {
  variables {
    model_url       = "https://model-abc-ez.a.run.app"
    model_slots     = 80
    model_auth      = "google-id-token"
    model_cloud_run = { service = "model", location = "europe-west1", project = "models-project" }
  }

  assert {
    condition     = [for one in google_cloud_run_v2_service_iam_member.relay_invokes : "${one.project} ${one.location} ${one.name}"] == ["models-project europe-west1 model"]
    error_message = "The model's service may be elsewhere."
  }
}

run "vertex" {
  variables {
    model_url            = "https://aiplatform.googleapis.com/v1beta1/projects/models-project/locations/global/endpoints/openapi"
    model_slots          = 80
    model_auth           = "google-access-token"
    model_vertex_project = "models-project"
  }

  assert {
    condition     = [for one in google_project_iam_member.relay_predicts : "${one.project} ${one.role} ${one.member}"] == ["models-project roles/aiplatform.user serviceAccount:run@example.com"] && length(google_cloud_run_v2_service_iam_member.relay_invokes) == 0
    error_message = "The service may use the models of that project."
  }

  assert {
    condition     = [for one in google_cloud_run_v2_service.relay[0].template[0].containers[0].env : one.value if one.name == "MODEL_AUTH"] == ["google-access-token"]
    error_message = "It calls them with an access token."
  }
}

run "topics_and_headers" {
  variables {
    model_url         = "https://model.example.com"
    model_slots       = 80
    response_topics   = ["projects/team-a/topics/answers", "projects/my-project/topics/inference-relay-responses"]
    attribute_headers = { tenant = "x-llm-d-inference-fairness-id", priority = "x-llm-d-inference-objective" }
  }

  assert {
    condition = { for one in google_cloud_run_v2_service.relay[0].template[0].containers[0].env : one.name => one.value if contains(["ATTRIBUTE_HEADERS", "RESPONSE_TOPICS"], one.name) } == {
      ATTRIBUTE_HEADERS = "priority=x-llm-d-inference-objective,tenant=x-llm-d-inference-fairness-id"
      RESPONSE_TOPICS   = "projects/my-project/topics/inference-relay-responses,projects/team-a/topics/answers"
    }
    error_message = "Requests may name these topics, and these attributes are headers."
  }

  assert {
    condition     = [for one in google_pubsub_topic_iam_member.relay_publishes_elsewhere : "${one.project} ${one.topic} ${one.role} ${one.member}"] == ["team-a answers roles/pubsub.publisher serviceAccount:run@example.com"]
    error_message = "The service may publish to each; to its own it may already."
  }
}

run "several_models" {
  variables {
    secret_regions  = ["europe-west4"]
    labels          = { team = "search" }
    network         = { network = "n", subnetwork = "s" }
    model_ca_secret = { secret = "authorities" }
    routes = [
      { name = "chat", models = ["llama-3.3-70b", "llama-3*"], url = "http://10.0.0.5", slots = 128, api_key_secret = { secret = "keys", version = "2" } },
      { name = "small-chat", models = ["gemma*"], url = "https://10.0.0.6", slots = 64, auth = "key", api_key_secret = { secret = "projects/my-project/secrets/keys" }, ca_secret = { secret = "projects/other/secrets/ca" } },
      { name = "embeddings", models = ["bge-*"], url = "https://embed-abc123.a.run.app", slots = 30, auth = "google-id-token", timeout_seconds = 60, allowed_paths = ["/v1/embeddings"], cloud_run = { service = "embed" } },
      { name = "reranking", models = ["rank-*"], url = "https://embed-abc123.a.run.app", slots = 30, auth = "google-id-token", audience = "https://embed.example.com", cloud_run = { service = "embed" } },
      { name = "gemini", models = ["gemini-flash"], model = "google/gemini-2.5-flash", url = "https://aiplatform.googleapis.com/v1/openapi", slots = 100, auto = true, auth = "google-access-token", vertex_project = "models-project" },
      { name = "others", models = ["*"], url = "http://{model}.models.internal", slots = 12, auth = "none" },
    ]
  }

  assert {
    condition = yamldecode(google_secret_manager_secret_version.routes[0].secret_data) == {
      routes = [
        { name = "chat", models = ["llama-3.3-70b", "llama-3*"], url = "http://10.0.0.5", slots = 43, api_key_env = "MODEL_API_KEY_CHAT" },
        { name = "small-chat", models = ["gemma*"], url = "https://10.0.0.6", slots = 22, auth = "key", api_key_env = "MODEL_API_KEY_SMALL_CHAT", ca_file = "/etc/secrets/ca-small-chat/ca.pem" },
        { name = "embeddings", models = ["bge-*"], url = "https://embed-abc123.a.run.app", slots = 10, auth = "google-id-token", timeout_seconds = 60, allowed_paths = ["/v1/embeddings"] },
        { name = "reranking", models = ["rank-*"], url = "https://embed-abc123.a.run.app", slots = 10, auth = "google-id-token", audience = "https://embed.example.com" },
        { name = "gemini", models = ["gemini-flash"], model = "google/gemini-2.5-flash", url = "https://aiplatform.googleapis.com/v1/openapi", slots = "auto", max_slots = 34, auth = "google-access-token" },
        { name = "others", models = ["*"], url = "http://{model}.models.internal", slots = 4, auth = "none" },
      ]
      streams = []
    }
    error_message = "The file says it for each, and has no keys."
  }

  assert {
    condition     = output.routes_file == google_secret_manager_secret_version.routes[0].secret_data && google_secret_manager_secret_version.routes[0].deletion_policy == "ABANDON" && google_secret_manager_secret.routes[0].secret_id == "inference-relay-routes" && google_secret_manager_secret.routes[0].labels == tomap({ team = "search" }) && [for one in google_secret_manager_secret.routes[0].replication[0].user_managed[0].replicas : one.location] == ["europe-west4"]
    error_message = "It is a secret, whose old versions stay for the revisions that read them."
  }

  assert {
    condition     = output.slots == { used = 369, of = 364, instances = 3, an_instance = 123, held = 3000 }
    error_message = "Each model's slots are shared out between the instances, and the line is what is left."
  }

  assert {
    condition     = { for one in google_cloud_run_v2_service.relay[0].template[0].containers[0].env : one.name => one.value if contains(["ROUTES_FILE", "MODEL_URL", "MODEL_SLOTS", "MODEL_AUTH", "MODEL_API_KEY", "MODEL_CA_FILE", "MAX_WAITING"], one.name) } == { ROUTES_FILE = "/etc/secrets/routes/routes.yaml", MODEL_CA_FILE = "/etc/secrets/model-ca/ca.pem", MAX_WAITING = "877" }
    error_message = "The service reads the file in place of the settings for one model."
  }

  assert {
    condition = { for one in google_cloud_run_v2_service.relay[0].template[0].containers[0].env : one.name => "${one.value_source[0].secret_key_ref[0].secret} ${one.value_source[0].secret_key_ref[0].version}" if length(one.value_source) == 1 } == {
      MODEL_API_KEY_CHAT       = "keys 2"
      MODEL_API_KEY_SMALL_CHAT = "projects/my-project/secrets/keys latest"
    }
    error_message = "Each route's key is a secret of its own."
  }

  assert {
    condition = { for one in google_cloud_run_v2_service.relay[0].template[0].volumes : one.name => "${one.secret[0].secret} ${one.secret[0].items[0].version} ${one.secret[0].items[0].path}" } == {
      routes        = "inference-relay-routes 7 routes.yaml"
      model-ca      = "authorities latest ca.pem"
      ca-small-chat = "projects/other/secrets/ca latest ca.pem"
    }
    error_message = "The file is mounted by its version, so that a new one is a new revision."
  }

  assert {
    condition     = toset([for one in google_cloud_run_v2_service.relay[0].template[0].containers[0].volume_mounts : "${one.name} ${one.mount_path}"]) == toset(["routes /etc/secrets/routes", "model-ca /etc/secrets/model-ca", "ca-small-chat /etc/secrets/ca-small-chat"])
    error_message = "Files are mounted where settings and file say."
  }

  assert {
    condition     = jsonencode(google_cloud_run_v2_job.check[0].template[0].template[0].volumes) == jsonencode(google_cloud_run_v2_service.relay[0].template[0].volumes) && toset([for one in google_cloud_run_v2_job.check[0].template[0].template[0].containers[0].env : jsonencode(one)]) == toset([for one in google_cloud_run_v2_service.relay[0].template[0].containers[0].env : jsonencode(one)])
    error_message = "The check tries every route, with the same file and keys."
  }

  assert {
    condition     = toset([for one in google_secret_manager_secret_iam_member.relay_reads : "${one.project} ${one.secret_id} ${one.member}"]) == toset(["my-project keys serviceAccount:run@example.com", "other ca serviceAccount:run@example.com", "my-project authorities serviceAccount:run@example.com", "my-project inference-relay-routes serviceAccount:run@example.com"]) && length(google_secret_manager_secret_iam_member.relay_reads) == 4
    error_message = "The service may read each secret; the right on one that two routes share is given once."
  }

  assert {
    condition     = [for one in google_cloud_run_v2_service_iam_member.relay_invokes : one.name] == ["embed"] && keys(google_project_iam_member.relay_predicts) == ["models-project"]
    error_message = "The service may call the models that check who calls, once each."
  }
}

run "kept_wherever" {
  command = plan
  variables {
    routes = [{ name = "all", models = ["*"], url = "https://model.example.com", slots = 10 }]
  }

  assert {
    condition     = length(google_secret_manager_secret.routes[0].replication[0].auto) == 1 && length(google_secret_manager_secret.routes[0].replication[0].user_managed) == 0
    error_message = "Secret Manager may keep the file where it likes."
  }
}

run "kept_with_a_key" {
  command = plan
  variables {
    kms_key        = "projects/p/locations/europe-west4/keyRings/r/cryptoKeys/k"
    secret_regions = ["europe-west4"]
    routes         = [{ name = "all", models = ["*"], url = "https://model.example.com", slots = 10 }]
  }

  assert {
    condition     = google_secret_manager_secret.routes[0].replication[0].user_managed[0].replicas[0].customer_managed_encryption[0].kms_key_name == "projects/p/locations/europe-west4/keyRings/r/cryptoKeys/k"
    error_message = "The file is encrypted with the key."
  }
}

run "one_route_with_one_slot" {
  command = plan
  variables {
    routes = [
      { name = "big", models = ["big"], url = "https://big.example.com", slots = 200 },
      { name = "small", models = ["small"], url = "https://small.example.com", slots = 1 },
    ]
  }

  assert {
    condition     = output.slots == { used = 201, of = 201, instances = 1, an_instance = 201, held = 1000 }
    error_message = "No model is asked for more than it takes: there are as many instances as the smallest allows."
  }
}

run "one_route_too_small_beside_another" {
  command = plan
  variables {
    routes = [
      { name = "big", models = ["big"], url = "https://big.example.com", slots = 1000 },
      { name = "small", models = ["small"], url = "https://small.example.com", slots = 1 },
    ]
  }
  expect_failures = [google_secret_manager_secret_version.routes]
}

run "a_file_too_large" {
  command = plan
  variables {
    routes = [{ name = "all", models = [for one in range(1000) : "a-model-with-a-name-that-is-so-long-that-a-thousand-are-too-much-for-a-secret-${one}"], url = "https://model.example.com", slots = 10 }]
  }
  expect_failures = [google_secret_manager_secret_version.routes]
}

run "in_a_cluster" {
  variables {
    platform = "knative"
    image    = null
    knative  = { endpoint = "https://relay.example.com" }
    routes = [
      { name = "chat", models = ["llama*"], url = "http://vllm.vllm.svc.cluster.local:8000", slots = 64, api_key_env = "CHAT_API_KEY", ca_file = "/etc/authorities/ca.pem" },
      { name = "embeddings", models = ["bge-*"], url = "https://embed-abc123.a.run.app", slots = 10, auth = "google-id-token", cloud_run = { service = "embed" } },
    ]
  }

  assert {
    condition     = output.knative_settings.ROUTES_FILE == "/etc/inference-relay/routes/routes.yaml" && !contains(keys(output.knative_settings), "MODEL_SLOTS") && length(google_secret_manager_secret.routes) == 0
    error_message = "In a cluster the file is a ConfigMap."
  }

  assert {
    condition = yamldecode(output.routes_file).routes == [
      { name = "chat", models = ["llama*"], url = "http://vllm.vllm.svc.cluster.local:8000", slots = 32, api_key_env = "CHAT_API_KEY", ca_file = "/etc/authorities/ca.pem" },
      { name = "embeddings", models = ["bge-*"], url = "https://embed-abc123.a.run.app", slots = 5, auth = "google-id-token" },
    ]
    error_message = "An output is the file."
  }

  assert {
    condition     = keys(google_cloud_run_v2_service_iam_member.relay_invokes) == ["my-project/europe-west4/embed"]
    error_message = "The pod's account may call the models that check who calls."
  }
}
