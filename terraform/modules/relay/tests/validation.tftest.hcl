# Each wrong value stops the plan, at the variable that says why.

mock_provider "google" {}

variables {
  project     = "my-project"
  region      = "europe-west4"
  image       = "registry.example/my-project/relay/inference-relay@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  model_url   = "https://model.example.com/openai"
  model_slots = 80
}

run "project_number" {
  command = plan
  variables {
    project = "1234567890"
  }
  expect_failures = [var.project]
}

run "region_zone" {
  command = plan
  variables {
    region = "europe-west4-a"
  }
  expect_failures = [var.region]
}

run "name_capitals" {
  command = plan
  variables {
    name = "Relay"
  }
  expect_failures = [var.name]
}

run "name_short" {
  command = plan
  variables {
    name = "a"
  }
  expect_failures = [var.name]
}

run "name_long" {
  command = plan
  variables {
    name = "a23456789-123456789-123"
  }
  expect_failures = [var.name]
}

run "name_goog" {
  command = plan
  variables {
    name = "google-relay"
  }
  expect_failures = [var.name]
}

run "platform_unknown" {
  command = plan
  variables {
    platform = "gke"
  }
  expect_failures = [var.platform]
}

run "model_slots_half" {
  command = plan
  variables {
    model_slots = 80.5
  }
  expect_failures = [var.model_slots]
}

run "max_instances_none" {
  command = plan
  variables {
    max_instances = 0
  }
  expect_failures = [var.max_instances]
}

run "min_instances_negative" {
  command = plan
  variables {
    min_instances = -1
  }
  expect_failures = [var.min_instances]
}

run "min_instances_half" {
  command = plan
  variables {
    min_instances = 0.5
  }
  expect_failures = [var.min_instances]
}

run "image_missing" {
  command = plan
  variables {
    image = null
  }
  expect_failures = [var.image]
}

run "image_tag" {
  command = plan
  variables {
    image = "registry.example/relay:latest"
  }
  expect_failures = [var.image]
}

run "image_short_digest" {
  command = plan
  variables {
    image = "registry.example/relay@sha256:0123"
  }
  expect_failures = [var.image]
}

run "cpu_half" {
  command = plan
  variables {
    cpu = 0.5
  }
  expect_failures = [var.cpu]
}

run "cpu_three" {
  command = plan
  variables {
    cpu = 3
  }
  expect_failures = [var.cpu]
}

run "memory_little" {
  command = plan
  variables {
    memory = "511Mi"
  }
  expect_failures = [var.memory]
}

run "memory_unit" {
  command = plan
  variables {
    memory = "1G"
  }
  expect_failures = [var.memory]
}

run "memory_for_cpu" {
  command = plan
  variables {
    memory = "5Gi"
  }
  expect_failures = [var.memory]
}

run "memory_for_cpu_in_mi" {
  command = plan
  variables {
    memory = "4097Mi"
  }
  expect_failures = [var.memory]
}

run "model_url_missing" {
  command = plan
  variables {
    model_url = null
  }
  expect_failures = [var.model_url]
}

run "model_url_scheme" {
  command = plan
  variables {
    model_url = "ftp://model.example.com"
  }
  expect_failures = [var.model_url]
}

run "model_url_no_host" {
  command = plan
  variables {
    model_url = "https:///openai"
  }
  expect_failures = [var.model_url]
}

run "model_url_user" {
  command = plan
  variables {
    model_url = "https://me:secret@model.example.com"
  }
  expect_failures = [var.model_url]
}

run "model_url_query" {
  command = plan
  variables {
    model_url = "https://model.example.com/?key=1"
  }
  expect_failures = [var.model_url]
}

run "model_url_blank" {
  command = plan
  variables {
    model_url = "https://model.example.com/a b"
  }
  expect_failures = [var.model_url]
}

run "model_url_v1" {
  command = plan
  variables {
    model_url = "https://model.example.com/v1"
  }
  expect_failures = [var.model_url]
}

run "model_url_v1_slash" {
  command = plan
  variables {
    model_url = "https://model.example.com/v1/"
  }
  expect_failures = [var.model_url]
}

run "model_url_in_the_clear" {
  command = plan
  variables {
    model_url = "http://model.example.com"
  }
  expect_failures = [var.model_url]
}

run "model_api_key_itself" {
  command = plan
  variables {
    model_api_key_secret = { secret = "sk-1+2=3" }
  }
  expect_failures = [var.model_api_key_secret]
}

run "model_api_key_version" {
  command = plan
  variables {
    model_api_key_secret = { secret = "key", version = "newest" }
  }
  expect_failures = [var.model_api_key_secret]
}

run "request_bucket_url" {
  command = plan
  variables {
    request_buckets = ["gs://my-inputs"]
  }
  expect_failures = [var.request_buckets]
}

run "response_bucket_capitals" {
  command = plan
  variables {
    response_bucket = { name = "My-Responses" }
  }
  expect_failures = [var.response_bucket]
}

run "response_bucket_too_few_days" {
  command = plan
  variables {
    response_bucket = { days = 37 }
  }
  expect_failures = [var.response_bucket]
}

run "response_bucket_half_days" {
  command = plan
  variables {
    response_bucket = { days = 38.5 }
  }
  expect_failures = [var.response_bucket]
}

run "response_bucket_reader" {
  command = plan
  variables {
    response_bucket = { readers = ["me@example.com"] }
  }
  expect_failures = [var.response_bucket]
}

run "response_bucket_fewest_days" {
  command = plan
  variables {
    response_bucket = { days = 38 }
  }
}

run "ledger_tier" {
  command = plan
  variables {
    ledger  = { tier = "GOLD" }
    network = { network = "n", subnetwork = "s" }
  }
  expect_failures = [var.ledger]
}

run "ledger_connection" {
  command = plan
  variables {
    ledger  = { connect_mode = "PUBLIC" }
    network = { network = "n", subnetwork = "s" }
  }
  expect_failures = [var.ledger]
}

run "ledger_size" {
  command = plan
  variables {
    ledger  = { memory_size_gb = 0.5 }
    network = { network = "n", subnetwork = "s" }
  }
  expect_failures = [var.ledger]
}

run "ledger_too_big" {
  command = plan
  variables {
    ledger  = { memory_size_gb = 301 }
    network = { network = "n", subnetwork = "s" }
  }
  expect_failures = [var.ledger]
}

run "ledger_without_network" {
  command = plan
  variables {
    ledger = {}
  }
  expect_failures = [var.ledger]
}

run "ledger_twice" {
  command = plan
  variables {
    ledger            = {}
    ledger_url_secret = { secret = "redis" }
    network           = { network = "n", subnetwork = "s" }
  }
  expect_failures = [var.ledger]
}

run "ledger_url_itself" {
  command = plan
  variables {
    ledger_url_secret = { secret = "redis://10.0.0.1" }
  }
  expect_failures = [var.ledger_url_secret]
}

run "ledger_url_version" {
  command = plan
  variables {
    ledger_url_secret = { secret = "redis", version = "0" }
  }
  expect_failures = [var.ledger_url_secret]
}

run "environment_small_letters" {
  command = plan
  variables {
    environment = { log_level = "INFO" }
  }
  expect_failures = [var.environment]
}

run "environment_managed" {
  command = plan
  variables {
    environment = { CONCURRENCY = "5" }
  }
  expect_failures = [var.environment]
}

run "environment_secret" {
  command = plan
  variables {
    environment = { MODEL_API_KEY = "key" }
  }
  expect_failures = [var.environment]
}

run "environment_emulator" {
  command = plan
  variables {
    environment = { PUBSUB_EMULATOR_HOST = "localhost:8085" }
  }
  expect_failures = [var.environment]
}

run "knative_on_cloud_run" {
  command = plan
  variables {
    knative = { endpoint = "https://relay.example.com" }
  }
  expect_failures = [var.knative]
}

run "ack_deadline_short" {
  command = plan
  variables {
    ack_deadline_seconds    = 9
    model_timeout_seconds   = 1
    publish_timeout_seconds = 1
  }
  expect_failures = [var.ack_deadline_seconds]
}

run "ack_deadline_long" {
  command = plan
  variables {
    ack_deadline_seconds = 601
  }
  expect_failures = [var.ack_deadline_seconds]
}

run "ack_deadline_half" {
  command = plan
  variables {
    ack_deadline_seconds = 599.5
  }
  expect_failures = [var.ack_deadline_seconds]
}

run "model_timeout_none" {
  command = plan
  variables {
    model_timeout_seconds = 0
  }
  expect_failures = [var.model_timeout_seconds]
}

run "times_do_not_fit" {
  command = plan
  variables {
    model_timeout_seconds = 561
  }
  expect_failures = [var.model_timeout_seconds]
}

run "times_do_not_fit_by_publishing" {
  command = plan
  variables {
    publish_timeout_seconds = 51
  }
  expect_failures = [var.model_timeout_seconds]
}

run "times_do_not_fit_by_deadline" {
  command = plan
  variables {
    ack_deadline_seconds = 579
  }
  expect_failures = [var.model_timeout_seconds]
}

run "publish_timeout_none" {
  command = plan
  variables {
    publish_timeout_seconds = 0
  }
  expect_failures = [var.publish_timeout_seconds]
}

run "max_attempts_none" {
  command = plan
  variables {
    max_attempts = 0
  }
  expect_failures = [var.max_attempts]
}

run "max_attempts_half" {
  command = plan
  variables {
    max_attempts = 1.5
  }
  expect_failures = [var.max_attempts]
}

run "max_attempts_unanswered" {
  command = plan
  variables {
    max_attempts = 100
  }
  expect_failures = [var.max_attempts]
}

run "max_delivery_attempts_few" {
  command = plan
  variables {
    max_delivery_attempts = 4
    max_attempts          = 3
  }
  expect_failures = [var.max_delivery_attempts]
}

run "max_delivery_attempts_many" {
  command = plan
  variables {
    max_delivery_attempts = 101
  }
  expect_failures = [var.max_delivery_attempts]
}

run "max_delivery_attempts_half" {
  command = plan
  variables {
    max_delivery_attempts = 50.5
  }
  expect_failures = [var.max_delivery_attempts]
}

run "max_age_none" {
  command = plan
  variables {
    max_age_seconds = 0
  }
  expect_failures = [var.max_age_seconds]
}

run "max_age_unanswered" {
  command = plan
  variables {
    max_age_seconds = 604800
  }
  expect_failures = [var.max_age_seconds]
}

run "message_retention_short" {
  command = plan
  variables {
    message_retention_seconds = 599
    max_age_seconds           = 60
  }
  expect_failures = [var.message_retention_seconds]
}

run "message_retention_long" {
  command = plan
  variables {
    message_retention_seconds = 2678401
  }
  expect_failures = [var.message_retention_seconds]
}

run "message_retention_half" {
  command = plan
  variables {
    message_retention_seconds = 86400.5
  }
  expect_failures = [var.message_retention_seconds]
}

run "filter_long" {
  command = plan
  variables {
    filter = "attributes.kind = \"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\""
  }
  expect_failures = [var.filter]
}

run "filter_beyond_ascii" {
  command = plan
  variables {
    filter = "attributes.kind = \"é\""
  }
  expect_failures = [var.filter]
}

run "requesters_everybody" {
  command = plan
  variables {
    requesters = ["allUsers"]
  }
  expect_failures = [var.requesters]
}

run "requesters_bare" {
  command = plan
  variables {
    requesters = ["ann@example.com"]
  }
  expect_failures = [var.requesters]
}

run "response_subscriptions_none" {
  command = plan
  variables {
    response_subscriptions = {}
  }
  expect_failures = [var.response_subscriptions]
}

run "response_subscriptions_name" {
  command = plan
  variables {
    response_subscriptions = { Team_A = {} }
  }
  expect_failures = [var.response_subscriptions]
}

run "response_subscriptions_push" {
  command = plan
  variables {
    response_subscriptions = { push = {} }
  }
  expect_failures = [var.response_subscriptions]
}

run "response_subscriptions_dead_letters" {
  command = plan
  variables {
    response_subscriptions = { dead-letters = {} }
  }
  expect_failures = [var.response_subscriptions]
}

run "response_subscriptions_filter" {
  command = plan
  variables {
    response_subscriptions = { a = { filter = "attributes.é:*" } }
  }
  expect_failures = [var.response_subscriptions]
}

run "response_subscriptions_everybody" {
  command = plan
  variables {
    response_subscriptions = { a = { members = ["allAuthenticatedUsers"] } }
  }
  expect_failures = [var.response_subscriptions]
}

run "dead_letter_readers_everybody" {
  command = plan
  variables {
    dead_letter_readers = ["allUsers"]
  }
  expect_failures = [var.dead_letter_readers]
}

run "knative_missing" {
  command = plan
  variables {
    platform  = "knative"
    image     = null
    model_url = null
  }
  expect_failures = [var.knative]
}

run "knative_http" {
  command = plan
  variables {
    platform  = "knative"
    image     = null
    model_url = null
    knative   = { endpoint = "http://relay.example.com" }
  }
  expect_failures = [var.knative]
}

run "knative_user" {
  command = plan
  variables {
    platform  = "knative"
    image     = null
    model_url = null
    knative   = { endpoint = "https://relay.example.com/@me" }
  }
  expect_failures = [var.knative]
}

run "knative_audience" {
  command = plan
  variables {
    platform  = "knative"
    image     = null
    model_url = null
    knative   = { endpoint = "https://relay.example.com", audience = "two words" }
  }
  expect_failures = [var.knative]
}

run "knative_workload_identity" {
  command = plan
  variables {
    platform  = "knative"
    image     = null
    model_url = null
    knative   = { endpoint = "https://relay.example.com", workload_identity = { namespace = "", service_account = "relay" } }
  }
  expect_failures = [var.knative]
}

run "knative_image" {
  command = plan
  variables {
    platform  = "knative"
    model_url = null
    knative   = { endpoint = "https://relay.example.com" }
  }
  expect_failures = [var.image]
}

run "knative_network" {
  command = plan
  variables {
    platform  = "knative"
    image     = null
    model_url = null
    knative   = { endpoint = "https://relay.example.com" }
    network   = { network = "n", subnetwork = "s" }
  }
  expect_failures = [var.network]
}

run "knative_model_api_key" {
  command = plan
  variables {
    platform             = "knative"
    image                = null
    model_url            = null
    knative              = { endpoint = "https://relay.example.com" }
    model_api_key_secret = { secret = "key" }
  }
  expect_failures = [var.model_api_key_secret]
}

run "knative_ledger" {
  command = plan
  variables {
    platform  = "knative"
    image     = null
    model_url = null
    knative   = { endpoint = "https://relay.example.com" }
    ledger    = {}
  }
  expect_failures = [var.ledger]
}

run "knative_ledger_url" {
  command = plan
  variables {
    platform          = "knative"
    image             = null
    model_url         = null
    knative           = { endpoint = "https://relay.example.com" }
    ledger_url_secret = { secret = "redis" }
  }
  expect_failures = [var.ledger_url_secret]
}

run "knative_model_url_v1" {
  command = plan
  variables {
    platform  = "knative"
    image     = null
    model_url = "http://kubeai/openai/v1"
    knative   = { endpoint = "https://relay.example.com" }
  }
  expect_failures = [var.model_url]
}

run "model_slots_none" {
  command = plan
  variables {
    model_slots = 0
  }
  expect_failures = [var.model_slots]
}

run "max_instances_half" {
  command = plan
  variables {
    max_instances = 1.5
    model_slots   = 1000
  }
  expect_failures = [var.max_instances]
}

run "max_instances_without_a_slot" {
  command = plan
  variables {
    max_instances = 81
  }
  expect_failures = [var.max_instances]
}

run "max_instances_does_not_divide" {
  command = plan
  variables {
    max_instances = 3
    model_slots   = 4
  }
  expect_failures = [var.max_instances]
}

run "max_instances_too_full" {
  command = plan
  variables {
    max_instances = 1
    model_slots   = 901
  }
  expect_failures = [var.max_instances]
}

run "min_instances_above_what_follows" {
  command = plan
  variables {
    min_instances = 4
  }
  expect_failures = [var.min_instances]
}

run "min_instances_above_max" {
  command = plan
  variables {
    min_instances = 3
    max_instances = 2
  }
  expect_failures = [var.min_instances]
}

run "max_waiting_negative" {
  command = plan
  variables {
    max_waiting = -1
  }
  expect_failures = [var.max_waiting]
}

run "max_waiting_half" {
  command = plan
  variables {
    max_waiting = 0.5
  }
  expect_failures = [var.max_waiting]
}

run "traffic_sum" {
  command = plan
  variables {
    traffic = [{ percent = 90 }]
  }
  expect_failures = [var.traffic]
}

run "traffic_halves" {
  command = plan
  variables {
    traffic = [{ percent = 99.5 }, { revision = "inference-relay-1", percent = 0.5 }]
  }
  expect_failures = [var.traffic]
}

run "traffic_none" {
  command = plan
  variables {
    traffic = []
  }
  expect_failures = [var.traffic]
}

run "traffic_another_service" {
  command = plan
  variables {
    traffic = [{ revision = "other-00001-abc", percent = 100 }]
  }
  expect_failures = [var.traffic]
}

run "traffic_latest_twice" {
  command = plan
  variables {
    traffic = [{ percent = 50 }, { percent = 50 }]
  }
  expect_failures = [var.traffic]
}

run "memory_for_four_cpus" {
  command = plan
  variables {
    cpu    = 4
    memory = "1Gi"
  }
  expect_failures = [var.memory]
}

run "memory_for_six_cpus" {
  command = plan
  variables {
    cpu    = 6
    memory = "3Gi"
  }
  expect_failures = [var.memory]
}

run "memory_for_eight_cpus" {
  command = plan
  variables {
    cpu    = 8
    memory = "4095Mi"
  }
  expect_failures = [var.memory]
}

run "model_url_twice" {
  command = plan
  variables {
    max_instances   = 1
    min_instances   = 0
    model_container = { image = "registry.example/vllm@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" }
  }
  expect_failures = [var.model_url]
}

run "model_container_tag" {
  command = plan
  variables {
    model_url       = null
    max_instances   = 1
    min_instances   = 0
    model_container = { image = "registry.example/vllm:latest" }
  }
  expect_failures = [var.model_container]
}

run "model_container_port" {
  command = plan
  variables {
    model_url       = null
    max_instances   = 1
    min_instances   = 0
    model_container = { image = "registry.example/vllm@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", port = 8080 }
  }
  expect_failures = [var.model_container]
}

run "model_container_load" {
  command = plan
  variables {
    model_url       = null
    max_instances   = 1
    min_instances   = 0
    model_container = { image = "registry.example/vllm@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", load_seconds = 241 }
  }
  expect_failures = [var.model_container]
}

run "model_container_instances" {
  command = plan
  variables {
    model_url       = null
    model_container = { image = "registry.example/vllm@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" }
  }
  expect_failures = [var.model_container]
}

run "model_container_cpu" {
  command = plan
  variables {
    model_url       = null
    max_instances   = 1
    min_instances   = 0
    model_container = { image = "registry.example/vllm@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", cpu = 8 }
  }
  expect_failures = [var.model_container]
}

run "model_container_kept" {
  command = plan
  variables {
    model_url       = null
    max_instances   = 1
    model_container = { image = "registry.example/vllm@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" }
  }
  expect_failures = [var.model_container]
}

run "network_egress" {
  command = plan
  variables {
    network = { network = "n", subnetwork = "s", egress = "NONE" }
  }
  expect_failures = [var.network]
}

run "model_ca_itself" {
  command = plan
  variables {
    model_ca_secret = { secret = "-----BEGIN CERTIFICATE-----" }
  }
  expect_failures = [var.model_ca_secret]
}

run "ledger_snapshots" {
  command = plan
  variables {
    ledger  = { snapshots = "DAILY" }
    network = { network = "n", subnetwork = "s" }
  }
  expect_failures = [var.ledger]
}

run "environment_slots" {
  command = plan
  variables {
    environment = { MODEL_SLOTS = "5" }
  }
  expect_failures = [var.environment]
}

run "margin_none" {
  command = plan
  variables {
    margin_seconds = 0
  }
  expect_failures = [var.margin_seconds]
}

run "times_do_not_fit_by_margin" {
  command = plan
  variables {
    margin_seconds = 31
  }
  expect_failures = [var.model_timeout_seconds]
}

run "topics_short" {
  command = plan
  variables {
    topics = { requests = "asked" }
  }
  expect_failures = [var.topics]
}

run "accounts_person" {
  command = plan
  variables {
    accounts = { push = "ann@example.com" }
  }
  expect_failures = [var.accounts]
}

run "storage_region_zone" {
  command = plan
  variables {
    storage_regions = ["europe-west4-a"]
  }
  expect_failures = [var.storage_regions]
}

run "secret_region_zone" {
  command = plan
  variables {
    secret_regions = ["global"]
  }
  expect_failures = [var.secret_regions]
}

run "kms_key_ring" {
  command = plan
  variables {
    kms_key = "projects/p/locations/l/keyRings/r"
  }
  expect_failures = [var.kms_key]
}

run "kms_key_for_a_sidecar_everywhere" {
  command = plan
  variables {
    kms_key            = "projects/p/locations/l/keyRings/r/cryptoKeys/k"
    prometheus_sidecar = { image = "sidecar@sha256:0000000000000000000000000000000000000000000000000000000000000000" }
  }
  expect_failures = [var.kms_key]
}

run "kms_key_for_secrets_everywhere" {
  command = plan
  variables {
    kms_key = "projects/p/locations/l/keyRings/r/cryptoKeys/k"
    ledger  = {}
    network = { network = "n", subnetwork = "s" }
  }
  expect_failures = [var.kms_key]
}

run "knative_model_ca" {
  command = plan
  variables {
    platform        = "knative"
    image           = null
    model_url       = null
    knative         = { endpoint = "https://relay.example.com" }
    model_ca_secret = { secret = "authorities" }
  }
  expect_failures = [var.model_ca_secret]
}

# And what is just right does not.

run "name_longest" {
  command = plan
  variables {
    name = "a23456789-123456789-12"
  }
}

run "slots_divided" {
  command = plan
  variables {
    model_slots   = 250
    max_instances = 5
  }
}

run "slots_most" {
  command = plan
  variables {
    model_slots   = 900
    max_instances = 1
  }
}

run "memory_least_for_four_cpus" {
  command = plan
  variables {
    cpu    = 4
    memory = "2048Mi"
  }
}

run "memory_least_for_six_cpus" {
  command = plan
  variables {
    cpu    = 6
    memory = "4Gi"
  }
}

run "times_fit_exactly_with_a_margin" {
  command = plan
  variables {
    margin_seconds = 30
  }
}

run "memory_most" {
  command = plan
  variables {
    memory = "4Gi"
  }
}

run "memory_in_mi" {
  command = plan
  variables {
    memory = "4096Mi"
  }
}

run "memory_for_many_cpus" {
  command = plan
  variables {
    memory = "32Gi"
    cpu    = 8
  }
}

run "times_fit_exactly" {
  command = plan
  variables {
    model_timeout_seconds = 560
  }
}

run "ack_deadline_shortest" {
  command = plan
  variables {
    ack_deadline_seconds    = 30
    model_timeout_seconds   = 15
    publish_timeout_seconds = 5
  }
}

run "attempts_fit_exactly" {
  command = plan
  variables {
    max_attempts = 99
  }
}

run "age_fits_exactly" {
  command = plan
  variables {
    max_age_seconds = 604799
  }
}

run "retention_longest" {
  command = plan
  variables {
    message_retention_seconds = 2678400
  }
}

run "retention_shortest" {
  command = plan
  variables {
    message_retention_seconds = 600
    max_age_seconds           = 599
  }
}

run "model_url_ipv6" {
  command = plan
  variables {
    model_url = "https://[fd00::1]:8443"
  }
}

run "model_url_version_elsewhere" {
  command = plan
  variables {
    model_url = "https://model.example.com/v1beta/openai"
  }
}

run "members_of_each_kind" {
  command = plan
  variables {
    requesters = ["user:a@example.com", "group:g@example.com", "serviceAccount:s@p.iam.gserviceaccount.com", "domain:example.com", "principal://iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/subject/ns/n/sa/s", "principalSet://iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/*"]
  }
}

run "control_messages_without_a_ledger" {
  command = plan
  variables {
    control_messages = true
  }
  expect_failures = [var.control_messages]
}
