# Two numbers of Pub/Sub's say whether there is trouble at all (docs/runbook.md). Somebody is told, where channels are given.

locals {
  # A subscription, the metric, how much is too much, for how long, and what it means.
  alerts = {
    waiting = {
      subscription = google_pubsub_subscription.push.name
      metric       = "pubsub.googleapis.com/subscription/oldest_unacked_message_age"
      threshold    = var.max_age_seconds / 2
      says         = "Requests have waited for half of max_age_seconds. The runbook says where to look: docs/runbook.md."
    }
    dead-letter = {
      subscription = google_pubsub_subscription.dead_letters.name
      metric       = "pubsub.googleapis.com/subscription/num_undelivered_messages"
      threshold    = 0
      says         = "A request was given up, unanswered. docs/runbook.md says how to read it and to publish it again."
    }
  }
}

resource "google_monitoring_alert_policy" "relay" {
  for_each = length(var.notification_channels) == 0 ? {} : local.alerts

  project               = var.project
  display_name          = "${var.name}: ${each.key}"
  combiner              = "OR"
  notification_channels = var.notification_channels
  user_labels           = var.labels

  conditions {
    display_name = each.key
    condition_threshold {
      filter          = "resource.type = \"pubsub_subscription\" AND resource.labels.subscription_id = \"${each.value.subscription}\" AND metric.type = \"${each.value.metric}\""
      comparison      = "COMPARISON_GT"
      threshold_value = each.value.threshold
      duration        = "300s"

      aggregations {
        alignment_period   = "60s"
        per_series_aligner = "ALIGN_MAX"
      }
    }
  }

  documentation {
    content = each.value.says
  }
}
