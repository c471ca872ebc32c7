# Several push subscriptions of one service. The relay's own, which takes requests when there are no streams, is always one of
# them: its backlog is not to be lost because others join it.

locals {
  own_stream = "push"
  plain_stream = {
    filter                 = ""
    request_topic          = null
    requesters             = []
    response_topic         = null
    response_subscriptions = {}
    priority               = null
    max_share              = 1
    models                 = null
    allowed_paths          = null
    max_attempts           = null
  }

  # All by full names, which are known before anything is made.
  streams = {
    for name, one in merge({ (local.own_stream) = local.plain_stream }, var.streams) : name => merge(one, {
      subscription                              = name == local.own_stream ? "${var.name}-push" : "${var.name}-push-${name}"
      filter                                    = name == local.own_stream ? var.filter : one.filter
      own_requests                              = name != local.own_stream && one.request_topic == null && one.filter == ""
      own_responses                             = one.response_topic == null && length(one.response_subscriptions) > 0
      request_topic                             = one.request_topic != null ? one.request_topic : name == local.own_stream || one.filter != "" ? local.request_topic_name : "projects/${var.project}/topics/${var.name}-${name}-requests"
      response_topic                            = one.response_topic != null ? one.response_topic : length(one.response_subscriptions) > 0 ? "projects/${var.project}/topics/${var.name}-${name}-responses" : null
    }) if length(var.streams) > 0
  }
  request_topic_name = var.topics.requests == null ? "projects/${var.project}/topics/${var.name}-requests" : var.topics.requests
  more_streams       = { for name, one in local.streams : name => one if name != local.own_stream }

  stream_entries = [
    for name, one in local.streams : {
      for field, value in {
        subscription   = one.subscription
        response_topic = one.response_topic
        priority       = one.priority
        max_share      = one.max_share
        models         = one.models
        allowed_paths  = one.allowed_paths
        max_attempts   = one.max_attempts
      } : field => value if value != null
    }
  ]

  # No message may pass two of a topic's filters, and no two subscriptions have one name.
  stream_filters = { for one in values(local.streams) : one.request_topic => one.filter... }
  subscription_names = concat(
    ["push", "dead-letters"],
    var.control_messages ? ["control"] : [],
    [for name in keys(local.more_streams) : "push-${name}"],
    keys(var.response_subscriptions),
    flatten([for name, one in local.streams : [for reader in keys(one.response_subscriptions) : "${name}-${reader}"]]),
  )

  stream_topics = toset(concat(
    [for name, one in local.streams : "${name}-requests" if one.own_requests],
    [for name, one in local.streams : "${name}-responses" if one.own_responses],
  ))

  # Every subscription that somebody reads responses from, with its topic.
  response_subscriptions = merge(
    { for name, one in var.response_subscriptions : name => merge(one, { topic = local.response_topic }) },
    [for name, stream in local.streams : { for reader, one in stream.response_subscriptions : "${name}-${reader}" => merge(one, {
      topic = try(google_pubsub_topic.streams["${name}-responses"].id, stream.response_topic)
    }) }]...
  )

  # Every topic that the relay publishes to beside its own, by full name: streams' and those that requests may name.
  published_elsewhere = setsubtract(
    concat([for one in values(local.streams) : one.response_topic if one.response_topic != null], tolist(var.response_topics)),
    [var.topics.responses == null ? "projects/${var.project}/topics/${var.name}-responses" : var.topics.responses],
  )
  stream_requesters = merge([
    for name, one in local.more_streams : { for member in one.requesters : "${name} ${member}" => { topic = one.request_topic, member = member } }
  ]...)
}

resource "google_pubsub_topic" "streams" {
  for_each = local.stream_topics

  project         = var.project
  name            = "${var.name}-${each.key}"
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

# As the relay's own (subscriptions.tf), with its reasons.
resource "google_pubsub_subscription" "streams" {
  for_each = local.more_streams

  project                      = var.project
  name                         = each.value.subscription
  topic                        = each.value.own_requests ? google_pubsub_topic.streams["${each.key}-requests"].id : each.value.request_topic == local.request_topic_name ? local.request_topic : each.value.request_topic
  labels                       = var.labels
  deletion_policy              = local.deletion_policy
  ack_deadline_seconds         = var.ack_deadline_seconds
  message_retention_duration   = "${var.message_retention_seconds}s"
  retain_acked_messages        = false
  enable_message_ordering      = var.message_ordering
  enable_exactly_once_delivery = false
  filter                       = each.value.filter

  push_config {
    push_endpoint = local.endpoint

    oidc_token {
      service_account_email = local.push_account
      audience              = local.audience
    }
  }

  retry_policy {
    minimum_backoff = "10s"
    maximum_backoff = "600s"
  }

  dead_letter_policy {
    dead_letter_topic     = google_pubsub_topic.dead_letters.id
    max_delivery_attempts = var.max_delivery_attempts
  }

  expiration_policy {
    ttl = ""
  }

  depends_on = [
    google_cloud_run_v2_service_iam_member.push_invokes,
    google_cloud_run_v2_service_iam_member.relay_invokes,
    google_project_iam_member.relay_predicts,
    google_pubsub_subscription.dead_letters,
    google_pubsub_subscription.responses,
    google_pubsub_topic_iam_member.pubsub_publishes_dead_letters,
    google_pubsub_topic_iam_member.relay_publishes,
    google_pubsub_topic_iam_member.relay_publishes_elsewhere,
    google_service_account_iam_member.pubsub_signs_as_push,
    google_service_account_iam_member.pod_is_relay,
    google_storage_bucket_iam_member.relay_reads,
    google_storage_bucket_iam_member.relay_writes,
  ]
}

resource "google_pubsub_subscription_iam_member" "pubsub_acknowledges_streams" {
  for_each = local.more_streams

  project      = var.project
  subscription = google_pubsub_subscription.streams[each.key].name
  role         = "roles/pubsub.subscriber"
  member       = local.pubsub

  lifecycle {
    replace_triggered_by = [google_pubsub_subscription.streams[each.key].id]
  }
}

# What a right on a topic goes with: the topic itself, where it is made here.
resource "terraform_data" "stream_topics" {
  for_each = setunion(local.published_elsewhere, values(local.stream_requesters)[*].topic)

  triggers_replace = try(google_pubsub_topic.streams[trimprefix(each.key, "projects/${var.project}/topics/${var.name}-")].id, each.key)
}

resource "google_pubsub_topic_iam_member" "relay_publishes_elsewhere" {
  for_each = local.published_elsewhere

  project = split("/", each.key)[1]
  topic   = split("/", each.key)[3]
  role    = "roles/pubsub.publisher"
  member  = local.relay_member

  lifecycle {
    replace_triggered_by = [terraform_data.stream_topics[each.key].id]
  }
}

resource "terraform_data" "stream_requesters" {
  for_each = local.stream_requesters

  triggers_replace = terraform_data.stream_topics[each.value.topic].id
}

resource "google_pubsub_topic_iam_member" "stream_requesters" {
  for_each = local.stream_requesters

  project = split("/", each.value.topic)[1]
  topic   = split("/", each.value.topic)[3]
  role    = "roles/pubsub.publisher"
  member  = each.value.member

  lifecycle {
    replace_triggered_by = [terraform_data.stream_requesters[each.key].id]
  }
}
