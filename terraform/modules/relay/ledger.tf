# What all instances know of each message. It has to forget nothing by itself: a full Redis refuses what is new, and the
# service goes on without; one that evicts would forget who works on what, and the model would be paid twice.
resource "google_redis_instance" "ledger" {
  count = var.ledger == null ? 0 : 1

  project             = var.project
  region              = var.region
  name                = "${var.name}-ledger"
  labels              = var.labels
  deletion_protection = var.deletion_protection
  tier                = var.ledger.tier
  memory_size_gb      = var.ledger.memory_size_gb
  redis_version       = var.ledger.redis_version
  authorized_network  = var.network.network
  connect_mode        = var.ledger.connect_mode
  auth_enabled        = true
  redis_configs       = { "maxmemory-policy" = "noeviction" }

  lifecycle {
    ignore_changes = [maintenance_version] # which Google raises
  }
}

resource "google_secret_manager_secret" "ledger_url" {
  count = var.ledger == null ? 0 : 1

  project   = var.project
  secret_id = "${var.name}-ledger-url"
  labels    = var.labels

  replication {
    auto {}
  }
}

resource "google_secret_manager_secret_version" "ledger_url" {
  count = var.ledger == null ? 0 : 1

  secret      = google_secret_manager_secret.ledger_url[0].id
  secret_data = "redis://:${urlencode(google_redis_instance.ledger[0].auth_string)}@${google_redis_instance.ledger[0].host}:${google_redis_instance.ledger[0].port}/0"

  # The next one is there before this one goes.
  lifecycle {
    create_before_destroy = true
  }
}
