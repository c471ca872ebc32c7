# Secrets reach the service by reference: neither the plan nor the service's configuration shows them.

locals {
  # By what each one is for: a setting, or a file, which has a directory of its own.
  secrets = merge(
    var.model_api_key_secret == null ? {} : { MODEL_API_KEY = var.model_api_key_secret },
    var.model_ca_secret == null ? {} : { MODEL_CA_FILE = var.model_ca_secret },
    var.ledger_url_secret == null ? {} : { LEDGER_URL = var.ledger_url_secret },
    var.ledger == null ? {} : {
      LEDGER_URL = {
        secret  = google_secret_manager_secret.ledger["url"].secret_id
        version = google_secret_manager_secret_version.ledger["url"].version
      }
      LEDGER_CA = {
        secret  = google_secret_manager_secret.ledger["ca"].secret_id
        version = google_secret_manager_secret_version.ledger["ca"].version
      }
    },
  )
  # Which there are is known before they are made.
  secret_names = toset(concat(
    var.model_api_key_secret == null ? [] : ["MODEL_API_KEY"],
    var.model_ca_secret == null ? [] : ["MODEL_CA_FILE"],
    var.ledger_url_secret == null && var.ledger == null ? [] : ["LEDGER_URL"],
    var.ledger == null ? [] : ["LEDGER_CA"],
  ))
  secret_root  = "/etc/secrets"
  secret_files = { for name in local.secret_names : name => { LEDGER_CA = "ledger-ca", MODEL_CA_FILE = "model-ca" }[name] if endswith(name, "_CA") || endswith(name, "_CA_FILE") }
  # Another project's secret is named by its full name; a right on it is given in that project.
  secret_ids = {
    for name, one in local.secrets : name => {
      project   = startswith(one.secret, "projects/") ? split("/", one.secret)[1] : var.project
      secret_id = startswith(one.secret, "projects/") ? split("/", one.secret)[3] : one.secret
    }
  }
}

resource "google_secret_manager_secret_iam_member" "relay_reads" {
  for_each = local.secret_names

  project   = local.secret_ids[each.key].project
  secret_id = local.secret_ids[each.key].secret_id
  role      = "roles/secretmanager.secretAccessor"
  member    = local.relay_member
}
