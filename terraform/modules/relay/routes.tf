# Which model service gets which model's requests: one, by settings; or several, or one with streams, by a file (ROUTES_FILE).

locals {
  has_routes_file = length(var.routes) + length(var.streams) > 0

  # The one model service as the route that it is.
  only = {
    name            = "default"
    models          = ["*"]
    url             = local.model_url
    model           = null
    auth            = var.model_auth
    audience        = var.model_audience
    api_key_secret  = var.model_api_key_secret
    api_key_env     = null
    ca_secret       = null # model_ca_secret is for every route that has none of its own
    ca_file         = null
    timeout_seconds = null
    slots           = var.model_slots
    auto            = false
    allowed_paths   = null
    cloud_run       = var.model_cloud_run
    vertex_project  = var.model_vertex_project
  }
  models = concat(var.routes, [for one in [local.only] : one if length(var.routes) == 0])

  # Keys reach the service by environment variables, which the file names: no key is in it.
  key_names = { for one in local.models : one.name => local.has_routes_file ? "MODEL_API_KEY_${upper(replace(one.name, "-", "_"))}" : "MODEL_API_KEY" }
  route_secrets = merge(
    { for one in local.models : local.key_names[one.name] => one.api_key_secret if one.api_key_secret != null },
    { for one in local.models : "MODEL_CA_FILE ${one.name}" => one.ca_secret if one.ca_secret != null },
  )
  route_ca_places = { for one in local.models : "MODEL_CA_FILE ${one.name}" => { at = "ca-${one.name}", file = "ca.pem" } if one.ca_secret != null }

  # What is left out of the file is as the service's own setting says.
  route_entries = [
    for one in local.models : {
      for field, value in {
        name            = one.name
        models          = one.models
        url             = one.url
        model           = one.model
        auth            = one.auth
        audience        = one.audience
        api_key_env     = one.api_key_env == null && (one.api_key_secret != null || one.auth == "key") ? local.key_names[one.name] : one.api_key_env
        ca_file         = one.ca_secret == null ? one.ca_file : "${local.secret_root}/ca-${one.name}/ca.pem"
        timeout_seconds = one.timeout_seconds
        slots           = [local.share[one.name], "auto"][one.auto ? 1 : 0]
        max_slots       = one.auto ? local.share[one.name] : null
        allowed_paths   = one.allowed_paths
      } : field => value if value != null
    }
  ]
  # Where there are streams, control messages come by one of their own.
  control_entries = var.control_messages && length(local.stream_entries) > 0 ? [{ subscription = "${var.name}-control" }] : []
  routes_file     = yamlencode({ routes = local.route_entries, streams = concat(local.stream_entries, local.control_entries) })
}

# A file for Cloud Run is a secret; nothing in this one is.
resource "google_secret_manager_secret" "routes" {
  count = local.on_cloud_run && local.has_routes_file ? 1 : 0

  project   = var.project
  secret_id = "${var.name}-routes"
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

resource "google_secret_manager_secret_version" "routes" {
  count = length(google_secret_manager_secret.routes)

  secret      = google_secret_manager_secret.routes[0].id
  secret_data = local.routes_file
  # The revisions that are there go on reading the versions that they name, and one may be gone back to. A version that
  # would be made before the old one goes would have the same done with its secret, whose name is taken.
  deletion_policy = "ABANDON"

  lifecycle {
    precondition {
      condition     = length(base64encode(local.routes_file)) <= 87384
      error_message = "routes and streams make a file of more than 64 KiB, which is the most that a secret can be: use fewer names with a * at the end."
    }

    precondition {
      condition     = local.slots <= local.most_used
      error_message = "Each of ${local.instances} instances would have ${local.slots} slots, and Cloud Run gives one no more than 1,000 pushes at once, of which some have to wait in its line. Some route has too few slots to be shared out between as many instances as the others want: give that model a relay of its own."
    }
  }
}
