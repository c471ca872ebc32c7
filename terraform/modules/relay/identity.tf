# As whom the model services are called: what the service's account may do there. Where nothing is named here, somebody else
# gives the right.

locals {
  invoked = {
    for one in local.models[*].cloud_run : "${coalesce(one.project, var.project)}/${coalesce(one.location, var.region)}/${one.service}" => {
      project  = coalesce(one.project, var.project)
      location = coalesce(one.location, var.region)
      service  = one.service
    }... if one != null
  }
}

# With MODEL_AUTH=google-id-token.
resource "google_cloud_run_v2_service_iam_member" "relay_invokes" {
  for_each = local.invoked

  project  = each.value[0].project
  location = each.value[0].location
  name     = each.value[0].service
  role     = "roles/run.invoker"
  member   = local.relay_member
}

# With MODEL_AUTH=google-access-token. It is a role on the project: Google's own models are no resources in it.
resource "google_project_iam_member" "relay_predicts" {
  for_each = toset([for one in local.models[*].vertex_project : one if one != null])

  project = each.value
  role    = "roles/aiplatform.user"
  member  = local.relay_member
}
