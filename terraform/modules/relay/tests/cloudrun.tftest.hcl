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
    condition     = google_cloud_run_v2_service.relay[0].template[0].max_instance_request_concurrency == 1000
    error_message = "An instance gets as many pushes as it has slots and room in its line, which is as many as Cloud Run gives."
  }

  assert {
    condition     = google_cloud_run_v2_service.relay[0].template[0].timeout == "600s"
    error_message = "Cloud Run waits as long as Pub/Sub does."
  }

  assert {
    condition     = google_cloud_run_v2_service.relay[0].scaling[0].min_instance_count == 3 && google_cloud_run_v2_service.relay[0].scaling[0].max_instance_count == 3 && google_cloud_run_v2_service.relay[0].template[0].scaling[0].max_instance_count == 3
    error_message = "Three instances hold what Pub/Sub sends at once, and all of them are kept: all revisions together."
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
    condition     = google_cloud_run_v2_service.relay[0].template[0].containers[0].startup_probe[0].http_get[0].path == "/health/startup" && google_cloud_run_v2_service.relay[0].template[0].containers[0].startup_probe[0].period_seconds == 2 && google_cloud_run_v2_service.relay[0].template[0].containers[0].startup_probe[0].timeout_seconds == 2 && google_cloud_run_v2_service.relay[0].template[0].containers[0].startup_probe[0].failure_threshold == 60
    error_message = "It gets pushes once it reaches the model and the ledger, and has two minutes for that."
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
      GRACE_SECONDS           = "8"
      MARGIN_SECONDS          = "10"
      MAX_AGE_SECONDS         = "86400"
      MAX_ATTEMPTS            = "10"
      MAX_WAITING             = "973"
      MAX_WAITING_MB          = "384"
      MODEL_SLOTS             = "27"
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
    max_waiting             = 400
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
    margin_seconds          = 25.5
    environment             = { LOG_LEVEL = "DEBUG" }
  }

  assert {
    condition     = google_cloud_run_v2_service.relay[0].scaling[0].min_instance_count == 2 && google_cloud_run_v2_service.relay[0].scaling[0].max_instance_count == 5 && google_cloud_run_v2_service.relay[0].template[0].scaling[0].max_instance_count == 5 && google_cloud_run_v2_service.relay[0].template[0].max_instance_request_concurrency == 450 && output.slots == { used = 250, of = 250, instances = 5, an_instance = 50, held = 2250 }
    error_message = "Instances and the line are the variables'."
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
      GRACE_SECONDS           = "8"
      LOG_LEVEL               = "DEBUG"
      MARGIN_SECONDS          = "25.5"
      MAX_AGE_SECONDS         = "3600"
      MAX_ATTEMPTS            = "5"
      MAX_WAITING             = "400"
      MAX_WAITING_MB          = "3968"
      MODEL_SLOTS             = "50"
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
    condition     = toset([for one in google_secret_manager_secret_iam_member.relay_reads : "${one.project} ${one.secret_id} ${one.role} ${one.member == "serviceAccount:${google_service_account.relay[0].email}"}"]) == toset(["my-project model-api-key roles/secretmanager.secretAccessor true", "other redis roles/secretmanager.secretAccessor true"])
    error_message = "The relay may read these secrets, each where it is."
  }

  assert {
    condition     = length(google_redis_instance.ledger) + length(google_secret_manager_secret.ledger) + length(google_secret_manager_secret_version.ledger) == 0
    error_message = "With a Redis of one's own, none is made."
  }
}

run "gone_back" {
  variables {
    traffic = [{ revision = "inference-relay-00007-abc", percent = 90 }, { percent = 10, tag = "canary" }]
  }

  assert {
    condition     = [for one in google_cloud_run_v2_service.relay[0].traffic : "${one.type} ${one.percent}"] == ["TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION 90", "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST 10"] && google_cloud_run_v2_service.relay[0].traffic[0].revision == "inference-relay-00007-abc" && google_cloud_run_v2_service.relay[0].traffic[1].tag == "canary"
    error_message = "Traffic goes to the revisions that are named, and stays there."
  }
}

run "files" {
  variables {
    model_ca_secret = { secret = "projects/other/secrets/authorities", version = "2" }
  }

  assert {
    condition     = [for one in google_cloud_run_v2_service.relay[0].template[0].containers[0].env : one.value if one.name == "MODEL_CA_FILE"] == ["/etc/secrets/model-ca/ca.pem"]
    error_message = "The model's authorities are a file."
  }

  assert {
    condition     = [for one in google_cloud_run_v2_service.relay[0].template[0].containers[0].volume_mounts : "${one.name} ${one.mount_path}"] == ["model-ca /etc/secrets/model-ca"] && [for one in google_cloud_run_v2_service.relay[0].template[0].volumes : "${one.name} ${one.secret[0].secret} ${one.secret[0].items[0].version} ${one.secret[0].items[0].path}"] == ["model-ca projects/other/secrets/authorities 2 ca.pem"]
    error_message = "The file is mounted where the setting says."
  }

  assert {
    condition     = google_secret_manager_secret_iam_member.relay_reads["MODEL_CA_FILE"].project == "other" && google_secret_manager_secret_iam_member.relay_reads["MODEL_CA_FILE"].secret_id == "authorities"
    error_message = "The relay may read it, in the project that it is in."
  }
}

run "check" {
  variables {
    check_model          = "my-model"
    network              = { network = "cluster", subnetwork = "cluster-run", tags = ["relay"], egress = "ALL_TRAFFIC" }
    model_api_key_secret = { secret = "model-api-key", version = "3" }
    model_ca_secret      = { secret = "authorities" }
    labels               = { team = "search" }
  }

  assert {
    condition     = google_cloud_run_v2_job.check[0].name == "inference-relay-check" && google_cloud_run_v2_job.check[0].template[0].template[0].containers[0].command == tolist(["inference-relay"]) && google_cloud_run_v2_job.check[0].template[0].template[0].containers[0].args == tolist(["check", "--model", "my-model"])
    error_message = "A job runs the check."
  }

  assert {
    condition     = google_cloud_run_v2_job.check[0].template[0].template[0].containers[0].image == var.image && google_cloud_run_v2_job.check[0].template[0].template[0].service_account == google_cloud_run_v2_service.relay[0].template[0].service_account
    error_message = "It has the service's image and account."
  }

  assert {
    condition     = toset([for one in google_cloud_run_v2_job.check[0].template[0].template[0].containers[0].env : jsonencode(one)]) == toset([for one in google_cloud_run_v2_service.relay[0].template[0].containers[0].env : jsonencode(one)])
    error_message = "It has the service's settings and secrets."
  }

  assert {
    condition     = jsonencode(google_cloud_run_v2_job.check[0].template[0].template[0].vpc_access) == jsonencode(google_cloud_run_v2_service.relay[0].template[0].vpc_access) && [for one in google_cloud_run_v2_job.check[0].template[0].template[0].containers[0].volume_mounts : one.mount_path] == [for one in google_cloud_run_v2_service.relay[0].template[0].containers[0].volume_mounts : one.mount_path] && [for one in google_cloud_run_v2_job.check[0].template[0].template[0].volumes : one.secret[0].secret] == ["authorities"]
    error_message = "It has the service's network and files."
  }

  assert {
    condition     = google_cloud_run_v2_service.relay[0].template[0].vpc_access[0].egress == "ALL_TRAFFIC"
    error_message = "All traffic can go through the network."
  }

  assert {
    condition     = output.check == "gcloud run jobs execute inference-relay-check --project=my-project --region=europe-west4 --wait"
    error_message = "An output is the command that runs it."
  }
}

run "model_beside" {
  variables {
    model_url     = null
    model_slots   = 128
    max_instances = 2
    min_instances = 1
    model_container = {
      image        = "registry.example/my-project/models/vllm@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
      args         = ["--model", "/model", "--max-num-seqs", "64"]
      environment  = { HF_HUB_OFFLINE = "1" }
      load_seconds = 120
    }
  }

  assert {
    condition     = [for one in google_cloud_run_v2_service.relay[0].template[0].containers : one.name] == ["relay", "model"] && google_cloud_run_v2_service.relay[0].template[0].containers[0].depends_on == tolist(["model"])
    error_message = "The model is there before the service starts."
  }

  assert {
    condition     = { for one in google_cloud_run_v2_service.relay[0].template[0].containers[0].env : one.name => one.value if contains(["MODEL_URL", "MODEL_SLOTS"], one.name) } == { MODEL_URL = "http://127.0.0.1:8000", MODEL_SLOTS = "64" }
    error_message = "The service calls the model beside it, with that one's slots."
  }

  assert {
    condition     = google_cloud_run_v2_service.relay[0].template[0].node_selector[0].accelerator == "nvidia-l4" && google_cloud_run_v2_service.relay[0].template[0].gpu_zonal_redundancy_disabled && google_cloud_run_v2_service.relay[0].template[0].containers[1].resources[0].limits == tomap({ cpu = "6", memory = "24Gi", "nvidia.com/gpu" = "1" })
    error_message = "Each instance has a GPU."
  }

  assert {
    condition     = google_cloud_run_v2_service.relay[0].template[0].containers[0].resources[0].cpu_idle == false && google_cloud_run_v2_service.relay[0].template[0].containers[1].resources[0].cpu_idle == false
    error_message = "With a GPU an instance is paid all the time."
  }

  assert {
    condition     = google_cloud_run_v2_service.relay[0].template[0].containers[1].args == tolist(["--model", "/model", "--max-num-seqs", "64"]) && [for one in google_cloud_run_v2_service.relay[0].template[0].containers[1].env : "${one.name}=${one.value}"] == ["HF_HUB_OFFLINE=1"] && google_cloud_run_v2_service.relay[0].template[0].containers[1].startup_probe[0].http_get[0].path == "/health" && google_cloud_run_v2_service.relay[0].template[0].containers[1].startup_probe[0].http_get[0].port == 8000 && google_cloud_run_v2_service.relay[0].template[0].containers[1].startup_probe[0].initial_delay_seconds == 120
    error_message = "It is started as asked, and looked at where it answers."
  }

  assert {
    condition     = length(google_cloud_run_v2_job.check) == 0 && output.check == null
    error_message = "A job has no model beside it to check."
  }
}
