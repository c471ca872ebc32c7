# The ledger in Memorystore.

mock_provider "google" {
  mock_resource "google_redis_instance" {
    defaults = { host = "10.1.2.3", port = 6378, auth_string = "pass/word", server_ca_certs = [{ cert = "first" }, { cert = "next" }] }
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
    condition     = length(google_redis_instance.ledger) + length(google_secret_manager_secret.ledger) + length(google_secret_manager_secret_version.ledger) + length([for one in google_cloud_run_v2_service.relay[0].template[0].containers[0].env : one if one.name == "LEDGER_URL"]) == 0
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
    condition     = google_secret_manager_secret.ledger["url"].secret_id == "inference-relay-ledger-url" && google_secret_manager_secret.ledger["url"].project == "my-project" && google_secret_manager_secret.ledger["url"].labels == tomap({ team = "search" }) && length(google_secret_manager_secret.ledger["url"].replication[0].auto) == 1
    error_message = "The ledger's URL is a secret."
  }

  assert {
    condition     = google_secret_manager_secret_version.ledger["url"].secret == google_secret_manager_secret.ledger["url"].id && nonsensitive(google_secret_manager_secret_version.ledger["url"].secret_data) == "rediss://:pass%2Fword@10.1.2.3:6378/0?ssl_ca_certs=/etc/secrets/ledger-ca/ca.pem&ssl_check_hostname=false"
    error_message = "The ledger's URL has the password, the host, the port and the authority."
  }

  assert {
    condition     = [for one in google_cloud_run_v2_service.relay[0].template[0].containers[0].env : "${one.value_source[0].secret_key_ref[0].secret} ${one.value_source[0].secret_key_ref[0].version}" if one.name == "LEDGER_URL"] == ["inference-relay-ledger-url 7"]
    error_message = "The service knows the ledger."
  }

  assert {
    condition     = google_secret_manager_secret_iam_member.relay_reads["LEDGER_URL"].secret_id == "inference-relay-ledger-url" && google_secret_manager_secret_iam_member.relay_reads["LEDGER_URL"].project == "my-project" && google_secret_manager_secret_iam_member.relay_reads["LEDGER_URL"].role == "roles/secretmanager.secretAccessor" && google_secret_manager_secret_iam_member.relay_reads["LEDGER_URL"].member == "serviceAccount:${google_service_account.relay[0].email}"
    error_message = "The relay may read the ledger's URL."
  }
}

run "encrypted" {
  variables {
    ledger = {}
  }

  assert {
    condition     = google_redis_instance.ledger[0].transit_encryption_mode == "SERVER_AUTHENTICATION" && google_redis_instance.ledger[0].persistence_config[0].persistence_mode == "DISABLED"
    error_message = "What travels to the ledger is encrypted."
  }

  assert {
    condition     = google_secret_manager_secret.ledger["ca"].secret_id == "inference-relay-ledger-ca" && nonsensitive(google_secret_manager_secret_version.ledger["ca"].secret_data) == "first\nnext"
    error_message = "The ledger's authorities are kept, all of them."
  }

  assert {
    condition     = [for one in google_cloud_run_v2_service.relay[0].template[0].containers[0].volume_mounts : "${one.name} ${one.mount_path}"] == ["ledger-ca /etc/secrets/ledger-ca"] && [for one in google_cloud_run_v2_service.relay[0].template[0].volumes : "${one.name} ${one.secret[0].secret} ${one.secret[0].items[0].version} ${one.secret[0].items[0].path}"] == ["ledger-ca inference-relay-ledger-ca 7 ca.pem"]
    error_message = "They are a file where the URL says."
  }

  assert {
    condition     = alltrue([for one in google_secret_manager_secret_version.ledger : one.deletion_policy == "ABANDON"])
    error_message = "A revision that is gone back to finds the versions that it names."
  }

  assert {
    condition     = google_secret_manager_secret_iam_member.relay_reads["LEDGER_CA"].secret_id == "inference-relay-ledger-ca" && [for one in google_cloud_run_v2_service.relay[0].template[0].containers[0].env : one.name if one.name == "LEDGER_CA"] == []
    error_message = "The relay may read the file, which is no setting."
  }
}

run "with_a_key_and_regions" {
  variables {
    ledger         = { snapshots = "ONE_HOUR" }
    kms_key        = "projects/keys/locations/europe-west4/keyRings/relay/cryptoKeys/relay"
    secret_regions = ["europe-west4"]
  }

  assert {
    condition     = google_redis_instance.ledger[0].persistence_config[0].persistence_mode == "RDB" && google_redis_instance.ledger[0].persistence_config[0].rdb_snapshot_period == "ONE_HOUR" && google_redis_instance.ledger[0].customer_managed_key == var.kms_key
    error_message = "The ledger is kept, with the key."
  }

  assert {
    condition     = alltrue([for one in google_secret_manager_secret.ledger : length(one.replication[0].auto) == 0 && one.replication[0].user_managed[0].replicas[0].location == "europe-west4" && one.replication[0].user_managed[0].replicas[0].customer_managed_encryption[0].kms_key_name == var.kms_key])
    error_message = "Its secrets are in the region alone, with the key."
  }

  assert {
    condition     = alltrue([for one in [google_pubsub_topic.requests[0], google_pubsub_topic.responses[0], google_pubsub_topic.dead_letters] : one.kms_key_name == var.kms_key]) && google_cloud_run_v2_service.relay[0].template[0].encryption_key == var.kms_key && google_cloud_run_v2_job.check[0].template[0].template[0].encryption_key == var.kms_key
    error_message = "Topics and service have the key too."
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
