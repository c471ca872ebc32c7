# Who may do what: each role on one resource.

mock_provider "google" {
  mock_data "google_project" {
    defaults = { number = "1234567890" }
  }
  override_resource {
    target = google_service_account.push
    values = { name = "projects/my-project/serviceAccounts/push", email = "push@example.com", member = "serviceAccount:push@example.com" }
  }
  override_resource {
    target = google_service_account.relay
    values = { name = "projects/my-project/serviceAccounts/run", email = "run@example.com", member = "serviceAccount:run@example.com" }
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
    condition     = google_service_account.relay[0].account_id == "inference-relay-run" && google_service_account.push[0].account_id == "inference-relay-push"
    error_message = "Service and pushes have an account each."
  }

  assert {
    condition     = google_pubsub_topic_iam_member.relay_publishes.topic == google_pubsub_topic.responses[0].name && google_pubsub_topic_iam_member.relay_publishes.role == "roles/pubsub.publisher" && google_pubsub_topic_iam_member.relay_publishes.member == "serviceAccount:run@example.com"
    error_message = "The relay may publish to the response topic."
  }

  assert {
    condition     = google_cloud_run_v2_service.relay[0].template[0].service_account == "run@example.com"
    error_message = "The service runs as the relay's account."
  }

  assert {
    condition     = google_cloud_run_v2_service_iam_member.push_invokes[0].name == google_cloud_run_v2_service.relay[0].name && google_cloud_run_v2_service_iam_member.push_invokes[0].location == "europe-west4" && google_cloud_run_v2_service_iam_member.push_invokes[0].role == "roles/run.invoker" && google_cloud_run_v2_service_iam_member.push_invokes[0].member == "serviceAccount:push@example.com"
    error_message = "The push account may invoke this service."
  }

  assert {
    condition     = google_service_account_iam_member.pubsub_signs_as_push.service_account_id == "projects/my-project/serviceAccounts/push" && google_service_account_iam_member.pubsub_signs_as_push.role == "roles/iam.serviceAccountTokenCreator" && google_service_account_iam_member.pubsub_signs_as_push.member == "serviceAccount:service-1234567890@gcp-sa-pubsub.iam.gserviceaccount.com"
    error_message = "Pub/Sub may make tokens of the push account, and of no other."
  }

  assert {
    condition     = google_pubsub_topic_iam_member.pubsub_publishes_dead_letters.topic == google_pubsub_topic.dead_letters.name && google_pubsub_topic_iam_member.pubsub_publishes_dead_letters.role == "roles/pubsub.publisher" && google_pubsub_topic_iam_member.pubsub_publishes_dead_letters.member == "serviceAccount:service-1234567890@gcp-sa-pubsub.iam.gserviceaccount.com"
    error_message = "Pub/Sub may publish dead letters."
  }

  assert {
    condition     = google_pubsub_subscription_iam_member.pubsub_acknowledges_dead_letters.subscription == google_pubsub_subscription.push.name && google_pubsub_subscription_iam_member.pubsub_acknowledges_dead_letters.role == "roles/pubsub.subscriber" && google_pubsub_subscription_iam_member.pubsub_acknowledges_dead_letters.member == "serviceAccount:service-1234567890@gcp-sa-pubsub.iam.gserviceaccount.com"
    error_message = "Pub/Sub may take dead letters from the push subscription."
  }

  assert {
    condition     = alltrue([for one in [google_pubsub_topic_iam_member.relay_publishes, google_pubsub_topic_iam_member.pubsub_publishes_dead_letters, google_pubsub_subscription_iam_member.pubsub_acknowledges_dead_letters, google_cloud_run_v2_service_iam_member.push_invokes[0]] : one.project == "my-project"])
    error_message = "Rights are given in this project."
  }

  assert {
    condition     = data.google_project.this.project_id == "my-project"
    error_message = "The service agent is this project's."
  }

  assert {
    condition     = length(google_pubsub_topic_iam_member.requesters) + length(google_pubsub_subscription_iam_member.response_readers) + length(google_pubsub_subscription_iam_member.dead_letter_readers) + length(google_secret_manager_secret_iam_member.relay_reads) + length(google_service_account_iam_member.pod_is_relay) == 0
    error_message = "Nobody has a right that was not asked for."
  }
}

run "people" {
  variables {
    requesters = ["user:ann@example.com", "group:team@example.com"]
    response_subscriptions = {
      a = { members = ["user:ann@example.com", "user:bob@example.com"] }
      b = { members = ["user:bob@example.com"] }
    }
    dead_letter_readers = ["group:operators@example.com"]
  }

  assert {
    condition     = toset([for one in google_pubsub_topic_iam_member.requesters : "${one.project} ${one.member} ${one.role} ${one.topic}"]) == toset(["my-project user:ann@example.com roles/pubsub.publisher inference-relay-requests", "my-project group:team@example.com roles/pubsub.publisher inference-relay-requests"])
    error_message = "Requesters may publish requests."
  }

  assert {
    condition     = toset([for one in google_pubsub_subscription_iam_member.response_readers : "${one.project} ${one.member} ${one.role} ${one.subscription}"]) == toset(["my-project user:ann@example.com roles/pubsub.subscriber inference-relay-a", "my-project user:bob@example.com roles/pubsub.subscriber inference-relay-a", "my-project user:bob@example.com roles/pubsub.subscriber inference-relay-b"])
    error_message = "Readers may read their own subscriptions."
  }

  assert {
    condition     = [for one in google_pubsub_subscription_iam_member.dead_letter_readers : "${one.project} ${one.member} ${one.role} ${one.subscription}"] == ["my-project group:operators@example.com roles/pubsub.subscriber inference-relay-dead-letters"]
    error_message = "Dead letters have readers."
  }
}

run "accounts_of_others" {
  variables {
    accounts = { push = "pusher@other.iam.gserviceaccount.com", relay = "runner@third.iam.gserviceaccount.com" }
  }

  assert {
    condition     = length(google_service_account.push) + length(google_service_account.relay) == 0
    error_message = "Accounts that are there are not made."
  }

  assert {
    condition     = google_service_account_iam_member.pubsub_signs_as_push.service_account_id == "projects/other/serviceAccounts/pusher@other.iam.gserviceaccount.com" && google_cloud_run_v2_service_iam_member.push_invokes[0].member == "serviceAccount:pusher@other.iam.gserviceaccount.com" && google_pubsub_subscription.push.push_config[0].oidc_token[0].service_account_email == "pusher@other.iam.gserviceaccount.com"
    error_message = "Pushes come from the one."
  }

  assert {
    condition     = google_cloud_run_v2_service.relay[0].template[0].service_account == "runner@third.iam.gserviceaccount.com" && google_pubsub_topic_iam_member.relay_publishes.member == "serviceAccount:runner@third.iam.gserviceaccount.com"
    error_message = "The service runs as the other."
  }
}

run "pod_as_an_account_of_others" {
  variables {
    platform  = "knative"
    image     = null
    model_url = null
    accounts  = { relay = "runner@third.iam.gserviceaccount.com" }
    knative   = { endpoint = "https://relay.example.com", workload_identity = { namespace = "models", service_account = "relay" } }
  }

  assert {
    condition     = google_service_account_iam_member.pod_is_relay[0].service_account_id == "projects/third/serviceAccounts/runner@third.iam.gserviceaccount.com"
    error_message = "The pod may be the account that is there."
  }
}
