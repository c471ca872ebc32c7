# The variables of modules/relay, which has their validations.

# Where, and under which name

variable "project" {
  description = "Id of the Google Cloud project that everything is created in."
  type        = string
}

variable "region" {
  description = "Region of the Cloud Run service and of the ledger: the model service's region, or every call crosses regions."
  type        = string
}

variable "name" {
  description = "What every resource's name starts with. Two relays in one project need two names. A new name makes everything anew, and what waits in the old topics is lost."
  type        = string
  default     = "inference-relay"
  nullable    = false
}

variable "labels" {
  description = "Labels for every resource that can carry them, for the bill."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "deletion_protection" {
  description = "Whether Terraform refuses to destroy what holds messages or serves them. A subscription that is made anew, after a new filter for instance, has lost its backlog. Set it to false and apply before you take something away."
  type        = bool
  default     = true
  nullable    = false
}

variable "platform" {
  description = "Where the service runs. cloud-run: this module runs it. knative: it runs in a cluster, and this module makes the Pub/Sub side and its accounts."
  type        = string
  default     = "cloud-run"
  nullable    = false
}

# How much at once

variable "model_slots" {
  description = "How many requests the model service takes at once, over all of its replicas (vLLM: max-num-seqs x replicas; Ollama: OLLAMA_NUM_PARALLEL x replicas). Nothing on a push subscription limits how much is pushed: max_instances x concurrency does."
  type        = number
}

variable "max_instances" {
  description = "Most instances of the service at once."
  type        = number
  default     = 1
  nullable    = false
}

variable "min_instances" {
  description = "Instances that are kept while nothing is to do: 0 costs nothing and the first message waits for a start of some seconds."
  type        = number
  default     = 0
  nullable    = false
}

variable "concurrency" {
  description = "Messages that one instance works on at once (CONCURRENCY, and the platform's own limit for an instance)."
  type        = number
  default     = 80
  nullable    = false
}

# The service on Cloud Run

variable "image" {
  description = "The service's image by digest (HOST/PROJECT/REPOSITORY/inference-relay@sha256:...), so that what was tested is what runs. Required on cloud-run, and only for it."
  type        = string
  default     = null
}

variable "cpu" {
  description = "CPUs of an instance: 1, 2, 4, 6 or 8. A message mostly waits for the model: begin with one."
  type        = number
  default     = 1
  nullable    = false
}

variable "memory" {
  description = "Memory of an instance. An idle one takes about 110 MB; each message that is worked on adds several copies of its request and response, which may be 10 MB each."
  type        = string
  default     = "1Gi"
  nullable    = false
}

variable "network" {
  description = "The VPC network that the model service is reached through (Direct VPC egress): names or ids of the network and of a subnetwork in the region, and network tags for its firewall rules. Left out where the model service has a public https:// URL."
  type = object({
    network    = string
    subnetwork = string
    tags       = optional(list(string), [])
  })
  default = null
}

variable "model_url" {
  description = "Base URL of the model service, without the /v1 (MODEL_URL), such as http://10.0.0.5/openai. Required on cloud-run."
  type        = string
  default     = null
}

variable "model_api_key_secret" {
  description = "Secret Manager secret with the model service's bearer token (MODEL_API_KEY), by name, or projects/PROJECT/secrets/NAME; and its version. With the version latest, a new token counts for instances that start after it."
  type = object({
    secret  = string
    version = optional(string, "latest")
  })
  default = null
}

variable "ledger" {
  description = "Makes a Memorystore for Redis that all instances share (LEDGER_URL), so that no two of them call the model for one message. Its password is in the Terraform state. connect_mode PRIVATE_SERVICE_ACCESS is for a shared VPC."
  type = object({
    tier           = optional(string, "BASIC")
    memory_size_gb = optional(number, 1)
    redis_version  = optional(string, "REDIS_7_2")
    connect_mode   = optional(string, "DIRECT_PEERING")
  })
  default = null
}

variable "ledger_url_secret" {
  description = "Secret Manager secret with the redis:// or rediss:// URL of a Redis of your own (LEDGER_URL), and its version."
  type = object({
    secret  = string
    version = optional(string, "latest")
  })
  default = null
}

variable "environment" {
  description = "Further settings of the service (docs/settings.md), such as { ALLOWED_PATHS = \"/v1/embeddings\", LOG_LEVEL = \"WARNING\" }."
  type        = map(string)
  default     = {}
  nullable    = false
}

# The service on Knative

variable "knative" {
  description = "Where Pub/Sub reaches the service: its public https:// URL, the audience that its PUSH_AUDIENCE names (the URL, where left out), and the Kubernetes service account that it runs as, to use the relay's Google account by Workload Identity."
  type = object({
    endpoint = string
    audience = optional(string)
    workload_identity = optional(object({
      namespace       = string
      service_account = string
      pool            = optional(string)
    }))
  })
  default = null
}

# Time and attempts

variable "ack_deadline_seconds" {
  description = "How long one push may take, 10 to 600 (ACK_DEADLINE_SECONDS, and the push subscription's ack deadline)."
  type        = number
  default     = 600
  nullable    = false
}

variable "model_timeout_seconds" {
  description = "The longest that one call of the model may take (MODEL_TIMEOUT_SECONDS)."
  type        = number
  default     = 540
  nullable    = false
}

variable "publish_timeout_seconds" {
  description = "The longest that publishing one response may take (PUBLISH_TIMEOUT_SECONDS)."
  type        = number
  default     = 30
  nullable    = false
}

variable "max_attempts" {
  description = "Deliveries after which a failing request is answered with its error (MAX_ATTEMPTS)."
  type        = number
  default     = 10
  nullable    = false
}

variable "max_delivery_attempts" {
  description = "Deliveries after which a message goes to the dead letters, 5 to 100. Refusals for want of room count too: keep it at 100, or a busy hour dead-letters good messages."
  type        = number
  default     = 100
  nullable    = false
}

variable "max_age_seconds" {
  description = "Age after which a failing request is answered with its error (MAX_AGE_SECONDS)."
  type        = number
  default     = 86400
  nullable    = false
}

variable "message_retention_seconds" {
  description = "How long requests, and responses that nobody has read, are kept: 10 minutes to 31 days, by default 7 days. What waits for longer than a day may cost storage."
  type        = number
  default     = 604800
  nullable    = false
}

# Messages and who handles them

variable "message_ordering" {
  description = "Whether requests with the same ordering key are answered one after the other. A failing one then holds up those behind it. To change it makes the subscriptions anew, which loses their backlog."
  type        = bool
  default     = false
  nullable    = false
}

variable "filter" {
  description = "Which messages of the request topic are requests, such as attributes.kind = \"inference\"; the others are dropped. Empty takes all. To change it makes the subscription anew, which loses its backlog."
  type        = string
  default     = ""
  nullable    = false
}

variable "requesters" {
  description = "Who may publish requests, such as serviceAccount:batch@my-project.iam.gserviceaccount.com or group:team@example.com."
  type        = set(string)
  default     = []
  nullable    = false
}

variable "response_subscriptions" {
  description = "A subscription for each reader of responses: which responses (a filter on the request's attributes, such as attributes.batch_id = \"42\"; left out, all) and who may read. Readers of one subscription share its responses between them: give each program its own."
  type = map(object({
    filter  = optional(string, "")
    members = optional(set(string), [])
  }))
  default  = { answers = {} }
  nullable = false
}

variable "dead_letter_readers" {
  description = "Who may read dead letters, to see what went wrong and publish them again."
  type        = set(string)
  default     = []
  nullable    = false
}
