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

variable "traffic" {
  description = "Which revisions get how much, such as [{ revision = \"inference-relay-00007-abc\", percent = 90 }, { percent = 10 }] for a canary, or [{ revision = \"inference-relay-00007-abc\", percent = 100 }] to go back and stay there. One without a revision is the latest."
  type = list(object({
    revision = optional(string)
    percent  = number
    tag      = optional(string)
  }))
  default  = [{ percent = 100 }]
  nullable = false

  validation {
    condition     = sum(concat([0], var.traffic[*].percent)) == 100 && alltrue([for one in var.traffic : one.percent >= 0 && floor(one.percent) == one.percent])
    error_message = "traffic has whole percentages that come to 100."
  }

  validation {
    condition     = length([for one in var.traffic : one if one.revision == null]) <= 1 && alltrue([for one in var.traffic : startswith(coalesce(one.revision, "${var.name}-"), "${var.name}-")])
    error_message = "traffic names revisions of this service (gcloud run revisions list), and the latest once at most."
  }
}

variable "check_model" {
  description = "Model that the job NAME-check asks for one token. Left out: it only lists the models."
  type        = string
  default     = null
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
  description = "Memory of an instance. An idle one takes about 110 MB; each call adds several copies of its request and response, which may be 10 MB each. Half of what is above 256 MiB is for requests that wait (MAX_WAITING_MB)."
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

  validation {
    condition     = try(tonumber(trimsuffix(var.memory, "Gi")), tonumber(trimsuffix(var.memory, "Mi")) / 1024, 32) >= (var.cpu >= 6 ? 4 : var.cpu >= 4 ? 2 : 0)
    error_message = "memory is at least 2Gi with 4 CPUs, and 4Gi with 6 or 8."
  }
}

variable "network" {
  description = "The VPC network that the model service is reached through (Direct VPC egress): names or ids of the network and of a subnetwork in the region, network tags for its firewall rules, and what goes through it: PRIVATE_RANGES_ONLY, or ALL_TRAFFIC where an organisation wants that. Left out where the model service has a public https:// URL."
  type = object({
    network    = string
    subnetwork = string
    tags       = optional(list(string), [])
    egress     = optional(string, "PRIVATE_RANGES_ONLY")
  })
  default = null

  validation {
    condition     = contains(["PRIVATE_RANGES_ONLY", "ALL_TRAFFIC"], try(coalesce(var.network.egress), "PRIVATE_RANGES_ONLY"))
    error_message = "network has the egress PRIVATE_RANGES_ONLY, or ALL_TRAFFIC, for which the subnetwork needs Private Google Access."
  }

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
    condition     = contains(var.platform == "cloud-run" ? [1] : [0, 1], length([for given in [var.model_url != null, var.model_container != null, length(var.routes) > 0] : given if given]))
    error_message = "model_url is required with platform = \"cloud-run\", unless the model runs beside the service (model_container) or there are several (routes): give one of the three."
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

variable "model_ca_secret" {
  description = "Secret Manager secret with the PEM file of the authorities that an https model_url is checked with, instead of the public ones (MODEL_CA_FILE), and its version."
  type = object({
    secret  = string
    version = optional(string, "latest")
  })
  default = null

  validation {
    condition     = var.model_ca_secret == null || can(regex("^(projects/[^/]+/secrets/)?[A-Za-z0-9_-]{1,255}$", var.model_ca_secret.secret)) && can(regex("^(latest|[1-9][0-9]*)$", var.model_ca_secret.version))
    error_message = "model_ca_secret has a secret, NAME or projects/PROJECT/secrets/NAME, and a version, latest or a number."
  }

  validation {
    condition     = var.platform == "cloud-run" || var.model_ca_secret == null
    error_message = "model_ca_secret is for platform = \"cloud-run\": in a cluster it is a Kubernetes secret."
  }
}

variable "model_container" {
  description = "Runs the model beside the service, in each of its instances and on a GPU of theirs: its image by digest, port, the path that answers when it is ready, command, args and settings, what it needs, and how long it loads before it is looked at. model_slots is what all instances take, max_instances how many GPUs there are at most, and min_instances how many are paid day and night."
  type = object({
    image        = string
    port         = optional(number, 8000)
    health       = optional(string, "/health")
    command      = optional(list(string))
    args         = optional(list(string), [])
    environment  = optional(map(string), {})
    gpu          = optional(string, "nvidia-l4")
    cpu          = optional(number, 6)
    memory       = optional(string, "24Gi")
    load_seconds = optional(number, 0)
  })
  default = null

  validation {
    condition     = var.model_container == null || can(regex("^[a-z0-9][a-z0-9./:_-]*@sha256:[0-9a-f]{64}$", var.model_container.image))
    error_message = "model_container has an image that names a digest: ...@sha256: and 64 hexadecimal digits, not a tag."
  }

  validation {
    condition     = var.model_container == null || try(var.model_container.port > 0 && var.model_container.port < 65536 && var.model_container.port != 8080 && startswith(var.model_container.health, "/"), false)
    error_message = "model_container has a port other than 8080, which is the service's, and a health path that begins with a slash."
  }

  validation {
    condition     = var.model_container == null || try(var.model_container.load_seconds >= 0 && var.model_container.load_seconds <= 240, false)
    error_message = "model_container has load_seconds of 0 to 240; Cloud Run then waits for 240 s more."
  }

  validation {
    condition     = var.model_container == null || try(var.model_container.cpu + var.cpu <= 8 && can(regex("^[0-9]+Gi$", var.model_container.memory)) && tonumber(trimsuffix(var.model_container.memory, "Gi")) + try(tonumber(trimsuffix(var.memory, "Gi")), tonumber(trimsuffix(var.memory, "Mi")) / 1024) <= 32, false)
    error_message = "model_container has CPUs and a memory in Gi that come with cpu and memory, the service's own, to 8 and 32Gi at most: an instance of Cloud Run has no more."
  }

  validation {
    condition     = var.model_container == null || var.platform == "cloud-run" && var.max_instances != null && var.min_instances != null
    error_message = "model_container is for platform = \"cloud-run\", and wants max_instances and min_instances: each instance that is kept is a GPU that is paid day and night, and each start loads the model, for which pushes wait."
  }
}

variable "ledger" {
  description = "Makes a Memorystore for Redis that all instances share (LEDGER_URL), so that no two of them call the model for one message. It is reached by TLS and a password, which is in the Terraform state. {} is BASIC with 1 GB, Redis 7.2 and no snapshots: room for what an hour of 1,900 messages a second leaves (some 150 bytes each). It needs network. snapshots (ONE_HOUR, SIX_HOURS, TWELVE_HOURS or TWENTY_FOUR_HOURS) keeps what is remembered for a restart. connect_mode PRIVATE_SERVICE_ACCESS is for a shared VPC."
  type = object({
    tier           = optional(string, "BASIC")
    memory_size_gb = optional(number, 1)
    redis_version  = optional(string, "REDIS_7_2")
    connect_mode   = optional(string, "DIRECT_PEERING")
    snapshots      = optional(string)
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
    condition     = contains(["", "ONE_HOUR", "SIX_HOURS", "TWELVE_HOURS", "TWENTY_FOUR_HOURS"], try(coalesce(var.ledger.snapshots), ""))
    error_message = "ledger has snapshots ONE_HOUR, SIX_HOURS, TWELVE_HOURS or TWENTY_FOUR_HOURS apart, or none."
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
  description = "Further settings of the service (docs/settings.md), such as { ALLOWED_PATHS = \"/v1/embeddings\", LOG_LEVEL = \"DEBUG\" }."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for name in keys(var.environment) : can(regex("^[A-Z][A-Z0-9_]*$", name))])
    error_message = "environment has names in capitals, such as LOG_LEVEL."
  }

  validation {
    condition = length(setintersection(keys(var.environment), [
      "ACK_DEADLINE_SECONDS", "ATTRIBUTE_HEADERS", "CONCURRENCY", "CONTROL_MESSAGES", "GRACE_SECONDS", "LEDGER_URL",
      "MARGIN_SECONDS", "MAX_AGE_SECONDS", "MAX_ATTEMPTS", "MAX_WAITING", "MAX_WAITING_MB", "MODEL_API_KEY", "MODEL_AUDIENCE",
      "MODEL_AUTH", "MODEL_CA_FILE", "MODEL_SLOTS", "MODEL_TIMEOUT_SECONDS", "MODEL_URL", "PORT", "PUBLISH_TIMEOUT_SECONDS",
      "PUBSUB_EMULATOR_HOST", "PUSH_AUDIENCE", "PUSH_AUTH", "PUSH_SERVICE_ACCOUNT", "REQUEST_BUCKETS", "RESPONSE_BUCKET",
      "RESPONSE_TOPIC", "RESPONSE_TOPICS", "ROUTES_FILE", "STORAGE_EMULATOR_HOST",
    ])) == 0 && alltrue([for name in keys(var.environment) : !startswith(name, "MODEL_API_KEY_")])
    error_message = "environment has a setting that this module sets, that is a secret, or that is for tests: use the variable of its name in small letters, or model_slots for how much at once, or model_api_key_secret, model_ca_secret or ledger_url_secret."
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
