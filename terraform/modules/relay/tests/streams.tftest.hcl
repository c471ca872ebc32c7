# Several push subscriptions.

mock_provider "google" {
  mock_data "google_project" {
    defaults = { number = "1234567890" }
  }
  mock_resource "google_cloud_run_v2_service" {
    defaults = { uri = "https://relay.example.app" }
  }
  override_resource {
    target = google_service_account.relay
    values = { name = "projects/my-project/serviceAccounts/run", email = "run@example.com" }
  }
}

variables {
  project     = "my-project"
  region      = "europe-west4"
  image       = "registry.example/my-project/relay/inference-relay@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  model_url   = "https://model.example.com/openai"
  model_slots = 80
}

run "of_each_kind" {
  variables {
    labels                = { team = "search" }
    filter                = "NOT attributes:stream"
    message_ordering      = true
    ack_deadline_seconds  = 590
    model_timeout_seconds = 500
    model_api_key_secret  = { secret = "model-api-key" }
    response_topics       = ["projects/team-a/topics/answers"]
    streams = {
      push = { max_share = 0.75, priority = "low" }
      urgent = {
        requesters             = ["user:ann@example.com", "user:bob@example.com"]
        priority               = "high"
        response_subscriptions = { answers = { members = ["user:ann@example.com"] }, eu = { filter = "attributes.region = \"eu\"" } }
      }
      nightly = { filter = "attributes.stream = \"nightly\"", max_share = 0.5, models = ["llama*"], allowed_paths = ["/v1/embeddings"], max_attempts = 3 }
      theirs = {
        request_topic          = "projects/other/topics/asked"
        response_topic         = "projects/third/topics/answered"
        requesters             = ["user:bob@example.com"]
        response_subscriptions = { all = {} }
      }
    }
  }

  assert {
    condition     = { for name, one in google_pubsub_subscription.streams : one.name => one.filter } == { inference-relay-push-urgent = "", inference-relay-push-nightly = "attributes.stream = \"nightly\"", inference-relay-push-theirs = "" } && google_pubsub_subscription.push.name == "inference-relay-push" && google_pubsub_subscription.push.filter == "NOT attributes:stream"
    error_message = "Each stream has a subscription beside the relay's own."
  }

  assert {
    condition     = google_pubsub_subscription.streams["urgent"].topic == google_pubsub_topic.streams["urgent-requests"].id && google_pubsub_subscription.streams["nightly"].topic == google_pubsub_topic.requests[0].id && google_pubsub_subscription.streams["theirs"].topic == "projects/other/topics/asked"
    error_message = "It reads a topic of its own, the relay's with a filter, or one that is there."
  }

  assert {
    condition = alltrue([for stream in google_pubsub_subscription.streams : alltrue([for field in ["project", "labels", "deletion_policy", "ack_deadline_seconds", "message_retention_duration", "retain_acked_messages", "enable_message_ordering", "enable_exactly_once_delivery", "push_config", "retry_policy", "dead_letter_policy", "expiration_policy"] :
    jsonencode(stream[field]) == jsonencode(google_pubsub_subscription.push[field])])])
    error_message = "It is as hardened as the relay's own: identity, dead letters, retries, deadline, no expiry."
  }

  assert {
    condition     = { for name, one in google_pubsub_topic.streams : name => one.name } == { urgent-requests = "inference-relay-urgent-requests", urgent-responses = "inference-relay-urgent-responses" } && alltrue([for one in google_pubsub_topic.streams : one.project == "my-project" && one.labels == tomap({ team = "search" }) && one.deletion_policy == "PREVENT" && one.message_storage_policy[0].allowed_persistence_regions == google_pubsub_topic.requests[0].message_storage_policy[0].allowed_persistence_regions])
    error_message = "Topics are made where none is named, as protected as the others."
  }

  assert {
    condition = yamldecode(google_secret_manager_secret_version.routes[0].secret_data) == {
      routes = [{ name = "default", models = ["*"], url = "https://model.example.com/openai", slots = 27, api_key_env = "MODEL_API_KEY_DEFAULT" }]
      streams = [
        { subscription = "inference-relay-push-nightly", max_share = 0.5, models = ["llama*"], allowed_paths = ["/v1/embeddings"], max_attempts = 3 },
        { subscription = "inference-relay-push", max_share = 0.75, priority = "low" },
        { subscription = "inference-relay-push-theirs", max_share = 1, response_topic = "projects/third/topics/answered" },
        { subscription = "inference-relay-push-urgent", max_share = 1, response_topic = "projects/my-project/topics/inference-relay-urgent-responses", priority = "high" },
      ]
    }
    error_message = "The file has the one model, and what each subscription may."
  }

  assert {
    condition     = { for one in google_cloud_run_v2_service.relay[0].template[0].containers[0].env : one.name => one.value if contains(["MODEL_URL", "MODEL_SLOTS", "MODEL_API_KEY", "ROUTES_FILE", "RESPONSE_TOPIC"], one.name) } == { ROUTES_FILE = "/etc/secrets/routes/routes.yaml", RESPONSE_TOPIC = "projects/my-project/topics/inference-relay-responses" } && [for one in google_cloud_run_v2_service.relay[0].template[0].containers[0].env : one.value_source[0].secret_key_ref[0].secret if one.name == "MODEL_API_KEY_DEFAULT"] == ["model-api-key"]
    error_message = "The service reads the model from the file, and its key where that says."
  }

  assert {
    condition     = toset([for one in google_pubsub_topic_iam_member.relay_publishes_elsewhere : "${one.project} ${one.topic} ${one.role} ${one.member}"]) == toset(["my-project inference-relay-urgent-responses roles/pubsub.publisher serviceAccount:run@example.com", "third answered roles/pubsub.publisher serviceAccount:run@example.com", "team-a answers roles/pubsub.publisher serviceAccount:run@example.com"])
    error_message = "The service may publish to each response topic."
  }

  assert {
    condition     = toset([for one in google_pubsub_topic_iam_member.stream_requesters : "${one.project} ${one.topic} ${one.role} ${one.member}"]) == toset(["my-project inference-relay-urgent-requests roles/pubsub.publisher user:ann@example.com", "my-project inference-relay-urgent-requests roles/pubsub.publisher user:bob@example.com", "other asked roles/pubsub.publisher user:bob@example.com"])
    error_message = "Requesters may publish to their own stream's topic."
  }

  assert {
    condition     = { for one in google_pubsub_subscription_iam_member.pubsub_acknowledges_streams : one.subscription => "${one.project} ${one.role} ${one.member}" } == { for name in ["urgent", "nightly", "theirs"] : "inference-relay-push-${name}" => "my-project roles/pubsub.subscriber serviceAccount:service-1234567890@gcp-sa-pubsub.iam.gserviceaccount.com" }
    error_message = "Pub/Sub may take dead letters from each."
  }

  assert {
    condition     = output.response_subscriptions == { answers = "inference-relay-answers", urgent-answers = "inference-relay-urgent-answers", urgent-eu = "inference-relay-urgent-eu", theirs-all = "inference-relay-theirs-all" } && google_pubsub_subscription.responses["urgent-eu"].topic == google_pubsub_topic.streams["urgent-responses"].id && google_pubsub_subscription.responses["urgent-eu"].filter == "attributes.region = \"eu\"" && google_pubsub_subscription.responses["theirs-all"].topic == "projects/third/topics/answered" && google_pubsub_subscription.responses["answers"].topic == google_pubsub_topic.responses[0].id
    error_message = "A stream's responses have readers of their own."
  }

  assert {
    condition     = [for one in google_pubsub_subscription_iam_member.response_readers : "${one.subscription} ${one.member}"] == ["inference-relay-urgent-answers user:ann@example.com"]
    error_message = "They may read them."
  }

  assert {
    condition     = output.stream_subscriptions == { push = "inference-relay-push", urgent = "inference-relay-push-urgent", nightly = "inference-relay-push-nightly", theirs = "inference-relay-push-theirs" } && output.stream_topics == { push = "projects/my-project/topics/inference-relay-requests", urgent = "projects/my-project/topics/inference-relay-urgent-requests", nightly = "projects/my-project/topics/inference-relay-requests", theirs = "projects/other/topics/asked" }
    error_message = "Outputs name each stream's subscription and topic."
  }
}

run "fifty" {
  command = plan
  variables {
    streams = { for number in range(50) : "team-${number}" => { response_subscriptions = { answers = {} } } }
  }

  assert {
    condition     = length(google_pubsub_subscription.streams) == 50 && length(google_pubsub_topic.streams) == 100 && length(yamldecode(output.routes_file).streams) == 51 && length(google_pubsub_subscription.responses) == 51
    error_message = "Fifty teams have their own."
  }
}

run "without_the_protection" {
  command = plan
  variables {
    deletion_protection = false
    streams             = { urgent = {} }
  }

  assert {
    condition     = google_pubsub_subscription.streams["urgent"].deletion_policy == "DELETE" && google_pubsub_topic.streams["urgent-requests"].deletion_policy == "DELETE"
    error_message = "The protection can be taken off."
  }
}

run "of_a_model_beside" {
  command = plan
  variables {
    model_url       = null
    max_instances   = 2
    min_instances   = 1
    model_container = { image = "registry.example/vllm@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" }
    streams         = { urgent = {} }
  }

  assert {
    condition     = yamldecode(output.routes_file).routes == [{ name = "default", models = ["*"], url = "http://127.0.0.1:8000", slots = 40 }]
    error_message = "The one model may be beside the service."
  }
}

run "a_key_in_a_cluster" {
  command = plan
  variables {
    platform   = "knative"
    image      = null
    knative    = { endpoint = "https://relay.example.com" }
    model_auth = "key"
    streams    = { urgent = {} }
  }

  assert {
    condition     = yamldecode(output.routes_file).routes == [{ name = "default", models = ["*"], url = "https://model.example.com/openai", slots = 40, auth = "key", api_key_env = "MODEL_API_KEY_DEFAULT" }]
    error_message = "The file says where the key is."
  }
}

# Each message has one way.

run "beside_the_relays_own" {
  command = plan
  variables {
    streams = { nightly = { filter = "attributes.stream = \"nightly\"" } }
  }
  expect_failures = [google_pubsub_subscription.push]
}

run "twice_the_same_filter" {
  command = plan
  variables {
    filter = "NOT attributes:stream"
    streams = {
      a = { filter = "attributes.stream = \"a\"" }
      b = { filter = "attributes.stream = \"a\"" }
    }
  }
  expect_failures = [google_pubsub_subscription.push]
}

run "one_topic_twice" {
  command = plan
  variables {
    streams = {
      a = { request_topic = "projects/other/topics/asked" }
      b = { request_topic = "projects/other/topics/asked", filter = "attributes.stream = \"b\"" }
    }
  }
  expect_failures = [google_pubsub_subscription.push]
}

run "the_relays_own_topic_by_name" {
  command = plan
  variables {
    streams = { a = { request_topic = "projects/my-project/topics/inference-relay-requests" } }
  }
  expect_failures = [google_pubsub_subscription.push]
}

run "two_of_one_name" {
  command = plan
  variables {
    response_subscriptions = { urgent-answers = {} }
    streams                = { urgent = { response_subscriptions = { answers = {} } } }
  }
  expect_failures = [google_pubsub_subscription.push]
}

run "a_reader_named_control" {
  command = plan
  variables {
    control_messages       = true
    ledger_url_secret      = { secret = "ledger-url" }
    response_subscriptions = { control = {} }
  }
  expect_failures = [google_pubsub_subscription.push]
}

run "a_reader_with_a_streams_name" {
  command = plan
  variables {
    response_subscriptions = { push-urgent = {} }
    streams                = { urgent = {} }
  }
  expect_failures = [google_pubsub_subscription.push]
}
