# The service on Cloud Run.

mock_provider "google" {}

variables {
  project     = "my-project"
  region      = "europe-west4"
  image       = "registry.example/my-project/relay/inference-relay@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  model_url   = "https://model.example.com/openai"
  model_slots = 80
}

run "defaults" {
  assert {
    condition     = google_cloud_run_v2_service.relay[0].name == "inference-relay" && google_cloud_run_v2_service.relay[0].location == "europe-west4" && google_cloud_run_v2_service.relay[0].project == "my-project"
    error_message = "The service is named after the relay."
  }

  assert {
    condition     = google_cloud_run_v2_service.relay[0].template[0].containers[0].image == var.image && length(google_cloud_run_v2_service.relay[0].template[0].containers) == 1
    error_message = "It runs the image."
  }

  assert {
    condition     = google_cloud_run_v2_service.relay[0].ingress == "INGRESS_TRAFFIC_INTERNAL_ONLY" && google_cloud_run_v2_service.relay[0].invoker_iam_disabled == false
    error_message = "Nobody reaches it from outside, and IAM checks who pushes."
  }

  assert {
    condition     = google_cloud_run_v2_service.relay[0].deletion_protection
    error_message = "It is protected."
  }

  assert {
    condition     = google_cloud_run_v2_service.relay[0].template[0].max_instance_request_concurrency == 80
    error_message = "An instance gets as many pushes as it works on."
  }

  assert {
    condition     = google_cloud_run_v2_service.relay[0].template[0].timeout == "600s"
    error_message = "Cloud Run waits as long as Pub/Sub does."
  }

  assert {
    condition     = google_cloud_run_v2_service.relay[0].scaling[0].min_instance_count == 0 && google_cloud_run_v2_service.relay[0].scaling[0].max_instance_count == 1 && google_cloud_run_v2_service.relay[0].template[0].scaling[0].max_instance_count == 1
    error_message = "It scales from none to one, all revisions together."
  }

  assert {
    condition     = google_cloud_run_v2_service.relay[0].template[0].containers[0].resources[0].limits == tomap({ cpu = "1", memory = "1Gi" }) && google_cloud_run_v2_service.relay[0].template[0].containers[0].resources[0].cpu_idle && google_cloud_run_v2_service.relay[0].template[0].containers[0].resources[0].startup_cpu_boost
    error_message = "It has one CPU, paid while it works, and 1 GiB."
  }

  assert {
    condition     = google_cloud_run_v2_service.relay[0].template[0].execution_environment == "EXECUTION_ENVIRONMENT_GEN2" && google_cloud_run_v2_service.relay[0].template[0].containers[0].ports[0].container_port == 8080
    error_message = "It runs in the second generation, on port 8080."
  }

  assert {
    condition     = google_cloud_run_v2_service.relay[0].template[0].containers[0].startup_probe[0].http_get[0].path == "/health/ready" && google_cloud_run_v2_service.relay[0].template[0].containers[0].startup_probe[0].period_seconds == 2 && google_cloud_run_v2_service.relay[0].template[0].containers[0].startup_probe[0].timeout_seconds == 2 && google_cloud_run_v2_service.relay[0].template[0].containers[0].startup_probe[0].failure_threshold == 30
    error_message = "It gets pushes once it is ready, and has a minute for that."
  }

  assert {
    condition     = google_cloud_run_v2_service.relay[0].template[0].containers[0].liveness_probe[0].http_get[0].path == "/health/live" && google_cloud_run_v2_service.relay[0].template[0].containers[0].liveness_probe[0].period_seconds == 30 && google_cloud_run_v2_service.relay[0].template[0].containers[0].liveness_probe[0].timeout_seconds == 10 && google_cloud_run_v2_service.relay[0].template[0].containers[0].liveness_probe[0].failure_threshold == 4
    error_message = "It is started again when it does not answer for two minutes."
  }

  assert {
    condition     = google_cloud_run_v2_service.relay[0].traffic[0].type == "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST" && google_cloud_run_v2_service.relay[0].traffic[0].percent == 100
    error_message = "The last revision gets every push."
  }

  assert {
    condition     = length(google_cloud_run_v2_service.relay[0].template[0].vpc_access) == 0
    error_message = "Without a network there is no VPC egress."
  }

  assert {
    condition = { for one in google_cloud_run_v2_service.relay[0].template[0].containers[0].env : one.name => one.value } == {
      ACK_DEADLINE_SECONDS    = "600"
      CONCURRENCY             = "80"
      GRACE_SECONDS           = "8"
      MAX_AGE_SECONDS         = "86400"
      MAX_ATTEMPTS            = "10"
      MODEL_TIMEOUT_SECONDS   = "540"
      MODEL_URL               = "https://model.example.com/openai"
      PUBLISH_TIMEOUT_SECONDS = "30"
      PUSH_AUTH               = "platform"
      RESPONSE_TOPIC          = "projects/my-project/topics/inference-relay-responses"
    }
    error_message = "The service has these settings."
  }
}

run "as_asked" {
  variables {
    deletion_protection     = false
    model_slots             = 250
    min_instances           = 2
    max_instances           = 5
    concurrency             = 50
    cpu                     = 2
    memory                  = "8Gi"
    model_url               = "http://10.0.0.5:8000/openai"
    network                 = { network = "cluster", subnetwork = "cluster-run", tags = ["relay"] }
    model_api_key_secret    = { secret = "model-api-key", version = "3" }
    ledger_url_secret       = { secret = "projects/other/secrets/redis" }
    ack_deadline_seconds    = 300
    model_timeout_seconds   = 250.5
    publish_timeout_seconds = 20
    max_attempts            = 5
    max_age_seconds         = 3600
    environment             = { LOG_LEVEL = "WARNING" }
  }

  assert {
    condition     = google_cloud_run_v2_service.relay[0].scaling[0].min_instance_count == 2 && google_cloud_run_v2_service.relay[0].scaling[0].max_instance_count == 5 && google_cloud_run_v2_service.relay[0].template[0].scaling[0].max_instance_count == 5 && google_cloud_run_v2_service.relay[0].template[0].max_instance_request_concurrency == 50 && output.slots.used == 250
    error_message = "Instances and concurrency are the variables'."
  }

  assert {
    condition     = google_cloud_run_v2_service.relay[0].template[0].containers[0].resources[0].limits == tomap({ cpu = "2", memory = "8Gi" }) && google_cloud_run_v2_service.relay[0].deletion_protection == false
    error_message = "CPU, memory and protection are the variables'."
  }

  assert {
    condition     = google_cloud_run_v2_service.relay[0].template[0].vpc_access[0].egress == "PRIVATE_RANGES_ONLY" && google_cloud_run_v2_service.relay[0].template[0].vpc_access[0].network_interfaces[0].network == "cluster" && google_cloud_run_v2_service.relay[0].template[0].vpc_access[0].network_interfaces[0].subnetwork == "cluster-run" && google_cloud_run_v2_service.relay[0].template[0].vpc_access[0].network_interfaces[0].tags == tolist(["relay"])
    error_message = "The model is reached by Direct VPC egress."
  }

  assert {
    condition = { for one in google_cloud_run_v2_service.relay[0].template[0].containers[0].env : one.name => one.value if length(one.value_source) == 0 } == {
      ACK_DEADLINE_SECONDS    = "300"
      CONCURRENCY             = "50"
      GRACE_SECONDS           = "8"
      LOG_LEVEL               = "WARNING"
      MAX_AGE_SECONDS         = "3600"
      MAX_ATTEMPTS            = "5"
      MODEL_TIMEOUT_SECONDS   = "250.5"
      MODEL_URL               = "http://10.0.0.5:8000/openai"
      PUBLISH_TIMEOUT_SECONDS = "20"
      PUSH_AUTH               = "platform"
      RESPONSE_TOPIC          = "projects/my-project/topics/inference-relay-responses"
    }
    error_message = "Each variable reaches its setting."
  }

  assert {
    condition = { for one in google_cloud_run_v2_service.relay[0].template[0].containers[0].env : one.name => "${one.value_source[0].secret_key_ref[0].secret} ${one.value_source[0].secret_key_ref[0].version}" if length(one.value_source) == 1 } == {
      LEDGER_URL    = "projects/other/secrets/redis latest"
      MODEL_API_KEY = "model-api-key 3"
    }
    error_message = "Secrets come from Secret Manager."
  }

  assert {
    condition     = toset([for one in google_secret_manager_secret_iam_member.relay_reads : "${one.secret_id} ${one.role} ${one.member == google_service_account.relay.member}"]) == toset(["model-api-key roles/secretmanager.secretAccessor true", "projects/other/secrets/redis roles/secretmanager.secretAccessor true"])
    error_message = "The relay may read these secrets."
  }

  assert {
    condition     = length(google_redis_instance.ledger) + length(google_secret_manager_secret.ledger_url) + length(google_secret_manager_secret_version.ledger_url) == 0
    error_message = "With a Redis of one's own, none is made."
  }
}
