# Who is told what. Each alert has its entry in docs/runbook.md, under its own name, and docs/monitoring.md lists all of them.
#
# Shares are of what Pub/Sub counts and not of log lines, so that they are right at any LOG_LEVEL that leaves warnings in; and
# five of a kind at least, since one of three is a third and no news.

locals {
  # PromQL's names for Cloud Monitoring's metrics, as far as the labels that choose this relay's own.
  push_subscriptions       = concat([google_pubsub_subscription.push.name], [for one in google_pubsub_subscription.streams : one.name])
  push_subscription        = "project_id=\"${var.project}\",subscription_id${length(local.push_subscriptions) == 1 ? "=" : "=~"}\"${join("|", local.push_subscriptions)}\""
  dead_letter_subscription = "project_id=\"${var.project}\",subscription_id=\"${google_pubsub_subscription.dead_letters.name}\""
  logged                   = "logging_googleapis_com:user_${replace(var.name, "-", "_")}"
  logged_on                = local.on_cloud_run ? "project_id=\"${var.project}\",monitored_resource=\"cloud_run_revision\"" : "project_id=\"${var.project}\",monitored_resource=\"k8s_container\""

  waiting     = "sum(pubsub_googleapis_com:subscription_num_undelivered_messages{${local.push_subscription}})"
  outstanding = "(sum(pubsub_googleapis_com:subscription_num_outstanding_messages{${local.push_subscription}}) or vector(0))"
  pushes      = "pubsub_googleapis_com:subscription_push_request_count{${local.push_subscription}"
  acked       = "(sum(increase(${local.pushes},response_class=\"ack\"}[15m])) or vector(0))"
  pushed      = "sum(increase(${local.pushes}}[15m]))"
  refused     = "(sum(increase(${local.pushes},response_class=\"remote_server_4xx\"}[15m])) or vector(0))"
  expired     = "(sum(increase(${local.pushes},response_class=\"deadline_exceeded\"}[15m])) or vector(0))"
  # Longer than the two times that the longest call there is may take, and its redelivery.
  silence_seconds = 2 * var.ack_deadline_seconds + 600

  # Each push that is under way has one slot at most: with so few of them some are certainly unused. Slots that are unused while
  # pushes are held in the line are the service's own to tell.
  unused_by_pubsub      = "(${local.outstanding} < ${var.alerts.slots_share * local.instances * local.slots} and ${local.waiting} - ${local.outstanding} > ${local.instances * local.slots})"
  unused_by_the_service = "(sum by (route) (inference_relay_slots_in_use{${local.scraped}}) < ${var.alerts.slots_share} * sum by (route) (inference_relay_slots{${local.scraped}}) and sum by (route) (inference_relay_waiting{${local.scraped}}) > 0)"

  # A share of things that is too large.
  shares = {
    error-answers = {
      of    = "sum(increase(${local.logged}_pushes{${local.logged_on},reason=~\"gave_up|model_timed_out|response_too_large\"}[15m]))"
      among = local.acked
      most  = var.alerts.error_share
    }
    pushes-refused = {
      of    = "${local.refused} + (sum(increase(${local.logged}_pushes{${local.logged_on},reason=\"overdue\"}[15m])) or vector(0))"
      among = local.pushed
      most  = var.alerts.refused_share
    }
    near-deadline = {
      of    = "(sum(increase(${local.logged}_late_pushes{${local.logged_on}}[15m])) or vector(0)) + ${local.expired}"
      among = local.pushed
      most  = var.alerts.late_share
    }
  }

  # What is asked, for how long it has to be so, how bad it is, and what it means.
  conditions = merge(
    { for name, one in local.shares : name => { query = "(${one.of}) > ${one.most} * ${one.among} and (${one.of}) >= 5", seconds = 300 } },
    {
      waiting = {
        query   = "max(pubsub_googleapis_com:subscription_oldest_unacked_message_age{${local.push_subscription}}) > ${coalesce(var.alerts.oldest_seconds, floor(var.max_age_seconds / 2))}"
        seconds = 300
      }
      stalled = {
        query   = "min_over_time(${local.waiting}[${local.silence_seconds}s:60s]) > 0 and (sum(increase(${local.pushes},response_class=\"ack\"}[${local.silence_seconds}s])) or vector(0)) == 0"
        seconds = 120
      }
      slots-unused = {
        query   = join(" or ", concat([local.unused_by_pubsub], [for one in local.sidecar : local.unused_by_the_service]))
        seconds = 900
      }
      dead-letter = {
        query   = "sum(pubsub_googleapis_com:subscription_num_undelivered_messages{${local.dead_letter_subscription}}) > 0"
        seconds = 300
      }
      tokens-refused = {
        query   = "sum(increase(${local.logged}_tokens_refused{${local.logged_on}}[15m])) >= 5 and ${local.refused} >= 5"
        seconds = 300
      }
      operator-errors = {
        query   = "sum by (reason) (increase(${local.logged}_pushes{${local.logged_on},reason=~\"model_misconfigured|publish_failed|storage_failed|keys_unavailable\"}[5m])) > 0"
        seconds = 600
      }
      bug = {
        query   = "sum(increase(${local.logged}_bugs{${local.logged_on}}[1h])) > 0"
        seconds = 0
      }
      ledger-away = {
        query   = "sum(increase(${local.logged}_ledger_troubles{${local.logged_on}}[5m])) > 0"
        seconds = 600
      }
    },
  )
  # On Cloud Run it is known whether there is a ledger.
  has_ledger = !local.on_cloud_run || contains(local.secret_names, "LEDGER_URL")
  alerts     = { for name, one in local.conditions : name => merge(one, local.alert_texts[name]) if var.monitoring && !contains(var.alerts.off, name) && (name != "ledger-away" || local.has_ledger) }
}

resource "google_monitoring_alert_policy" "relay" {
  for_each = local.alerts

  project               = var.project
  display_name          = "${var.name}: ${each.key}"
  combiner              = "OR"
  severity              = each.value.severity
  notification_channels = var.notification_channels
  user_labels           = var.labels

  conditions {
    display_name = each.value.means
    condition_prometheus_query_language {
      query               = each.value.query
      duration            = "${each.value.seconds}s"
      evaluation_interval = "60s" # as often as Pub/Sub's numbers come; each evaluation is paid
      # What is logged for the first time tomorrow has no metric today.
      disable_metric_validation = true
    }
  }

  documentation {
    subject   = "${var.name}: ${each.value.means}"
    mime_type = "text/markdown"
    content   = "${each.value.says}\n\nWhat to do: ${local.runbook}#${each.key}"

    dynamic "links" {
      for_each = var.runbook_url == null ? [] : ["${var.runbook_url}#${each.key}"]
      content {
        display_name = "Runbook: ${each.key}"
        url          = links.value
      }
    }
  }

  # What an alert asks for is there before it.
  depends_on = [google_logging_metric.relay]
}
