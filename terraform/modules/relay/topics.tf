# Everything waits in one of three topics: requests, responses, and what could not be handled at all.

resource "google_pubsub_topic" "requests" {
  project         = var.project
  name            = "${var.name}-requests"
  labels          = var.labels
  deletion_policy = local.deletion_policy
}

resource "google_pubsub_topic" "responses" {
  project         = var.project
  name            = "${var.name}-responses"
  labels          = var.labels
  deletion_policy = local.deletion_policy
}

resource "google_pubsub_topic" "dead_letters" {
  project         = var.project
  name            = "${var.name}-dead-letters"
  labels          = var.labels
  deletion_policy = local.deletion_policy
}

locals {
  # Topics and subscriptions have no deletion_protection of their own.
  deletion_policy = var.deletion_protection ? "PREVENT" : "DELETE"
}
