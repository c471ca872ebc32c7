output "request_topic" {
  description = "Where requests are published."
  value       = local.requests.name
}

output "response_topic" {
  description = "Where responses are published."
  value       = local.responses.name
}

output "response_subscriptions" {
  description = "Where responses are read: the subscription for each name in response_subscriptions."
  value       = { for name, one in google_pubsub_subscription.responses : name => one.name }
}

output "response_bucket" {
  description = "The bucket of responses that no message can hold, if there is one."
  value       = local.response_bucket
}

output "push_subscription" {
  description = "The subscription that pushes requests."
  value       = google_pubsub_subscription.push.name
}

output "stream_subscriptions" {
  description = "The subscription that pushes each stream's requests, for each name in streams."
  value       = { for name, one in local.streams : name => one.subscription }
}

output "stream_topics" {
  description = "Where each stream's requests are published, by full name."
  value       = { for name, one in local.streams : name => one.request_topic }
}

output "routes_file" {
  description = "The file of routes and streams (ROUTES_FILE), where there is one: for a ConfigMap with platform = \"knative\", and to look at. It has no keys."
  value       = local.has_routes_file ? local.routes_file : null
}

output "dead_letter_subscription" {
  description = "Where dead letters are read."
  value       = google_pubsub_subscription.dead_letters.name
}

output "endpoint" {
  description = "Where requests are pushed to."
  value       = local.endpoint
}

output "push_service_account" {
  description = "Email of the account that pushes come from."
  value       = local.push_account
}

output "relay_service_account" {
  description = "Email of the account that the service runs as."
  value       = local.relay_account
}

output "slots" {
  description = "How many requests the model services get at once at most, and how many they take; and how many pushes are held while they wait for it."
  value       = { used = local.instances * local.slots, of = local.all_slots, instances = local.instances, an_instance = local.slots, held = local.instances * (local.on_cloud_run ? local.concurrency : local.slots + local.line) }
}

output "knative_settings" {
  description = "With platform = \"knative\": the service's settings that have to agree with what was made here."
  value       = local.on_cloud_run ? null : local.knative_settings
}

output "publish" {
  description = "Command that publishes a first request. Put your model's name in it."
  value       = "gcloud pubsub topics publish ${local.requests.name} --project=${local.requests.project} --message='{\"metadata\": {\"id\": \"1\"}, \"body\": {\"model\": \"MODEL\", \"prompt\": \"The sea is\", \"max_tokens\": 16}}'"
}

output "read" {
  description = "Command that reads up to ten responses and takes them out of their subscription. One may be that of the check, which has relay_check in its body."
  value       = length(google_pubsub_subscription.responses) == 0 ? null : "gcloud pubsub subscriptions pull ${values(google_pubsub_subscription.responses)[0].name} --project=${var.project} --limit=10 --auto-ack --format='value(message.data.decode(base64))'"
}

output "read_dead_letters" {
  description = "Command that shows dead letters; it hides them for ten minutes from the next look, and from a replay."
  value       = "gcloud pubsub subscriptions pull ${google_pubsub_subscription.dead_letters.name} --project=${var.project} --limit=10 --format=json"
}

output "check" {
  description = "Command that tries the settings, the model, the topic and the ledger from where the service runs, with platform = \"cloud-run\" and a model of its own."
  value       = one([for one in google_cloud_run_v2_job.check : "gcloud run jobs execute ${one.name} --project=${var.project} --region=${var.region} --wait"])
}

output "logs" {
  description = "Command that shows what the service logged, with platform = \"cloud-run\"."
  value       = local.on_cloud_run ? "gcloud run services logs read ${var.name} --project=${var.project} --region=${var.region} --limit=20" : null
}

output "dashboard" {
  description = "Address of the dashboard, with monitoring."
  value       = one([for one in google_monitoring_dashboard.relay : "https://console.cloud.google.com/monitoring/dashboards/builder/${basename(one.id)}?project=${var.project}"])
}
