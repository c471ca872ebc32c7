# A cancel must not wait behind the requests that it is to stop. The push subscription gets control messages as well, later:
# its filter cannot be changed without losing its backlog, and a cancel that comes twice is the same cancel.
resource "google_pubsub_subscription" "control" {
  count = var.control_messages ? 1 : 0

  project                    = var.project
  name                       = "${var.name}-control"
  topic                      = local.request_topic
  labels                     = var.labels
  deletion_policy            = local.deletion_policy
  ack_deadline_seconds       = 60
  message_retention_duration = "86400s" # whoever asked has given up by then
  retain_acked_messages      = false
  filter                     = "attributes:relay_control"

  push_config {
    push_endpoint = local.endpoint

    oidc_token {
      service_account_email = local.push_account
      audience              = local.audience
    }
  }

  retry_policy {
    minimum_backoff = "1s"
    maximum_backoff = "60s"
  }

  expiration_policy {
    ttl = ""
  }

  # As for the push subscription: every right is there before it pushes.
  depends_on = [google_pubsub_subscription.push]
}
