# Each account has one purpose, and each role is given on one resource: none on the project.

resource "google_service_account" "push" {
  project      = var.project
  account_id   = "${var.name}-push"
  display_name = "${var.name}: Pub/Sub pushes requests as this account"
}

resource "google_service_account" "relay" {
  project      = var.project
  account_id   = "${var.name}-run"
  display_name = "${var.name}: the service runs as this account"
}

# The relay: publishes responses, and nothing else.
resource "google_pubsub_topic_iam_member" "relay_publishes" {
  project = var.project
  topic   = google_pubsub_topic.responses.name
  role    = "roles/pubsub.publisher"
  member  = google_service_account.relay.member
}

# In a cluster the pod's Kubernetes account takes the relay's place.
resource "google_service_account_iam_member" "pod_is_relay" {
  count = local.workload_identity == null ? 0 : 1

  service_account_id = google_service_account.relay.name
  role               = "roles/iam.workloadIdentityUser"
  member             = "serviceAccount:${coalesce(local.workload_identity.pool, "${var.project}.svc.id.goog")}[${local.workload_identity.namespace}/${local.workload_identity.service_account}]"
}

# Pub/Sub's own account, its service agent, signs tokens as the push account and moves dead letters. It comes into being
# with the project's first topic, and no role can be given to it before.
data "google_project" "this" {
  project_id = var.project
}

locals {
  pubsub            = "serviceAccount:service-${data.google_project.this.number}@gcp-sa-pubsub.iam.gserviceaccount.com"
  workload_identity = try(var.knative.workload_identity, null)
}

resource "google_service_account_iam_member" "pubsub_signs_as_push" {
  service_account_id = google_service_account.push.name
  role               = "roles/iam.serviceAccountTokenCreator"
  member             = local.pubsub

  depends_on = [google_pubsub_topic.requests]
}

resource "google_pubsub_topic_iam_member" "pubsub_publishes_dead_letters" {
  project = var.project
  topic   = google_pubsub_topic.dead_letters.name
  role    = "roles/pubsub.publisher"
  member  = local.pubsub
}

resource "google_pubsub_subscription_iam_member" "pubsub_acknowledges_dead_letters" {
  project      = var.project
  subscription = google_pubsub_subscription.push.name
  role         = "roles/pubsub.subscriber"
  member       = local.pubsub
}

# People and programs.
resource "google_pubsub_topic_iam_member" "requesters" {
  for_each = var.requesters

  project = var.project
  topic   = google_pubsub_topic.requests.name
  role    = "roles/pubsub.publisher"
  member  = each.value
}

resource "google_pubsub_subscription_iam_member" "response_readers" {
  for_each = merge([
    for name, one in var.response_subscriptions : { for member in one.members : "${name} ${member}" => { name = name, member = member } }
  ]...)

  project      = var.project
  subscription = google_pubsub_subscription.responses[each.value.name].name
  role         = "roles/pubsub.subscriber"
  member       = each.value.member
}

resource "google_pubsub_subscription_iam_member" "dead_letter_readers" {
  for_each = var.dead_letter_readers

  project      = var.project
  subscription = google_pubsub_subscription.dead_letters.name
  role         = "roles/pubsub.subscriber"
  member       = each.value
}
