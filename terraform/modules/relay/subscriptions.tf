# The push subscription is the pump: what is not acknowledged within the deadline comes again.
resource "google_pubsub_subscription" "push" {
  project                      = var.project
  name                         = "${var.name}-push"
  topic                        = local.request_topic
  labels                       = var.labels
  deletion_policy              = local.deletion_policy
  ack_deadline_seconds         = var.ack_deadline_seconds
  message_retention_duration   = "${var.message_retention_seconds}s"
  retain_acked_messages        = false
  enable_message_ordering      = var.message_ordering
  enable_exactly_once_delivery = false # there is no such thing for push
  filter                       = var.filter

  push_config {
    push_endpoint = local.endpoint

    oidc_token {
      service_account_email = local.push_account
      audience              = local.audience
    }
  }

  # Without a policy a failed message comes back at once, as fast as it fails.
  retry_policy {
    minimum_backoff = "10s"
    maximum_backoff = "600s"
  }

  # It is also what makes Pub/Sub count deliveries, which MAX_ATTEMPTS needs.
  dead_letter_policy {
    dead_letter_topic     = google_pubsub_topic.dead_letters.id
    max_delivery_attempts = var.max_delivery_attempts
  }

  # By default a subscription is deleted after 31 days without traffic, and its backlog with it.
  expiration_policy {
    ttl = ""
  }

  lifecycle {
    precondition {
      condition     = alltrue([for filters in values(local.stream_filters) : length(filters) == 1 || !contains(filters, "") && length(distinct(filters)) == length(filters)])
      error_message = "Two streams read one topic (${join(", ", [for topic, filters in local.stream_filters : topic if length(filters) > 1])}), and each message that two of them get is answered twice. Give all that share a topic filters of which a message passes one; the relay's own has the variable filter, for instance NOT attributes:stream."
    }

    precondition {
      condition     = length(distinct(local.subscription_names)) == length(local.subscription_names)
      error_message = "streams, response_subscriptions and control_messages make two subscriptions of one name (NAME-push-STREAM, NAME-STREAM-READER, NAME-READER and NAME-control): ${join(", ", sort(local.subscription_names))}."
    }
  }

  # Pushing starts with the subscription: every right that a push or its response needs is there before, and so is
  # somebody to keep the responses and the dead letters.
  depends_on = [
    google_cloud_run_v2_service_iam_member.push_invokes,
    google_pubsub_subscription.dead_letters,
    google_pubsub_subscription.responses,
    google_pubsub_topic_iam_member.pubsub_publishes_dead_letters,
    google_cloud_run_v2_service_iam_member.relay_invokes,
    google_project_iam_member.relay_predicts,
    google_pubsub_topic_iam_member.relay_publishes,
    google_pubsub_topic_iam_member.relay_publishes_elsewhere,
    google_service_account_iam_member.pubsub_signs_as_push,
    google_service_account_iam_member.pod_is_relay,
    google_storage_bucket_iam_member.relay_reads,
    google_storage_bucket_iam_member.relay_writes,
  ]
}

# What is published to a topic without a subscription is lost.
resource "google_pubsub_subscription" "dead_letters" {
  project                    = var.project
  name                       = "${var.name}-dead-letters"
  topic                      = google_pubsub_topic.dead_letters.id
  labels                     = var.labels
  deletion_policy            = local.deletion_policy
  ack_deadline_seconds       = 600        # somebody reads them by hand
  message_retention_duration = "2678400s" # the longest there is: 31 days to notice
  retain_acked_messages      = false

  expiration_policy {
    ttl = ""
  }
}

resource "google_pubsub_subscription" "responses" {
  for_each = local.response_subscriptions

  project                    = var.project
  name                       = "${var.name}-${each.key}"
  topic                      = each.value.topic
  labels                     = var.labels
  deletion_policy            = local.deletion_policy
  ack_deadline_seconds       = 60
  message_retention_duration = "${var.message_retention_seconds}s"
  retain_acked_messages      = false
  enable_message_ordering    = var.message_ordering # responses carry the request's ordering key
  filter                     = each.value.filter

  expiration_policy {
    ttl = ""
  }
}
