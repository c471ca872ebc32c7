# What all instances know of each message. It has to forget nothing by itself: a full Redis refuses what is new, and the
# service goes on without; one that evicts would forget who works on what, and the model would be paid twice.
resource "google_redis_instance" "ledger" {
  count = var.ledger == null ? 0 : 1

  project                 = var.project
  region                  = var.region
  name                    = "${var.name}-ledger"
  labels                  = var.labels
  deletion_protection     = var.deletion_protection
  tier                    = var.ledger.tier
  memory_size_gb          = var.ledger.memory_size_gb
  redis_version           = var.ledger.redis_version
  authorized_network      = var.network.network
  connect_mode            = var.ledger.connect_mode
  auth_enabled            = true
  transit_encryption_mode = "SERVER_AUTHENTICATION" # kept responses and the password travel
  customer_managed_key    = var.kms_key
  redis_configs           = { "maxmemory-policy" = "noeviction" }

  # Said also where there are none, or those that were switched off would go on.
  persistence_config {
    persistence_mode    = var.ledger.snapshots == null ? "DISABLED" : "RDB"
    rdb_snapshot_period = var.ledger.snapshots
  }

  lifecycle {
    ignore_changes = [maintenance_version] # which Google raises
  }
}

locals {
  # Memorystore's authority is this one instance's own and signs for no other, and its certificate names no host: who answers
  # is proved by that authority, and ssl_check_hostname would look for a name that is not in it.
  ledger_secrets = {
    url = "rediss://:${urlencode(try(google_redis_instance.ledger[0].auth_string, ""))}@${try(google_redis_instance.ledger[0].host, "")}:${try(google_redis_instance.ledger[0].port, "")}/0?ssl_ca_certs=${local.secret_root}/ledger-ca/ca.pem&ssl_check_hostname=false"
    # No secret, but what Cloud Run can mount as a file. Google adds the next authority years before the first one ends.
    ca = join("\n", try(google_redis_instance.ledger[0].server_ca_certs[*].cert, []))
  }
}

resource "google_secret_manager_secret" "ledger" {
  for_each = toset(var.ledger == null ? [] : ["ca", "url"])

  project   = var.project
  secret_id = "${var.name}-ledger-${each.key}"
  labels    = var.labels

  replication {
    dynamic "auto" {
      for_each = length(var.secret_regions) == 0 ? ["everywhere"] : []
      content {}
    }

    dynamic "user_managed" {
      for_each = length(var.secret_regions) == 0 ? [] : [var.secret_regions]
      content {
        dynamic "replicas" {
          for_each = user_managed.value
          content {
            location = replicas.value

            dynamic "customer_managed_encryption" {
              for_each = var.kms_key == null ? [] : [var.kms_key]
              content {
                kms_key_name = customer_managed_encryption.value
              }
            }
          }
        }
      }
    }
  }
}

resource "google_secret_manager_secret_version" "ledger" {
  for_each = google_secret_manager_secret.ledger

  secret          = each.value.id
  secret_data     = local.ledger_secrets[each.key]
  deletion_policy = "ABANDON" # as in routes.tf
}
