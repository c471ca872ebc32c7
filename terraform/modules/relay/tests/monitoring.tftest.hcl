# Metrics, alerts and the dashboard; and the sidecar that takes the service's own metrics. What the queries name, and when they
# are true, is looked at in tests/deploy.

mock_provider "google" {
  override_resource {
    target = google_service_account.relay
    values = { email = "run@example.com" }
  }
  mock_resource "google_monitoring_dashboard" {
    defaults = { id = "projects/1234567890/dashboards/0123" }
  }
  mock_resource "google_secret_manager_secret_version" {
    defaults = { version = "3" }
  }
}

variables {
  project     = "my-project"
  region      = "europe-west4"
  image       = "registry.example/my-project/relay/inference-relay@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  model_url   = "https://model.example.com/openai"
  model_slots = 80
}

run "defaults" {
  assert {
    condition     = keys(google_monitoring_alert_policy.relay) == ["bug", "dead-letter", "error-answers", "near-deadline", "operator-errors", "pushes-refused", "slots-unused", "stalled", "tokens-refused", "waiting"]
    error_message = "There is an alert for everything that can go wrong; without a ledger there is none for it."
  }

  assert {
    condition     = alltrue([for name, one in google_monitoring_alert_policy.relay : one.display_name == "inference-relay: ${name}" && one.project == "my-project" && length(one.notification_channels) == 0 && one.combiner == "OR" && contains(["WARNING", "ERROR", "CRITICAL"], one.severity)])
    error_message = "Alerts are named after the relay, and tell nobody unless channels are given."
  }

  assert {
    condition     = alltrue([for name, one in google_monitoring_alert_policy.relay : endswith(one.documentation[0].content, "\n\nWhat to do: docs/runbook.md#${name}") && startswith(one.documentation[0].subject, "inference-relay: ") && length(one.documentation[0].links) == 0 && one.documentation[0].mime_type == "text/markdown"])
    error_message = "Each alert names its entry in the runbook."
  }

  assert {
    condition     = alltrue([for one in google_monitoring_alert_policy.relay : one.conditions[0].condition_prometheus_query_language[0].evaluation_interval == "60s" && one.conditions[0].condition_prometheus_query_language[0].disable_metric_validation])
    error_message = "Alerts can be made before there is anything to see."
  }

  assert {
    condition = { for name, one in google_monitoring_alert_policy.relay : name => one.conditions[0].condition_prometheus_query_language[0].duration } == {
      bug             = "0s"
      dead-letter     = "300s"
      error-answers   = "300s"
      near-deadline   = "300s"
      operator-errors = "600s"
      pushes-refused  = "300s"
      slots-unused    = "900s"
      stalled         = "120s"
      tokens-refused  = "300s"
      waiting         = "300s"
    }
    error_message = "What passes by itself raises no alert."
  }

  assert {
    condition     = google_monitoring_alert_policy.relay["waiting"].conditions[0].condition_prometheus_query_language[0].query == "max(pubsub_googleapis_com:subscription_oldest_unacked_message_age{project_id=\"my-project\",subscription_id=\"inference-relay-push\"}) > 43200"
    error_message = "Half of max_age_seconds is too long."
  }

  assert {
    condition     = { for name, one in google_logging_metric.relay : name => one.name } == { for name in ["bugs", "late_pushes", "ledger_troubles", "pushes", "tokens_refused"] : name => "inference-relay/${name}" } && google_logging_metric.push_seconds[0].name == "inference-relay/push_seconds"
    error_message = "Metrics are named after the relay."
  }

  assert {
    condition     = alltrue([for one in concat(values(google_logging_metric.relay), google_logging_metric.push_seconds) : startswith(one.filter, "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"inference-relay\" AND ") && one.project == "my-project" && one.metric_descriptor[0].metric_kind == "DELTA"])
    error_message = "Only this service's lines count."
  }

  assert {
    condition     = google_logging_metric.relay["tokens_refused"].filter == "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"inference-relay\" AND logName=\"projects/my-project/logs/run.googleapis.com%2Frequests\" AND httpRequest.status=(401 OR 403)"
    error_message = "On Cloud Run it is the front end that refuses tokens, and only its request log knows."
  }

  assert {
    condition     = endswith(google_logging_metric.relay["late_pushes"].filter, " AND jsonPayload.seconds>=570")
    error_message = "Late is nearly the ack deadline."
  }

  assert {
    condition     = google_logging_metric.push_seconds[0].metric_descriptor[0].value_type == "DISTRIBUTION" && max(google_logging_metric.push_seconds[0].bucket_options[0].explicit_buckets[0].bounds...) == 600 && google_logging_metric.push_seconds[0].value_extractor == "EXTRACT(jsonPayload.seconds)"
    error_message = "The time of a push is known up to the longest ack deadline."
  }

  assert {
    condition     = jsondecode(google_monitoring_dashboard.relay[0].dashboard_json).displayName == "inference-relay" && length(jsondecode(google_monitoring_dashboard.relay[0].dashboard_json).mosaicLayout.tiles) == 16 && google_monitoring_dashboard.relay[0].project == "my-project"
    error_message = "There is a dashboard."
  }

  assert {
    condition     = output.dashboard == "https://console.cloud.google.com/monitoring/dashboards/builder/0123?project=my-project"
    error_message = "An output is where it is looked at."
  }

  assert {
    condition     = length(google_secret_manager_secret.sidecar) + length(google_secret_manager_secret_version.sidecar) + length(google_secret_manager_secret_iam_member.sidecar_reads) + length(google_project_iam_member.sidecar_writes) == 0
    error_message = "Without the sidecar nobody has a role on the project."
  }
}

run "with_ledger" {
  variables {
    ledger_url_secret = { secret = "ledger-url" }
  }

  assert {
    condition     = length(google_monitoring_alert_policy.relay) == 11 && google_monitoring_alert_policy.relay["ledger-away"].severity == "WARNING" && google_logging_metric.relay["ledger_troubles"].filter == "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"inference-relay\" AND jsonPayload.troubles:*"
    error_message = "Where there is a ledger, it is watched."
  }
}

run "as_asked" {
  variables {
    name                  = "nightly"
    labels                = { team = "search" }
    ack_deadline_seconds  = 120
    model_timeout_seconds = 70
    notification_channels = ["projects/my-project/notificationChannels/42"]
    runbook_url           = "https://git.example.com/runbook.md"
    alerts                = { oldest_seconds = 3600, error_share = 0.2, refused_share = 0.3, late_share = 0.4, slots_share = 0.25, off = ["bug", "stalled"] }
  }

  assert {
    condition     = length(google_monitoring_alert_policy.relay) == 8 && !contains(keys(google_monitoring_alert_policy.relay), "bug") && !contains(keys(google_monitoring_alert_policy.relay), "stalled")
    error_message = "Single alerts can be left out."
  }

  assert {
    condition     = alltrue([for one in google_monitoring_alert_policy.relay : one.notification_channels == tolist(["projects/my-project/notificationChannels/42"]) && one.user_labels == tomap({ team = "search" })])
    error_message = "They are told to the channels."
  }

  assert {
    condition     = alltrue([for name, one in google_monitoring_alert_policy.relay : one.documentation[0].links[0].url == "https://git.example.com/runbook.md#${name}" && endswith(one.documentation[0].content, "https://git.example.com/runbook.md#${name}")])
    error_message = "They link the runbook, where it is known."
  }

  assert {
    condition     = endswith(google_monitoring_alert_policy.relay["waiting"].conditions[0].condition_prometheus_query_language[0].query, "subscription_id=\"nightly-push\"}) > 3600") && strcontains(google_monitoring_alert_policy.relay["error-answers"].conditions[0].condition_prometheus_query_language[0].query, " > 0.2 * ") && strcontains(google_monitoring_alert_policy.relay["pushes-refused"].conditions[0].condition_prometheus_query_language[0].query, " > 0.3 * ") && strcontains(google_monitoring_alert_policy.relay["near-deadline"].conditions[0].condition_prometheus_query_language[0].query, " > 0.4 * ") && strcontains(google_monitoring_alert_policy.relay["slots-unused"].conditions[0].condition_prometheus_query_language[0].query, " < 20.25 and ")
    error_message = "The thresholds are the variable's."
  }

  assert {
    condition     = endswith(google_logging_metric.relay["late_pushes"].filter, "seconds>=114") && google_logging_metric.relay["pushes"].name == "nightly/pushes" && strcontains(google_monitoring_alert_policy.relay["near-deadline"].conditions[0].condition_prometheus_query_language[0].query, "logging_googleapis_com:user_nightly_late_pushes{")
    error_message = "What is late follows from the ack deadline, and alerts ask for this relay's metrics."
  }
}

run "with_streams" {
  variables {
    streams = { night = {} }
  }

  assert {
    condition     = strcontains(google_monitoring_alert_policy.relay["waiting"].conditions[0].condition_prometheus_query_language[0].query, "subscription_id=~\"inference-relay-push|inference-relay-push-night\"}")
    error_message = "Every push subscription is watched."
  }
}

run "off" {
  variables {
    monitoring = false
  }

  assert {
    condition     = length(google_monitoring_alert_policy.relay) + length(google_logging_metric.relay) + length(google_logging_metric.push_seconds) + length(google_monitoring_dashboard.relay) == 0 && output.dashboard == null
    error_message = "All of it can be left out."
  }
}

run "good_answers_not_logged" {
  command = plan
  variables {
    environment = { LOG_LEVEL = "WARNING" }
  }
  expect_failures = [check.logged]
}

run "on_knative" {
  variables {
    platform  = "knative"
    image     = null
    model_url = null
    knative   = { endpoint = "https://relay.example.com", workload_identity = { namespace = "models", service_account = "relay" } }
  }

  assert {
    condition     = length(google_monitoring_alert_policy.relay) == 11 && google_logging_metric.relay["tokens_refused"].filter == "resource.type=\"k8s_container\" AND resource.labels.container_name=\"relay\" AND resource.labels.namespace_name=\"models\" AND jsonPayload.reason:* AND jsonPayload.status:* AND jsonPayload.reason=(\"unauthenticated\" OR \"forbidden\")"
    error_message = "On Knative the service looks at tokens itself."
  }

  assert {
    condition     = alltrue([for one in google_monitoring_alert_policy.relay : !strcontains(one.conditions[0].condition_prometheus_query_language[0].query, "cloud_run")]) && length(jsondecode(google_monitoring_dashboard.relay[0].dashboard_json).mosaicLayout.tiles) == 14 && !strcontains(google_monitoring_dashboard.relay[0].dashboard_json, "cloud_run")
    error_message = "Nothing asks for Cloud Run."
  }
}

run "on_knative_somewhere" {
  variables {
    platform  = "knative"
    image     = null
    model_url = null
    knative   = { endpoint = "https://relay.example.com" }
  }

  assert {
    condition     = google_logging_metric.relay["ledger_troubles"].filter == "resource.type=\"k8s_container\" AND resource.labels.container_name=\"relay\" AND jsonPayload.troubles:*"
    error_message = "Without a namespace the container's name has to do."
  }
}

run "with_sidecar" {
  variables {
    prometheus_sidecar = { image = "registry.example/sidecar@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" }
  }

  assert {
    condition     = google_cloud_run_v2_service.relay[0].template[0].containers[1].name == "prometheus" && google_cloud_run_v2_service.relay[0].template[0].containers[1].image == var.prometheus_sidecar.image && google_cloud_run_v2_service.relay[0].template[0].containers[1].depends_on == tolist(["relay"]) && length(google_cloud_run_v2_service.relay[0].template[0].containers[1].ports) == 0
    error_message = "It runs beside the service, after it, and takes no pushes."
  }

  assert {
    condition     = alltrue([for one in google_cloud_run_v2_service.relay[0].template[0].containers : one.resources[0].cpu_idle == false])
    error_message = "Instances are billed for all of their time, or it could not work between pushes."
  }

  assert {
    condition     = [for one in google_cloud_run_v2_service.relay[0].template[0].containers[0].env : one.value if one.name == "METRICS_PORT"] == ["9464"] && alltrue([for one in google_cloud_run_v2_job.check[0].template[0].template[0].containers[0].env : one.name != "METRICS_PORT"])
    error_message = "The service serves its metrics where the sidecar looks; the check needs none."
  }

  assert {
    condition = yamldecode(google_secret_manager_secret_version.sidecar[0].secret_data) == {
      apiVersion = "monitoring.googleapis.com/v1beta"
      kind       = "RunMonitoring"
      metadata   = { name = "inference-relay" }
      spec       = { endpoints = [{ port = 9464, path = "/metrics", interval = "60s" }], targetLabels = { metadata = ["service", "revision"] } }
    }
    error_message = "It is told what to take."
  }

  assert {
    condition     = google_secret_manager_secret_version.sidecar[0].deletion_policy == "ABANDON"
    error_message = "A revision that is gone back to finds its configuration."
  }

  assert {
    condition     = google_cloud_run_v2_service.relay[0].template[0].containers[1].volume_mounts[0].mount_path == "/etc/rungmp" && google_cloud_run_v2_service.relay[0].template[0].volumes[0].name == google_cloud_run_v2_service.relay[0].template[0].containers[1].volume_mounts[0].name && google_cloud_run_v2_service.relay[0].template[0].volumes[0].secret[0].secret == "inference-relay-run-monitoring" && google_cloud_run_v2_service.relay[0].template[0].volumes[0].secret[0].items[0].path == "config.yaml" && google_cloud_run_v2_service.relay[0].template[0].volumes[0].secret[0].items[0].version == "3"
    error_message = "It finds its configuration where it looks."
  }

  assert {
    condition     = google_project_iam_member.sidecar_writes[0].role == "roles/monitoring.metricWriter" && google_project_iam_member.sidecar_writes[0].member == "serviceAccount:run@example.com" && google_project_iam_member.sidecar_writes[0].project == "my-project" && google_secret_manager_secret_iam_member.sidecar_reads[0].role == "roles/secretmanager.secretAccessor" && google_secret_manager_secret_iam_member.sidecar_reads[0].member == "serviceAccount:run@example.com" && google_secret_manager_secret_iam_member.sidecar_reads[0].secret_id == "inference-relay-run-monitoring"
    error_message = "It may write metrics and read its configuration."
  }

  assert {
    condition     = length(jsondecode(google_monitoring_dashboard.relay[0].dashboard_json).mosaicLayout.tiles) == 20 && strcontains(google_monitoring_dashboard.relay[0].dashboard_json, "inference_relay_slots_in_use{cluster=\\\"__run__\\\",namespace=\\\"inference-relay\\\"}")
    error_message = "The dashboard shows what it takes."
  }

  assert {
    condition     = strcontains(google_monitoring_alert_policy.relay["slots-unused"].conditions[0].condition_prometheus_query_language[0].query, "inference_relay_slots_in_use{") && alltrue([for name, one in google_monitoring_alert_policy.relay : name == "slots-unused" || !strcontains(one.conditions[0].condition_prometheus_query_language[0].query, "inference_relay_slots")])
    error_message = "What the service knows of its slots is asked too."
  }
}

run "with_sidecar_as_asked" {
  variables {
    secret_regions     = ["europe-west4"]
    kms_key            = "projects/p/locations/l/keyRings/r/cryptoKeys/k"
    labels             = { team = "search" }
    prometheus_sidecar = { image = "registry.example/sidecar@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", port = 9000, interval_seconds = 30, cpu = 0.5, memory = "256Mi" }
  }

  assert {
    condition     = google_cloud_run_v2_service.relay[0].template[0].containers[1].resources[0].limits == tomap({ cpu = "0.5", memory = "256Mi" }) && yamldecode(google_secret_manager_secret_version.sidecar[0].secret_data).spec.endpoints == [{ port = 9000, path = "/metrics", interval = "30s" }] && [for one in google_cloud_run_v2_service.relay[0].template[0].containers[0].env : one.value if one.name == "METRICS_PORT"] == ["9000"]
    error_message = "It takes what it is given."
  }

  assert {
    condition     = google_secret_manager_secret.sidecar[0].replication[0].user_managed[0].replicas[0].location == "europe-west4" && google_secret_manager_secret.sidecar[0].replication[0].user_managed[0].replicas[0].customer_managed_encryption[0].kms_key_name == var.kms_key && google_secret_manager_secret.sidecar[0].labels == tomap({ team = "search" })
    error_message = "Its configuration lies where the others' secrets lie."
  }
}
