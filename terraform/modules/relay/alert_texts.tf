# What whoever is woken reads first. It has to do without the runbook, which may be a login away.

locals {
  # Refusals for want of room are logged at INFO: by their status they are among what is looked for.
  in_trouble = "(severity>=WARNING OR jsonPayload.status>=400)"
  runbook    = coalesce(var.runbook_url, "docs/runbook.md")
  read_logs  = "gcloud logging read '${local.own_lines} AND ${local.in_trouble}' --project=${var.project} --freshness=1h --limit=20 --format='table(timestamp, severity, jsonPayload.reason, jsonPayload.message_id, jsonPayload.message)'"
  first      = "Nothing is lost yet: a request that the model, Cloud Storage or a bug of the service fails is answered with an error at attempt ${var.max_attempts}, and what is given back for any other reason becomes a dead letter at delivery ${var.max_delivery_attempts}. A pause stops both. What the service says of it:\n\n    ${local.read_logs}"

  alert_texts = {
    waiting = {
      severity = "WARNING"
      means    = "the oldest request has waited for too long"
      says     = "The oldest request has waited for more than ${coalesce(var.alerts.oldest_seconds, floor(var.max_age_seconds / 2))} s. A failing one is answered with its error when it is ${var.max_age_seconds} s old; all of them are gone after ${var.message_retention_seconds} s. Either there is more work than the model does, or none of it gets done.\n\n${local.first}"
    }
    stalled = {
      severity = "CRITICAL"
      means    = "requests wait, and none is answered"
      says     = "Requests wait, and for more than ${local.silence_seconds} s Pub/Sub has had no acknowledgement of any. The model is away, pushes do not reach the service, or somebody has paused the subscription.\n\n${local.first}"
    }
    slots-unused = {
      severity = "WARNING"
      means    = "requests wait while the model has nothing to do"
      says     = "More requests wait in Pub/Sub than the model's ${local.instances * local.slots} slots take, and fewer than ${var.alerts.slots_share * 100} % of these can be in use: so few pushes are under way. Pub/Sub has slowed down, since pushes were given back, or instances are missing.${var.prometheus_sidecar == null ? "" : " Or, by the service's own metrics, pushes of a route wait in the line while so few of its slots are in use: the model has refused more."}\n\n${local.first}"
    }
    dead-letter = {
      severity = "ERROR"
      means    = "a request was given up, unanswered"
      says     = "A request was delivered ${var.max_delivery_attempts} times and never answered. It is kept for 31 days in ${google_pubsub_subscription.dead_letters.name}; mend the cause, then publish it again (look first, then add --go):\n\n    inference-relay replay ${google_pubsub_subscription.dead_letters.name} --project=${var.project} --topic=${local.request_topic_name}${length(var.streams) == 0 ? "" : "\n\nThose of a stream with a topic of its own go there: the runbook has the command."}"
    }
    error-answers = {
      severity = "ERROR"
      means    = "too many requests are answered with an error"
      says     = "More than ${var.alerts.error_share * 100} % of the requests of the last 15 minutes were answered with an error that is not theirs: gave_up, model_timed_out or response_too_large. Those are answered, and do not come again by themselves: pause, if there are more to come.\n\n    ${local.read_logs}"
    }
    pushes-refused = {
      severity = "WARNING"
      means    = "too many pushes are refused"
      says     = "More than ${var.alerts.refused_share * 100} % of the pushes of the last 15 minutes got a 4xx, or waited in vain (overdue). Each one slows the whole subscription down. 429 is no room, here or in Cloud Run; 401 and 403 are tokens; 400 is no push.\n\n${local.first}"
    }
    near-deadline = {
      severity = "WARNING"
      means    = "pushes are answered when it is nearly too late"
      says     = "More than ${var.alerts.late_share * 100} % of the pushes of the last 15 minutes took ${local.late_seconds} s or more, or longer than the ${var.ack_deadline_seconds} s that Pub/Sub waits. What is later than that is delivered again, and may be paid twice.\n\n${local.first}"
    }
    tokens-refused = {
      severity = "ERROR"
      means    = "Pub/Sub's own pushes are refused for their token"
      says     = "Tokens are refused, and Pub/Sub gets 4xx: most likely these are its own pushes. Compare the subscription's oidcToken with what the service wants:\n\n    gcloud pubsub subscriptions describe ${google_pubsub_subscription.push.name} --project=${var.project} --format='yaml(pushConfig)'"
    }
    operator-errors = {
      severity = "ERROR"
      means    = "something is set wrong, or cannot be reached"
      says     = "For ten minutes pushes have been given back for a reason that nobody but an operator can mend: $${metric_or_resource.labels}. model_misconfigured is a key, money or MODEL_URL; publish_failed the response topic; storage_failed a bucket; keys_unavailable the way to Google's keys.\n\n${local.first}"
    }
    bug = {
      severity = "ERROR"
      means    = "a bug in the service"
      says     = "The service has met an error that it does not know, and logged its traceback, which holds no prompt: please report it. The message comes again, and may pass.\n\n    gcloud logging read '${local.own_lines} AND severity>=ERROR AND jsonPayload.message:\"bug\"' --project=${var.project} --freshness=1h --limit=5"
    }
    ledger-away = {
      severity = "WARNING"
      means    = "the ledger cannot be reached"
      says     = "For ten minutes the Redis at LEDGER_URL has been slow, full or away. Requests are answered all the same; what Pub/Sub delivers twice may be paid twice meanwhile. The line in the log has Redis' own word.\n\n    gcloud logging read '${local.own_lines} AND jsonPayload.troubles:*' --project=${var.project} --freshness=1h --limit=5"
    }
  }
}
