# Topics and subscriptions, as they are with the variables that have to be given alone.

mock_provider "google" {
  mock_data "google_project" {
    defaults = { number = "1234567890" }
  }
  mock_resource "google_cloud_run_v2_service" {
    defaults = { uri = "https://relay.example.app" }
  }
}

variables {
  project     = "my-project"
  region      = "europe-west4"
  image       = "registry.example/my-project/relay/inference-relay@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  model_url   = "https://model.example.com/openai"
  model_slots = 80
}

run "defaults" {
  assert {
    condition     = google_pubsub_topic.requests[0].name == "inference-relay-requests" && google_pubsub_topic.responses[0].name == "inference-relay-responses" && google_pubsub_topic.dead_letters.name == "inference-relay-dead-letters"
    error_message = "There are three topics, named after the relay."
  }

  assert {
    condition     = alltrue([for one in [google_pubsub_topic.requests[0], google_pubsub_topic.responses[0], google_pubsub_topic.dead_letters, google_pubsub_subscription.push, google_pubsub_subscription.dead_letters, google_pubsub_subscription.responses["answers"], google_service_account.push[0], google_service_account.relay[0]] : one.project == "my-project"])
    error_message = "Everything is in the project."
  }

  assert {
    condition     = google_pubsub_subscription.push.name == "inference-relay-push" && google_pubsub_subscription.push.topic == google_pubsub_topic.requests[0].id
    error_message = "The push subscription is on the request topic."
  }

  assert {
    condition     = google_pubsub_subscription.push.push_config[0].push_endpoint == google_cloud_run_v2_service.relay[0].uri
    error_message = "Pushes go to the service."
  }

  assert {
    condition     = google_pubsub_subscription.push.push_config[0].oidc_token[0].service_account_email == google_service_account.push[0].email && google_service_account.push[0].account_id == "inference-relay-push"
    error_message = "Pushes carry a token of the push account."
  }

  assert {
    condition     = google_pubsub_subscription.push.push_config[0].oidc_token[0].audience == google_cloud_run_v2_service.relay[0].uri
    error_message = "The token's audience is said, and is the one that Cloud Run expects."
  }

  assert {
    condition     = length(google_pubsub_subscription.push.push_config[0].no_wrapper) == 0
    error_message = "Pushes are wrapped: unwrapped ones have no delivery attempt."
  }

  assert {
    condition     = google_pubsub_subscription.push.ack_deadline_seconds == 600
    error_message = "The ack deadline is the longest there is."
  }

  assert {
    condition     = google_pubsub_subscription.push.retry_policy[0].minimum_backoff == "10s" && google_pubsub_subscription.push.retry_policy[0].maximum_backoff == "600s"
    error_message = "The retry policy is 10 s to 600 s."
  }

  assert {
    condition     = google_pubsub_subscription.push.dead_letter_policy[0].dead_letter_topic == google_pubsub_topic.dead_letters.id && google_pubsub_subscription.push.dead_letter_policy[0].max_delivery_attempts == 100
    error_message = "Dead letters go to their topic after 100 deliveries."
  }

  assert {
    condition     = google_pubsub_subscription.push.message_retention_duration == "604800s" && google_pubsub_subscription.push.retain_acked_messages == false
    error_message = "Requests are kept for seven days, and not once they are answered."
  }

  assert {
    condition     = google_pubsub_subscription.push.enable_message_ordering == false && google_pubsub_subscription.push.enable_exactly_once_delivery == false && google_pubsub_subscription.push.filter == ""
    error_message = "Ordering and filter are off unless asked for; push has no exactly-once delivery."
  }

  assert {
    condition     = google_pubsub_subscription.push.expiration_policy[0].ttl == ""
    error_message = "The push subscription never expires."
  }

  assert {
    condition     = google_pubsub_subscription.dead_letters.name == "inference-relay-dead-letters" && google_pubsub_subscription.dead_letters.topic == google_pubsub_topic.dead_letters.id
    error_message = "Dead letters have a subscription."
  }

  assert {
    condition     = length(google_pubsub_subscription.dead_letters.push_config) == 0 && google_pubsub_subscription.dead_letters.expiration_policy[0].ttl == "" && google_pubsub_subscription.dead_letters.message_retention_duration == "2678400s" && google_pubsub_subscription.dead_letters.ack_deadline_seconds == 600 && google_pubsub_subscription.dead_letters.retain_acked_messages == false
    error_message = "Dead letters are pulled, for as long as Pub/Sub keeps anything."
  }

  assert {
    condition     = keys(google_pubsub_subscription.responses) == ["answers"]
    error_message = "Responses have a subscription unless others are named."
  }

  assert {
    condition     = alltrue([for one in google_pubsub_subscription.responses : one.topic == google_pubsub_topic.responses[0].id && length(one.push_config) == 0 && one.expiration_policy[0].ttl == "" && one.filter == "" && one.ack_deadline_seconds == 60 && one.message_retention_duration == "604800s" && one.retain_acked_messages == false && one.enable_message_ordering == false])
    error_message = "Responses are pulled, all of them, and their subscription never expires."
  }

  assert {
    condition     = alltrue([for one in [google_pubsub_topic.requests[0], google_pubsub_topic.responses[0], google_pubsub_topic.dead_letters, google_pubsub_subscription.push, google_pubsub_subscription.dead_letters, google_pubsub_subscription.responses["answers"]] : one.deletion_policy == "PREVENT" && length(one.labels) == 0])
    error_message = "What holds messages is protected."
  }

  assert {
    condition     = output.request_topic == "inference-relay-requests" && output.response_topic == "inference-relay-responses" && output.response_subscriptions == { answers = "inference-relay-answers" } && output.push_subscription == "inference-relay-push" && output.dead_letter_subscription == "inference-relay-dead-letters"
    error_message = "The outputs name topics and subscriptions."
  }

  assert {
    condition     = output.slots.used == 81 && output.slots.of == 80 && output.slots.held == 3000 && output.endpoint == "https://relay.example.app" && output.push_service_account == google_service_account.push[0].email && output.relay_service_account == google_service_account.relay[0].email && output.knative_settings == null
    error_message = "The outputs say how much is used, where, and by whom."
  }

  assert {
    condition     = output.publish == "gcloud pubsub topics publish inference-relay-requests --project=my-project --message='{\"metadata\": {\"id\": \"1\"}, \"body\": {\"model\": \"MODEL\", \"prompt\": \"The sea is\", \"max_tokens\": 16}}'"
    error_message = "An output is the command that publishes."
  }

  assert {
    condition     = output.read == "gcloud pubsub subscriptions pull inference-relay-answers --project=my-project --limit=10 --auto-ack --format='value(message.data.decode(base64))'"
    error_message = "An output is the command that reads."
  }

  assert {
    condition     = output.read_dead_letters == "gcloud pubsub subscriptions pull inference-relay-dead-letters --project=my-project --limit=10 --format=json" && output.logs == "gcloud run services logs read inference-relay --project=my-project --region=europe-west4 --limit=20"
    error_message = "Outputs are the commands for when no answer comes."
  }
}

run "stored_in_the_region" {
  assert {
    condition     = alltrue([for one in [google_pubsub_topic.requests[0], google_pubsub_topic.responses[0], google_pubsub_topic.dead_letters] : toset(one.message_storage_policy[0].allowed_persistence_regions) == toset(["europe-west4"])])
    error_message = "Messages lie in the region."
  }
}

run "stored_elsewhere" {
  variables {
    storage_regions = ["europe-west1", "europe-west4"]
  }

  assert {
    condition     = alltrue([for one in [google_pubsub_topic.requests[0], google_pubsub_topic.responses[0], google_pubsub_topic.dead_letters] : toset(one.message_storage_policy[0].allowed_persistence_regions) == toset(["europe-west1", "europe-west4"])])
    error_message = "Messages lie where it is said."
  }
}

run "stored_wherever" {
  variables {
    storage_regions = []
  }

  assert {
    condition     = alltrue([for one in [google_pubsub_topic.requests[0], google_pubsub_topic.responses[0], google_pubsub_topic.dead_letters] : length(one.message_storage_policy) == 0])
    error_message = "Where messages lie can be left to the organisation."
  }
}

run "topics_of_others" {
  variables {
    topics                 = { requests = "projects/other/topics/asked", responses = "projects/third/topics/answered" }
    response_subscriptions = { a = {} }
    requesters             = ["user:ann@example.com"]
  }

  assert {
    condition     = length(google_pubsub_topic.requests) + length(google_pubsub_topic.responses) == 0
    error_message = "Topics that are there are not made."
  }

  assert {
    condition     = google_pubsub_subscription.push.topic == "projects/other/topics/asked" && google_pubsub_subscription.responses["a"].topic == "projects/third/topics/answered" && google_pubsub_subscription.push.project == "my-project"
    error_message = "Subscriptions of this project are on them."
  }

  assert {
    condition     = google_pubsub_topic_iam_member.relay_publishes.project == "third" && google_pubsub_topic_iam_member.relay_publishes.topic == "answered" && google_pubsub_topic_iam_member.requesters["user:ann@example.com"].project == "other" && google_pubsub_topic_iam_member.requesters["user:ann@example.com"].topic == "asked"
    error_message = "Rights are given on them, where they are."
  }

  assert {
    condition     = [for one in google_cloud_run_v2_service.relay[0].template[0].containers[0].env : one.value if one.name == "RESPONSE_TOPIC"] == ["projects/third/topics/answered"] && strcontains(output.publish, "topics publish asked --project=other ")
    error_message = "The service publishes there."
  }
}

run "responses_read_by_others" {
  variables {
    topics                 = { responses = "projects/third/topics/answered" }
    response_subscriptions = {}
  }

  assert {
    condition     = length(google_pubsub_subscription.responses) == 0 && output.read == null
    error_message = "A topic that is there may have its readers already."
  }
}

run "as_asked" {
  variables {
    name                      = "nightly"
    labels                    = { team = "search" }
    deletion_protection       = false
    ack_deadline_seconds      = 120
    model_timeout_seconds     = 90
    publish_timeout_seconds   = 20
    max_delivery_attempts     = 50
    message_retention_seconds = 1209600
    message_ordering          = true
    filter                    = "attributes.kind = \"inference\""
    response_subscriptions = {
      team-a = { filter = "attributes.team = \"a\"" }
      team-b = {}
    }
  }

  assert {
    condition     = [google_pubsub_topic.requests[0].name, google_pubsub_topic.responses[0].name, google_pubsub_topic.dead_letters.name, google_pubsub_subscription.push.name, google_pubsub_subscription.dead_letters.name] == ["nightly-requests", "nightly-responses", "nightly-dead-letters", "nightly-push", "nightly-dead-letters"]
    error_message = "Everything is named after the relay."
  }

  assert {
    condition     = alltrue([for one in [google_pubsub_topic.requests[0], google_pubsub_topic.responses[0], google_pubsub_topic.dead_letters, google_pubsub_subscription.push, google_pubsub_subscription.dead_letters, google_pubsub_subscription.responses["team-a"], google_cloud_run_v2_service.relay[0]] : one.labels == tomap({ team = "search" })])
    error_message = "Labels are on everything that can carry them."
  }

  assert {
    condition     = alltrue([for one in [google_pubsub_topic.requests[0], google_pubsub_topic.responses[0], google_pubsub_topic.dead_letters, google_pubsub_subscription.push, google_pubsub_subscription.dead_letters, google_pubsub_subscription.responses["team-a"]] : one.deletion_policy == "DELETE"])
    error_message = "The protection can be taken off."
  }

  assert {
    condition     = google_pubsub_subscription.push.ack_deadline_seconds == 120 && google_pubsub_subscription.push.dead_letter_policy[0].max_delivery_attempts == 50 && google_pubsub_subscription.push.message_retention_duration == "1209600s"
    error_message = "Deadline, attempts and retention are the variables'."
  }

  assert {
    condition     = google_pubsub_subscription.push.filter == "attributes.kind = \"inference\"" && google_pubsub_subscription.push.enable_message_ordering
    error_message = "Filter and ordering are the variables'."
  }

  assert {
    condition     = { for name, one in google_pubsub_subscription.responses : one.name => one.filter } == { nightly-team-a = "attributes.team = \"a\"", nightly-team-b = "" }
    error_message = "Each reader has a subscription with its filter."
  }

  assert {
    condition     = alltrue([for one in google_pubsub_subscription.responses : one.enable_message_ordering && one.expiration_policy[0].ttl == "" && one.message_retention_duration == "1209600s"])
    error_message = "Responses are as ordered as requests, are kept as long, and their subscriptions never expire."
  }
}

run "control_messages" {
  variables {
    control_messages  = true
    ledger_url_secret = { secret = "ledger-url" }
  }

  assert {
    condition     = google_pubsub_subscription.control[0].filter == "attributes:relay_control" && google_pubsub_subscription.control[0].topic == google_pubsub_topic.requests[0].id
    error_message = "Control messages have a subscription of their own, on the request topic."
  }

  assert {
    condition     = google_pubsub_subscription.control[0].push_config == google_pubsub_subscription.push.push_config
    error_message = "They are pushed as requests are."
  }

  assert {
    condition     = [for one in google_cloud_run_v2_service.relay[0].template[0].containers[0].env : one.value if one.name == "CONTROL_MESSAGES"] == ["true"]
    error_message = "The service takes them."
  }
}

run "no_control_messages" {
  assert {
    condition     = length(google_pubsub_subscription.control) == 0 && length([for one in google_cloud_run_v2_service.relay[0].template[0].containers[0].env : one if one.name == "CONTROL_MESSAGES"]) == 0
    error_message = "They are off unless they are wanted."
  }
}
