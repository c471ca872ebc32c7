# Secrets reach the service by reference: neither the plan nor the service's configuration shows them.

locals {
  secrets = merge(
    var.model_api_key_secret == null ? {} : { MODEL_API_KEY = var.model_api_key_secret },
    var.ledger_url_secret == null ? {} : { LEDGER_URL = var.ledger_url_secret },
    var.ledger == null ? {} : { LEDGER_URL = {
      secret  = one(google_secret_manager_secret.ledger_url[*].secret_id)
      version = one(google_secret_manager_secret_version.ledger_url[*].version)
    } },
  )
  # Which there are is known before they are made.
  secret_names = toset(concat(
    var.model_api_key_secret == null ? [] : ["MODEL_API_KEY"],
    var.ledger_url_secret == null && var.ledger == null ? [] : ["LEDGER_URL"],
  ))
}

resource "google_secret_manager_secret_iam_member" "relay_reads" {
  for_each = local.secret_names

  project   = var.project
  secret_id = local.secrets[each.key].secret
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.relay.member
}
