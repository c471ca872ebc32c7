# Everything waits in one of three topics: requests, responses, and what could not be handled at all.

resource "google_pubsub_topic" "requests" {
  count = var.topics.requests == null ? 1 : 0

  project         = var.project
  name            = "${var.name}-requests"
  labels          = var.labels
  deletion_policy = local.deletion_policy
  kms_key_name    = var.kms_key

  dynamic "message_storage_policy" {
    for_each = local.storage_policy
    content {
      allowed_persistence_regions = message_storage_policy.value
    }
  }
}

resource "google_pubsub_topic" "responses" {
  count = var.topics.responses == null ? 1 : 0

  project         = var.project
  name            = "${var.name}-responses"
  labels          = var.labels
  deletion_policy = local.deletion_policy
  kms_key_name    = var.kms_key

  dynamic "message_storage_policy" {
    for_each = local.storage_policy
    content {
      allowed_persistence_regions = message_storage_policy.value
    }
  }
}

resource "google_pubsub_topic" "dead_letters" {
  project         = var.project
  name            = "${var.name}-dead-letters"
  labels          = var.labels
  deletion_policy = local.deletion_policy
  kms_key_name    = var.kms_key

  dynamic "message_storage_policy" {
    for_each = local.storage_policy
    content {
      allowed_persistence_regions = message_storage_policy.value
    }
  }
}

locals {
  # Topics and subscriptions have no deletion_protection of their own.
  deletion_policy = var.deletion_protection ? "PREVENT" : "DELETE"
  # Where messages may lie: a policy, or none, which leaves it to Google and the organisation.
  storage_regions = var.storage_regions == null ? [var.region] : var.storage_regions
  storage_policy  = length(local.storage_regions) == 0 ? [] : [local.storage_regions]

  # Ours or somebody else's, by full name: projects/PROJECT/topics/TOPIC.
  request_topic  = var.topics.requests == null ? one(google_pubsub_topic.requests[*].id) : var.topics.requests
  response_topic = var.topics.responses == null ? one(google_pubsub_topic.responses[*].id) : var.topics.responses
  requests = {
    project = var.topics.requests == null ? var.project : split("/", var.topics.requests)[1]
    name    = var.topics.requests == null ? one(google_pubsub_topic.requests[*].name) : split("/", var.topics.requests)[3]
  }
  responses = {
    project = var.topics.responses == null ? var.project : split("/", var.topics.responses)[1]
    name    = var.topics.responses == null ? one(google_pubsub_topic.responses[*].name) : split("/", var.topics.responses)[3]
  }
}

# A right goes with what it was given on. A member names its topic, which stays the same when the topic is made anew: this
# is what makes the right anew too.
resource "terraform_data" "topics" {
  for_each = toset(["requests", "responses", "dead_letters"])

  triggers_replace = {
    requests     = local.request_topic
    responses    = local.response_topic
    dead_letters = google_pubsub_topic.dead_letters.id
  }[each.key]
}
