# Each account has one purpose, and each role is given on one resource: none on the project (but for Vertex AI, in
# identity.tf, and for the Prometheus sidecar's, in sidecar.tf).

resource "google_service_account" "push" {
  count = var.accounts.push == null ? 1 : 0

  project      = var.project
  account_id   = "${var.name}-push"
  display_name = "${var.name}: Pub/Sub pushes requests as this account"
}

resource "google_service_account" "relay" {
  count = var.accounts.relay == null ? 1 : 0

  project      = var.project
  account_id   = "${var.name}-run"
  display_name = "${var.name}: the service runs as this account"
}

locals {
  push_account  = var.accounts.push == null ? one(google_service_account.push[*].email) : var.accounts.push
  relay_account = var.accounts.relay == null ? one(google_service_account.relay[*].email) : var.accounts.relay
  push_member   = "serviceAccount:${local.push_account}"
  relay_member  = "serviceAccount:${local.relay_account}"

  # An account's full name. Its project is in its email.
  push_account_name  = var.accounts.push == null ? one(google_service_account.push[*].name) : "projects/${regex("@([a-z0-9-]+)[.]", var.accounts.push)[0]}/serviceAccounts/${var.accounts.push}"
  relay_account_name = var.accounts.relay == null ? one(google_service_account.relay[*].name) : "projects/${regex("@([a-z0-9-]+)[.]", var.accounts.relay)[0]}/serviceAccounts/${var.accounts.relay}"
}

# The relay: publishes responses, and nothing else.
resource "google_pubsub_topic_iam_member" "relay_publishes" {
  project = local.responses.project
  topic   = local.responses.name
  role    = "roles/pubsub.publisher"
  member  = local.relay_member

  lifecycle {
    replace_triggered_by = [terraform_data.topics["responses"].id]
  }
}

# In a cluster the pod's Kubernetes account takes the relay's place.
resource "google_service_account_iam_member" "pod_is_relay" {
  count = local.workload_identity == null ? 0 : 1

  service_account_id = local.relay_account_name
  role               = "roles/iam.workloadIdentityUser"
  member             = "serviceAccount:${coalesce(local.workload_identity.pool, "${var.project}.svc.id.goog")}[${local.workload_identity.namespace}/${local.workload_identity.service_account}]"
}

# Pub/Sub's own account, its service agent, signs tokens as the push account and moves dead letters. No role can be given to
# it before it is there: docs/deploy-cloud-run.md makes it with a command, which an apply can rely on.
data "google_project" "this" {
  project_id = var.project
}

locals {
  pubsub            = "serviceAccount:service-${data.google_project.this.number}@gcp-sa-pubsub.iam.gserviceaccount.com"
  workload_identity = try(var.knative.workload_identity, null)
}

resource "google_service_account_iam_member" "pubsub_signs_as_push" {
  service_account_id = local.push_account_name
  role               = "roles/iam.serviceAccountTokenCreator"
  member             = local.pubsub
}

resource "google_pubsub_topic_iam_member" "pubsub_publishes_dead_letters" {
  project = var.project
  topic   = google_pubsub_topic.dead_letters.name
  role    = "roles/pubsub.publisher"
  member  = local.pubsub

  lifecycle {
    replace_triggered_by = [terraform_data.topics["dead_letters"].id]
  }
}

# A filter or ordering cannot be changed: the subscription is made anew, and without this its new one could not let go of
# dead letters before a second apply.
resource "google_pubsub_subscription_iam_member" "pubsub_acknowledges_dead_letters" {
  project      = var.project
  subscription = google_pubsub_subscription.push.name
  role         = "roles/pubsub.subscriber"
  member       = local.pubsub

  lifecycle {
    replace_triggered_by = [google_pubsub_subscription.push.id]
  }
}

# People and programs.
resource "google_pubsub_topic_iam_member" "requesters" {
  for_each = var.requesters

  project = local.requests.project
  topic   = local.requests.name
  role    = "roles/pubsub.publisher"
  member  = each.value

  lifecycle {
    replace_triggered_by = [terraform_data.topics["requests"].id]
  }
}

locals {
  response_readers = merge([
    for name, one in local.response_subscriptions : { for member in one.members : "${name} ${member}" => { name = name, member = member } }
  ]...)
}

resource "terraform_data" "response_readers" {
  for_each = local.response_readers

  triggers_replace = google_pubsub_subscription.responses[each.value.name].id
}

resource "google_pubsub_subscription_iam_member" "response_readers" {
  for_each = local.response_readers

  project      = var.project
  subscription = google_pubsub_subscription.responses[each.value.name].name
  role         = "roles/pubsub.subscriber"
  member       = each.value.member

  lifecycle {
    replace_triggered_by = [terraform_data.response_readers[each.key].id]
  }
}

resource "google_pubsub_subscription_iam_member" "dead_letter_readers" {
  for_each = var.dead_letter_readers

  project      = var.project
  subscription = google_pubsub_subscription.dead_letters.name
  role         = "roles/pubsub.subscriber"
  member       = each.value

  lifecycle {
    replace_triggered_by = [google_pubsub_subscription.dead_letters.id]
  }
}
