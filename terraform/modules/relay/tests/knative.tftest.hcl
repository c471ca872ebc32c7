# The service in a cluster: Pub/Sub and accounts alone.

mock_provider "google" {
  override_resource {
    target = google_service_account.push
    values = { email = "push@example.com" }
  }
  override_resource {
    target = google_service_account.relay
    values = { name = "projects/my-project/serviceAccounts/run" }
  }
}

variables {
  project     = "my-project"
  region      = "europe-west4"
  platform    = "knative"
  model_slots = 80
  knative     = { endpoint = "https://relay.example.com" }
}

run "defaults" {
  assert {
    condition     = length(google_cloud_run_v2_service.relay) + length(google_cloud_run_v2_job.check) + length(google_cloud_run_v2_service_iam_member.push_invokes) + length(google_redis_instance.ledger) + length(google_secret_manager_secret_iam_member.relay_reads) + length(google_service_account_iam_member.pod_is_relay) == 0
    error_message = "Only the Pub/Sub side is made."
  }

  assert {
    condition     = google_pubsub_subscription.push.push_config[0].push_endpoint == "https://relay.example.com" && google_pubsub_subscription.push.push_config[0].oidc_token[0].service_account_email == "push@example.com" && google_pubsub_subscription.push.push_config[0].oidc_token[0].audience == "https://relay.example.com"
    error_message = "Pushes go to the endpoint, for the endpoint's audience."
  }

  assert {
    condition = output.knative_settings == {
      ACK_DEADLINE_SECONDS    = "600"
      GRACE_SECONDS           = "570"
      MARGIN_SECONDS          = "10"
      MAX_AGE_SECONDS         = "86400"
      MAX_ATTEMPTS            = "10"
      MAX_WAITING             = "3000"
      MODEL_SLOTS             = "40"
      MODEL_TIMEOUT_SECONDS   = "540"
      PUBLISH_TIMEOUT_SECONDS = "30"
      PUSH_AUDIENCE           = "https://relay.example.com"
      PUSH_AUTH               = "verify"
      PUSH_SERVICE_ACCOUNT    = "push@example.com"
      RESPONSE_TOPIC          = "projects/my-project/topics/inference-relay-responses"
    }
    error_message = "An output has the settings that the service needs."
  }

  assert {
    condition     = output.endpoint == "https://relay.example.com" && output.logs == null && output.check == null
    error_message = "The endpoint is the one that was given."
  }
}

run "as_asked" {
  variables {
    model_url = "http://kubeai/openai"
    knative = {
      endpoint          = "https://relay.example.com:8443/push"
      audience          = "relay"
      workload_identity = { namespace = "models", service_account = "relay" }
    }
  }

  assert {
    condition     = google_pubsub_subscription.push.push_config[0].push_endpoint == "https://relay.example.com:8443/push" && google_pubsub_subscription.push.push_config[0].oidc_token[0].audience == "relay" && output.knative_settings.PUSH_AUDIENCE == "relay" && output.knative_settings.MODEL_URL == "http://kubeai/openai"
    error_message = "Audience and model are the variables'."
  }

  assert {
    condition     = google_service_account_iam_member.pod_is_relay[0].service_account_id == "projects/my-project/serviceAccounts/run" && google_service_account_iam_member.pod_is_relay[0].role == "roles/iam.workloadIdentityUser" && google_service_account_iam_member.pod_is_relay[0].member == "serviceAccount:my-project.svc.id.goog[models/relay]"
    error_message = "The pod may be the relay, by Workload Identity."
  }
}

run "cluster_elsewhere" {
  variables {
    knative = {
      endpoint          = "https://relay.example.com"
      workload_identity = { namespace = "models", service_account = "relay", pool = "clusters.svc.id.goog" }
    }
  }

  assert {
    condition     = google_service_account_iam_member.pod_is_relay[0].member == "serviceAccount:clusters.svc.id.goog[models/relay]"
    error_message = "The cluster may be in another project."
  }
}
