output "request_topic" {
  description = "Where requests are published."
  value       = module.relay.request_topic
}

output "response_topic" {
  description = "Where responses are published."
  value       = module.relay.response_topic
}

output "response_subscriptions" {
  description = "Where responses are read: the subscription for each name in response_subscriptions."
  value       = module.relay.response_subscriptions
}

output "response_bucket" {
  description = "The bucket of responses that no message can hold, if there is one."
  value       = module.relay.response_bucket
}

output "push_subscription" {
  description = "The subscription that pushes requests."
  value       = module.relay.push_subscription
}

output "stream_subscriptions" {
  description = "The subscription that pushes each stream's requests, for each name in streams."
  value       = module.relay.stream_subscriptions
}

output "stream_topics" {
  description = "Where each stream's requests are published, by full name."
  value       = module.relay.stream_topics
}

output "routes_file" {
  description = "The file of routes and streams (ROUTES_FILE), where there is one: for a ConfigMap with platform = \"knative\", and to look at. It has no keys."
  value       = module.relay.routes_file
}

output "dead_letter_subscription" {
  description = "Where dead letters are read."
  value       = module.relay.dead_letter_subscription
}

output "endpoint" {
  description = "Where requests are pushed to."
  value       = module.relay.endpoint
}

output "push_service_account" {
  description = "Email of the account that pushes come from."
  value       = module.relay.push_service_account
}

output "relay_service_account" {
  description = "Email of the account that the service runs as."
  value       = module.relay.relay_service_account
}

output "slots" {
  description = "How many requests the model services get at once at most, and how many they take; and how many pushes are held while they wait for it."
  value       = module.relay.slots
}

output "knative_settings" {
  description = "With platform = \"knative\": the service's settings that have to agree with what was made here."
  value       = module.relay.knative_settings
}

output "publish" {
  description = "Command that publishes a first request. Put your model's name in it."
  value       = module.relay.publish
}

output "read" {
  description = "Command that reads up to ten responses and takes them out of their subscription. One may be that of the check, which has relay_check in its body."
  value       = module.relay.read
}

output "read_dead_letters" {
  description = "Command that shows dead letters; it hides them for ten minutes from the next look, and from a replay."
  value       = module.relay.read_dead_letters
}

output "check" {
  description = "Command that tries the settings, the model, the topic and the ledger from where the service runs, with platform = \"cloud-run\" and a model of its own."
  value       = module.relay.check
}

output "logs" {
  description = "Command that shows what the service logged, with platform = \"cloud-run\"."
  value       = module.relay.logs
}

output "dashboard" {
  description = "Address of the dashboard, with monitoring."
  value       = module.relay.dashboard
}
