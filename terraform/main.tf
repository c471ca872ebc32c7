provider "google" {
  project = var.project
  region  = var.region
}

module "relay" {
  source = "./modules/relay"

  project                   = var.project
  region                    = var.region
  name                      = var.name
  labels                    = var.labels
  deletion_protection       = var.deletion_protection
  platform                  = var.platform
  model_slots               = var.model_slots
  max_instances             = var.max_instances
  min_instances             = var.min_instances
  concurrency               = var.concurrency
  image                     = var.image
  cpu                       = var.cpu
  memory                    = var.memory
  network                   = var.network
  model_url                 = var.model_url
  model_api_key_secret      = var.model_api_key_secret
  ledger                    = var.ledger
  ledger_url_secret         = var.ledger_url_secret
  environment               = var.environment
  knative                   = var.knative
  ack_deadline_seconds      = var.ack_deadline_seconds
  model_timeout_seconds     = var.model_timeout_seconds
  publish_timeout_seconds   = var.publish_timeout_seconds
  max_attempts              = var.max_attempts
  max_delivery_attempts     = var.max_delivery_attempts
  max_age_seconds           = var.max_age_seconds
  message_retention_seconds = var.message_retention_seconds
  message_ordering          = var.message_ordering
  filter                    = var.filter
  requesters                = var.requesters
  response_subscriptions    = var.response_subscriptions
  dead_letter_readers       = var.dead_letter_readers
}
