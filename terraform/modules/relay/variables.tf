# Where, and under which name

variable "project" {
  description = "Id of the Google Cloud project that everything is created in."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "project is a project's id, such as my-project-123: neither its number nor its display name."
  }
}

variable "region" {
  description = "Region of the Cloud Run service and of the ledger: the model service's region, or every call crosses regions."
  type        = string

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "region is a region such as europe-west4, not a zone."
  }
}

variable "name" {
  description = "What every resource's name starts with. Two relays in one project need two names. A new name makes everything anew, and what waits in the old topics is lost."
  type        = string
  default     = "inference-relay"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]([a-z0-9-]{0,20}[a-z0-9])?$", var.name)) && !startswith(var.name, "goog")
    error_message = "name is 1 to 22 lower-case letters, digits and dashes; it starts with a letter, but not with goog, and ends in a letter or digit."
  }
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

  validation {
    condition     = contains(["cloud-run", "knative"], var.platform)
    error_message = "platform is cloud-run or knative."
  }
}

# How much at once

variable "model_slots" {
  description = "How many requests the model service takes at once, over all of its replicas (vLLM: max-num-seqs x replicas; Ollama: OLLAMA_NUM_PARALLEL x replicas). Nothing on a push subscription limits how much is pushed: max_instances x concurrency does."
  type        = number

  validation {
    condition     = floor(var.model_slots) == var.model_slots
    error_message = "model_slots is a whole number."
  }

  validation {
    # A tenth more keeps a slot from waiting for an answer to be published: docs/performance.md.
    condition     = var.max_instances * var.concurrency <= ceil(1.1 * var.model_slots)
    error_message = "max_instances x concurrency = ${var.max_instances * var.concurrency} is more than model_slots = ${var.model_slots} and a tenth: the model service would refuse or queue what is beyond. Lower the first two, or give the model more slots."
  }
}

variable "max_instances" {
  description = "Most instances of the service at once."
  type        = number
  default     = 1
  nullable    = false

  validation {
    condition     = var.max_instances >= 1 && floor(var.max_instances) == var.max_instances
    error_message = "max_instances is a whole number, 1 or more."
  }
}

variable "min_instances" {
  description = "Instances that are kept while nothing is to do: 0 costs nothing and the first message waits for a start of some seconds."
  type        = number
  default     = 0
  nullable    = false

  validation {
    condition     = var.min_instances >= 0 && floor(var.min_instances) == var.min_instances && var.min_instances <= var.max_instances
    error_message = "min_instances is a whole number from 0 to max_instances."
  }
}

variable "concurrency" {
  description = "Messages that one instance works on at once (CONCURRENCY, and the platform's own limit for an instance)."
  type        = number
  default     = 80
  nullable    = false

  validation {
    condition     = var.concurrency >= 1 && var.concurrency <= 1000 && floor(var.concurrency) == var.concurrency
    error_message = "concurrency is a whole number from 1 to 1000."
  }
}

# The service on Cloud Run

variable "image" {
  description = "The service's image by digest (HOST/PROJECT/REPOSITORY/inference-relay@sha256:...), so that what was tested is what runs. Required on cloud-run, and only for it."
  type        = string
  default     = null

  validation {
    condition     = var.platform == "cloud-run" ? can(regex("^[a-z0-9][a-z0-9./:_-]*@sha256:[0-9a-f]{64}$", var.image)) : var.image == null
    error_message = "image names a digest (...@sha256: and 64 hexadecimal digits, not a tag) with platform = \"cloud-run\", and is left out with \"knative\"."
  }
}

variable "cpu" {
  description = "CPUs of an instance: 1, 2, 4, 6 or 8. A message mostly waits for the model: begin with one."
  type        = number
  default     = 1
  nullable    = false

  validation {
    condition     = contains([1, 2, 4, 6, 8], var.cpu)
    error_message = "cpu is 1, 2, 4, 6 or 8: with less than one, Cloud Run allows one request at a time."
  }
}

variable "memory" {
  description = "Memory of an instance. An idle one takes about 110 MB; each message that is worked on adds several copies of its request and response, which may be 10 MB each."
  type        = string
  default     = "1Gi"
  nullable    = false

  validation {
    condition     = can(regex("^(51[2-9]|5[2-9][0-9]|[6-9][0-9]{2}|[1-9][0-9]{3,4})Mi$|^([1-9]|[12][0-9]|3[0-2])Gi$", var.memory))
    error_message = "memory is 512Mi to 32Gi."
  }

  validation {
    condition     = try(tonumber(trimsuffix(var.memory, "Gi")), tonumber(trimsuffix(var.memory, "Mi")) / 1024, 0) <= min(4 * var.cpu, 32)
    error_message = "memory is at most 4Gi for each CPU: raise cpu too."
  }
}

variable "network" {
  description = "The VPC network that the model service is reached through (Direct VPC egress): names or ids of the network and of a subnetwork in the region, and network tags for its firewall rules. Left out where the model service has a public https:// URL."
  type = object({
    network    = string
    subnetwork = string
    tags       = optional(list(string), [])
  })
  default = null

  validation {
    condition     = var.platform == "cloud-run" || var.network == null
    error_message = "network is for platform = \"cloud-run\": leave it out."
  }
}

variable "model_url" {
  description = "Base URL of the model service, without the /v1 (MODEL_URL), such as http://10.0.0.5/openai. Required on cloud-run."
  type        = string
  default     = null

  validation {
    condition     = var.model_url == null || can(regex("^https?://([A-Za-z0-9.-]+|\\[[0-9A-Fa-f:]+\\])(:[0-9]{1,5})?(/[!-~]*)?$", var.model_url)) && !can(regex("[@?#]", var.model_url))
    error_message = "model_url is an http:// or https:// URL of a host and perhaps a port and path, with neither user name nor query nor fragment."
  }

  validation {
    condition     = !can(regex("/v1/*$", var.model_url))
    error_message = "model_url ends in /v1, which the request's path brings along: leave the /v1 out."
  }

  validation {
    condition     = var.platform != "cloud-run" || var.model_url != null
    error_message = "model_url is required with platform = \"cloud-run\"."
  }

  validation {
    condition     = var.platform != "cloud-run" || var.network != null || !can(regex("^http://", var.model_url))
    error_message = "model_url is http:// and no network is given: prompts would cross the internet in the clear. Give the network, or an https:// URL."
  }
}

variable "model_api_key_secret" {
  description = "Secret Manager secret with the model service's bearer token (MODEL_API_KEY), by name, or projects/PROJECT/secrets/NAME; and its version. With the version latest, a new token counts for instances that start after it."
  type = object({
    secret  = string
    version = optional(string, "latest")
  })
  default = null

  validation {
    condition     = var.model_api_key_secret == null || can(regex("^(projects/[^/]+/secrets/)?[A-Za-z0-9_-]{1,255}$", var.model_api_key_secret.secret)) && can(regex("^(latest|[1-9][0-9]*)$", var.model_api_key_secret.version))
    error_message = "model_api_key_secret has a secret, NAME or projects/PROJECT/secrets/NAME, and a version, latest or a number. It is never the token itself."
  }

  validation {
    condition     = var.platform == "cloud-run" || var.model_api_key_secret == null
    error_message = "model_api_key_secret is for platform = \"cloud-run\": in a cluster it is a Kubernetes secret."
  }
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

  validation {
    condition     = var.ledger == null || contains(["BASIC", "STANDARD_HA"], try(var.ledger.tier, "")) && contains(["DIRECT_PEERING", "PRIVATE_SERVICE_ACCESS"], try(var.ledger.connect_mode, ""))
    error_message = "ledger has the tier BASIC or STANDARD_HA, and the connect_mode DIRECT_PEERING or PRIVATE_SERVICE_ACCESS."
  }

  validation {
    condition     = var.ledger == null || try(var.ledger.memory_size_gb >= 1 && var.ledger.memory_size_gb <= 300 && floor(var.ledger.memory_size_gb) == var.ledger.memory_size_gb, false)
    error_message = "ledger has a memory_size_gb of 1 to 300, whole."
  }

  validation {
    condition     = var.ledger == null || var.network != null
    error_message = "ledger is reached through the VPC network: give network too. It is for platform = \"cloud-run\"."
  }

  validation {
    condition     = var.ledger == null || var.ledger_url_secret == null
    error_message = "ledger and ledger_url_secret are two ways to the same thing: give one."
  }
}

variable "ledger_url_secret" {
  description = "Secret Manager secret with the redis:// or rediss:// URL of a Redis of your own (LEDGER_URL), and its version."
  type = object({
    secret  = string
    version = optional(string, "latest")
  })
  default = null

  validation {
    condition     = var.ledger_url_secret == null || can(regex("^(projects/[^/]+/secrets/)?[A-Za-z0-9_-]{1,255}$", var.ledger_url_secret.secret)) && can(regex("^(latest|[1-9][0-9]*)$", var.ledger_url_secret.version))
    error_message = "ledger_url_secret has a secret, NAME or projects/PROJECT/secrets/NAME, and a version, latest or a number. It is never the URL itself."
  }

  validation {
    condition     = var.platform == "cloud-run" || var.ledger_url_secret == null
    error_message = "ledger_url_secret is for platform = \"cloud-run\": in a cluster it is a Kubernetes secret."
  }
}

variable "environment" {
  description = "Further settings of the service (docs/settings.md), such as { ALLOWED_PATHS = \"/v1/embeddings\", LOG_LEVEL = \"WARNING\" }."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for name in keys(var.environment) : can(regex("^[A-Z][A-Z0-9_]*$", name))])
    error_message = "environment has names in capitals, such as LOG_LEVEL."
  }

  validation {
    condition = length(setintersection(keys(var.environment), [
      "ACK_DEADLINE_SECONDS", "CONCURRENCY", "GRACE_SECONDS", "LEDGER_URL", "MAX_AGE_SECONDS", "MAX_ATTEMPTS",
      "MODEL_API_KEY", "MODEL_TIMEOUT_SECONDS", "MODEL_URL", "PORT", "PUBLISH_TIMEOUT_SECONDS", "PUBSUB_EMULATOR_HOST",
      "PUSH_AUDIENCE", "PUSH_AUTH", "PUSH_SERVICE_ACCOUNT", "RESPONSE_TOPIC",
    ])) == 0
    error_message = "environment has a setting that this module sets, that is a secret, or that is for tests: use the variable of its name in small letters, or model_api_key_secret, or ledger_url_secret."
  }
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

  validation {
    condition     = var.platform == "knative" ? var.knative != null : var.knative == null
    error_message = "knative goes with platform = \"knative\", and with that alone."
  }

  validation {
    condition     = var.knative == null || can(regex("^https://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[!-~]*)?$", var.knative.endpoint)) && !can(regex("[@#]", var.knative.endpoint))
    error_message = "knative.endpoint is an https:// URL: Pub/Sub pushes to nothing else, and wants a certificate of a public authority."
  }

  validation {
    condition     = try(var.knative.audience, null) == null || can(regex("^[!-~]+$", var.knative.audience))
    error_message = "knative.audience is left out, or a text without blanks."
  }

  validation {
    condition     = try(var.knative.workload_identity, null) == null || can(regex("^[a-z0-9-]{1,63}/[a-z0-9.-]{1,253}$", "${var.knative.workload_identity.namespace}/${var.knative.workload_identity.service_account}"))
    error_message = "knative.workload_identity has the namespace and the name of a Kubernetes service account."
  }
}

# Time and attempts

variable "ack_deadline_seconds" {
  description = "How long one push may take, 10 to 600 (ACK_DEADLINE_SECONDS, and the push subscription's ack deadline)."
  type        = number
  default     = 600
  nullable    = false

  validation {
    condition     = var.ack_deadline_seconds >= 10 && var.ack_deadline_seconds <= 600 && floor(var.ack_deadline_seconds) == var.ack_deadline_seconds
    error_message = "ack_deadline_seconds is a whole number from 10 to 600."
  }
}

variable "model_timeout_seconds" {
  description = "The longest that one call of the model may take (MODEL_TIMEOUT_SECONDS)."
  type        = number
  default     = 540
  nullable    = false

  validation {
    condition     = var.model_timeout_seconds > 0
    error_message = "model_timeout_seconds is more than 0."
  }

  validation {
    condition     = var.model_timeout_seconds + var.publish_timeout_seconds + 10 <= var.ack_deadline_seconds
    error_message = "model_timeout_seconds + publish_timeout_seconds + a margin of 10 come to ${var.model_timeout_seconds + var.publish_timeout_seconds + 10}, more than ack_deadline_seconds = ${var.ack_deadline_seconds}: Pub/Sub would deliver again while the model still works. Shorten the first two."
  }
}

variable "publish_timeout_seconds" {
  description = "The longest that publishing one response may take (PUBLISH_TIMEOUT_SECONDS)."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = var.publish_timeout_seconds > 0
    error_message = "publish_timeout_seconds is more than 0."
  }
}

variable "max_attempts" {
  description = "Deliveries after which a failing request is answered with its error (MAX_ATTEMPTS)."
  type        = number
  default     = 10
  nullable    = false

  validation {
    condition     = var.max_attempts >= 1 && floor(var.max_attempts) == var.max_attempts
    error_message = "max_attempts is a whole number, 1 or more."
  }

  validation {
    condition     = var.max_attempts < var.max_delivery_attempts
    error_message = "max_attempts = ${var.max_attempts} is not below max_delivery_attempts = ${var.max_delivery_attempts}: failing requests would go to the dead letters, unanswered."
  }
}

variable "max_delivery_attempts" {
  description = "Deliveries after which a message goes to the dead letters, 5 to 100. Refusals for want of room count too: keep it at 100, or a busy hour dead-letters good messages."
  type        = number
  default     = 100
  nullable    = false

  validation {
    condition     = var.max_delivery_attempts >= 5 && var.max_delivery_attempts <= 100 && floor(var.max_delivery_attempts) == var.max_delivery_attempts
    error_message = "max_delivery_attempts is a whole number from 5 to 100."
  }
}

variable "max_age_seconds" {
  description = "Age after which a failing request is answered with its error (MAX_AGE_SECONDS)."
  type        = number
  default     = 86400
  nullable    = false

  validation {
    condition     = var.max_age_seconds > 0
    error_message = "max_age_seconds is more than 0."
  }

  validation {
    condition     = var.max_age_seconds < var.message_retention_seconds
    error_message = "max_age_seconds = ${var.max_age_seconds} is not below message_retention_seconds = ${var.message_retention_seconds}: requests would expire unanswered."
  }
}

variable "message_retention_seconds" {
  description = "How long requests, and responses that nobody has read, are kept: 10 minutes to 31 days, by default 7 days. What waits for longer than a day may cost storage."
  type        = number
  default     = 604800
  nullable    = false

  validation {
    condition     = var.message_retention_seconds >= 600 && var.message_retention_seconds <= 2678400 && floor(var.message_retention_seconds) == var.message_retention_seconds
    error_message = "message_retention_seconds is a whole number from 600 (10 minutes) to 2678400 (31 days)."
  }
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

  validation {
    condition     = length(var.filter) <= 256 && can(regex("^([ -~]*)$", var.filter))
    error_message = "filter is at most 256 characters, in ASCII."
  }
}

variable "requesters" {
  description = "Who may publish requests, such as serviceAccount:batch@my-project.iam.gserviceaccount.com or group:team@example.com."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for member in var.requesters : can(regex("^(user|group|serviceAccount|domain|principal|principalSet):[^\\s]+$", member))])
    error_message = "requesters are user:, group:, serviceAccount:, domain:, principal: or principalSet: and who it is. Everybody (allUsers, allAuthenticatedUsers) could spend your model's time."
  }
}

variable "response_subscriptions" {
  description = "A subscription for each reader of responses: which responses (a filter on the request's attributes, such as attributes.batch_id = \"42\"; left out, all) and who may read. Readers of one subscription share its responses between them: give each program its own."
  type = map(object({
    filter  = optional(string, "")
    members = optional(set(string), [])
  }))
  default  = { answers = {} }
  nullable = false

  validation {
    condition     = length(var.response_subscriptions) > 0
    error_message = "response_subscriptions has none: what is published to a topic without a subscription is lost."
  }

  validation {
    condition     = alltrue([for name in keys(var.response_subscriptions) : can(regex("^[a-z]([a-z0-9-]{0,60}[a-z0-9])?$", name))])
    error_message = "response_subscriptions has names of lower-case letters, digits and dashes that start with a letter."
  }

  validation {
    condition     = !contains(keys(var.response_subscriptions), "push") && !contains(keys(var.response_subscriptions), "dead-letters")
    error_message = "response_subscriptions has a name that the relay's own subscriptions have: push or dead-letters."
  }

  validation {
    condition     = alltrue([for one in values(var.response_subscriptions) : length(one.filter) <= 256 && can(regex("^([ -~]*)$", one.filter))])
    error_message = "response_subscriptions has filters of at most 256 characters, in ASCII."
  }

  validation {
    condition     = alltrue(flatten([for one in values(var.response_subscriptions) : [for member in one.members : can(regex("^(user|group|serviceAccount|domain|principal|principalSet):[^\\s]+$", member))]]))
    error_message = "response_subscriptions has members that are user:, group:, serviceAccount:, domain:, principal: or principalSet: and who it is, never everybody."
  }
}

variable "dead_letter_readers" {
  description = "Who may read dead letters, to see what went wrong and publish them again."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for member in var.dead_letter_readers : can(regex("^(user|group|serviceAccount|domain|principal|principalSet):[^\\s]+$", member))])
    error_message = "dead_letter_readers are user:, group:, serviceAccount:, domain:, principal: or principalSet: and who it is, never everybody."
  }
}
