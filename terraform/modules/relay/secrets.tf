# Secrets reach the service by reference: neither the plan nor the service's configuration shows them.

locals {
  # By what each one is for: a setting, or a file, which has a directory of its own.
  secrets = merge(
    local.route_secrets,
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
    # By its number: a new file is a new revision.
    { for one in google_secret_manager_secret_version.routes : "ROUTES_FILE" => {
      secret  = google_secret_manager_secret.routes[0].secret_id
      version = one.version
    } },
  )
  # Which there are is known before they are made.
  secret_names = toset(concat(
    keys(local.route_secrets),
    var.model_ca_secret == null ? [] : ["MODEL_CA_FILE"],
    var.ledger_url_secret == null && var.ledger == null ? [] : ["LEDGER_URL"],
    var.ledger == null ? [] : ["LEDGER_CA"],
    local.on_cloud_run && local.has_routes_file ? ["ROUTES_FILE"] : [],
  ))
  secret_root = "/etc/secrets"
  # Those that are files, each in a directory of its own.
  secret_files = { for name in local.secret_names : name => local.secret_places[name] if contains(keys(local.secret_places), name) }
  secret_places = merge(local.route_ca_places, {
    LEDGER_CA     = { at = "ledger-ca", file = "ca.pem" }
    MODEL_CA_FILE = { at = "model-ca", file = "ca.pem" }
    ROUTES_FILE   = { at = "routes", file = "routes.yaml" }
  })

  # Another project's secret is named by its full name; a right on it is given in that project.
  secret_ids = {
    for name, one in local.secrets : name => {
      project   = startswith(one.secret, "projects/") ? split("/", one.secret)[1] : var.project
      secret_id = startswith(one.secret, "projects/") ? split("/", one.secret)[3] : one.secret
    }
  }
  # Which setting each right is for. Two routes may have the same key; the right on it is given once, by the secret's name,
  # which stays the same when a route or stream comes.
  secret_users = merge(
    { for name in local.secret_names : name => [name] if !contains(keys(local.route_secrets), name) },
    { for name, one in local.route_secrets : startswith(one.secret, "projects/") ? one.secret : "projects/${var.project}/secrets/${one.secret}" => name... },
  )
  made_secrets = merge(
    { for name, one in google_secret_manager_secret.ledger : "LEDGER_${upper(name)}" => one.id },
    { for one in google_secret_manager_secret.routes : "ROUTES_FILE" => one.id },
  )
}

# What a right goes with: the secret, where it is made here. One that is made anew has none.
resource "terraform_data" "secrets" {
  for_each = local.secret_users

  triggers_replace = lookup(local.made_secrets, each.value[0], "")
}

resource "google_secret_manager_secret_iam_member" "relay_reads" {
  for_each = local.secret_users

  project   = local.secret_ids[each.value[0]].project
  secret_id = local.secret_ids[each.value[0]].secret_id
  role      = "roles/secretmanager.secretAccessor"
  member    = local.relay_member

  lifecycle {
    replace_triggered_by = [terraform_data.secrets[each.key].id]
  }
}
