# The ledger in Memorystore.

mock_provider "google" {
  mock_resource "google_redis_instance" {
    defaults = { host = "10.1.2.3", port = 6379, auth_string = "pass/word" }
  }
  mock_resource "google_secret_manager_secret_version" {
    defaults = { version = "7" }
  }
}

variables {
  project     = "my-project"
  region      = "europe-west4"
  image       = "registry.example/my-project/relay/inference-relay@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  model_url   = "http://10.0.0.5/openai"
  model_slots = 80
  network     = { network = "cluster", subnetwork = "cluster-run" }
}

run "none" {
  assert {
    condition     = length(google_redis_instance.ledger) + length(google_secret_manager_secret.ledger_url) + length(google_secret_manager_secret_version.ledger_url) + length([for one in google_cloud_run_v2_service.relay[0].template[0].containers[0].env : one if one.name == "LEDGER_URL"]) == 0
    error_message = "There is no ledger unless asked for."
  }
}

run "defaults" {
  variables {
    ledger = {}
    labels = { team = "search" }
  }

  assert {
    condition     = google_redis_instance.ledger[0].redis_configs == tomap({ "maxmemory-policy" = "noeviction" })
    error_message = "A full ledger refuses instead of forgetting."
  }

  assert {
    condition     = google_redis_instance.ledger[0].name == "inference-relay-ledger" && google_redis_instance.ledger[0].project == "my-project" && google_redis_instance.ledger[0].region == "europe-west4" && google_redis_instance.ledger[0].labels == tomap({ team = "search" }) && google_redis_instance.ledger[0].tier == "BASIC" && google_redis_instance.ledger[0].memory_size_gb == 1 && google_redis_instance.ledger[0].redis_version == "REDIS_7_2"
    error_message = "The smallest instance is enough."
  }

  assert {
    condition     = google_redis_instance.ledger[0].authorized_network == "cluster" && google_redis_instance.ledger[0].connect_mode == "DIRECT_PEERING" && google_redis_instance.ledger[0].auth_enabled && google_redis_instance.ledger[0].deletion_protection
    error_message = "The ledger is in the service's network, wants a password and is protected."
  }

  assert {
    condition     = google_secret_manager_secret.ledger_url[0].secret_id == "inference-relay-ledger-url" && google_secret_manager_secret.ledger_url[0].project == "my-project" && google_secret_manager_secret.ledger_url[0].labels == tomap({ team = "search" }) && length(google_secret_manager_secret.ledger_url[0].replication[0].auto) == 1
    error_message = "The ledger's URL is a secret."
  }

  assert {
    condition     = google_secret_manager_secret_version.ledger_url[0].secret == google_secret_manager_secret.ledger_url[0].id && nonsensitive(google_secret_manager_secret_version.ledger_url[0].secret_data) == "redis://:pass%2Fword@10.1.2.3:6379/0"
    error_message = "The ledger's URL has the password, the host and the port."
  }

  assert {
    condition     = [for one in google_cloud_run_v2_service.relay[0].template[0].containers[0].env : "${one.value_source[0].secret_key_ref[0].secret} ${one.value_source[0].secret_key_ref[0].version}" if one.name == "LEDGER_URL"] == ["inference-relay-ledger-url 7"]
    error_message = "The service knows the ledger."
  }

  assert {
    condition     = google_secret_manager_secret_iam_member.relay_reads["LEDGER_URL"].secret_id == "inference-relay-ledger-url" && google_secret_manager_secret_iam_member.relay_reads["LEDGER_URL"].project == "my-project" && google_secret_manager_secret_iam_member.relay_reads["LEDGER_URL"].role == "roles/secretmanager.secretAccessor" && google_secret_manager_secret_iam_member.relay_reads["LEDGER_URL"].member == google_service_account.relay.member
    error_message = "The relay may read the ledger's URL."
  }
}

run "as_asked" {
  variables {
    deletion_protection = false
    ledger              = { tier = "STANDARD_HA", memory_size_gb = 5, redis_version = "REDIS_6_X", connect_mode = "PRIVATE_SERVICE_ACCESS" }
  }

  assert {
    condition     = google_redis_instance.ledger[0].tier == "STANDARD_HA" && google_redis_instance.ledger[0].memory_size_gb == 5 && google_redis_instance.ledger[0].redis_version == "REDIS_6_X" && google_redis_instance.ledger[0].connect_mode == "PRIVATE_SERVICE_ACCESS" && google_redis_instance.ledger[0].deletion_protection == false
    error_message = "Tier, size, version and connection are the variables'."
  }
}
