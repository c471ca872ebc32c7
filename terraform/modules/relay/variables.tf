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

variable "topics" {
  description = "Topics that are there already, as projects/PROJECT/topics/TOPIC: where requests are read, and where responses are published. What is left out is made. Whoever applies has to be able to give rights on them."
  type = object({
    requests  = optional(string)
    responses = optional(string)
  })
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for one in values(var.topics) : one == null || can(regex("^projects/[^/]+/topics/[A-Za-z][A-Za-z0-9._~+%-]{2,254}$", one))])
    error_message = "topics has full names: projects/PROJECT/topics/TOPIC."
  }
}

variable "accounts" {
  description = "Service accounts that are there already, by email: the one that pushes come from, and the one that the service runs as. What is left out is made."
  type = object({
    push  = optional(string)
    relay = optional(string)
  })
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for one in values(var.accounts) : one == null || can(regex("^[a-z0-9-]+@[a-z0-9-]+\\.iam\\.gserviceaccount\\.com$", one))])
    error_message = "accounts has emails of service accounts: NAME@PROJECT.iam.gserviceaccount.com."
  }
}

variable "storage_regions" {
  description = "Regions that messages may be stored in. Left out: region alone. An empty list leaves it to Google and to the organisation's policy."
  type        = set(string)
  default     = null

  validation {
    condition     = var.storage_regions == null || alltrue([for one in coalesce(var.storage_regions, []) : can(regex("^[a-z]+-[a-z]+[0-9]+$", one))])
    error_message = "storage_regions has regions such as europe-west4."
  }
}

variable "secret_regions" {
  description = "Regions that the ledger's secrets are kept in. Empty: wherever Secret Manager keeps them, which an organisation's policy on resource locations forbids."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for one in var.secret_regions : can(regex("^[a-z]+-[a-z]+[0-9]+$", one))])
    error_message = "secret_regions has regions such as europe-west4."
  }
}

variable "kms_key" {
  description = "Cloud KMS key of the region that topics, service, ledger and the ledger's secrets are encrypted with: projects/PROJECT/locations/REGION/keyRings/RING/cryptoKeys/KEY. Their service agents need roles/cloudkms.cryptoKeyEncrypterDecrypter on it first (docs/deploy-cloud-run.md)."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key == null || can(regex("^projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+$", var.kms_key))
    error_message = "kms_key is a key's full name: projects/PROJECT/locations/REGION/keyRings/RING/cryptoKeys/KEY."
  }

  validation {
    condition     = var.kms_key == null || var.ledger == null || length(var.secret_regions) > 0
    error_message = "kms_key with a ledger wants secret_regions, those of the key: a key of one region cannot encrypt a secret that is kept everywhere."
  }
}

variable "notification_channels" {
  description = "Monitoring channels that are told when requests wait for too long, or when there is a dead letter: projects/PROJECT/notificationChannels/ID. None: nobody is told."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for one in var.notification_channels : can(regex("^projects/[^/]+/notificationChannels/[0-9]+$", one))])
    error_message = "notification_channels has full names: projects/PROJECT/notificationChannels/ID."
  }
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
  description = "How many requests the model service takes at once, over all of its replicas (vLLM: max-num-seqs x replicas; Ollama: OLLAMA_NUM_PARALLEL x replicas). All else follows: the number of instances, and each one's slots (MODEL_SLOTS) and line (MAX_WAITING)."
  type        = number

  validation {
    condition     = var.model_slots >= 1 && floor(var.model_slots) == var.model_slots
    error_message = "model_slots is a whole number, 1 or more."
  }
}

variable "max_instances" {
  description = "Instances of the service, which share model_slots between them. Left out: on Cloud Run as many as hold what Pub/Sub sends at once (3 of 1,000) and 500 slots each at most, on Knative two; fewer where model_slots cannot be shared out between them."
  type        = number
  default     = null

  validation {
    condition     = var.max_instances == null || try(var.max_instances >= 1 && floor(var.max_instances) == var.max_instances && var.max_instances <= var.model_slots, false)
    error_message = "max_instances is a whole number from 1 to model_slots: an instance without a slot answers nothing."
  }

  validation {
    # A tenth more keeps a slot from waiting for an answer to be published: docs/performance.md.
    condition     = var.max_instances == null || try(ceil(var.model_slots / var.max_instances) * var.max_instances <= ceil(1.1 * var.model_slots), true)
    error_message = "max_instances = ${coalesce(var.max_instances, 1)} does not share out model_slots = ${var.model_slots}: with ${ceil(var.model_slots / max(coalesce(var.max_instances, 1), 1))} slots in each, more than a tenth too many would be asked of the model. Give a number that divides it."
  }

  validation {
    condition     = var.platform != "cloud-run" || try(ceil(var.model_slots / var.max_instances) <= 900, true)
    error_message = "max_instances leaves more than 900 slots to each: Cloud Run gives an instance no more than 1,000 pushes at once, of which some have to wait in its line. Give more instances."
  }
}

variable "min_instances" {
  description = "Instances that are kept while nothing is to do. Left out: all of them, so that every slot can be used from the first message on. 0 costs nothing while idle; the first messages then wait for a start, and another instance is started only when 60 % of what one takes (max_waiting) has come."
  type        = number
  default     = null

  validation {
    condition     = var.min_instances == null || try(var.min_instances >= 0 && floor(var.min_instances) == var.min_instances && (var.max_instances == null || var.min_instances <= var.max_instances), false)
    error_message = "min_instances is a whole number from 0 to max_instances."
  }
}

variable "max_waiting" {
  description = "Pushes that one instance holds while they wait for a slot (MAX_WAITING). Left out: on Cloud Run what its limit of 1,000 at once leaves, on Knative 3,000, which is what Pub/Sub sends at once. The bytes that they may have (MAX_WAITING_MB) follow from memory."
  type        = number
  default     = null

  validation {
    condition     = var.max_waiting == null || try(var.max_waiting >= 0 && floor(var.max_waiting) == var.max_waiting, false)
    error_message = "max_waiting is a whole number, 0 or more."
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
    condition     = var.platform != "cloud-run" || (var.model_url == null) == (var.model_container != null)
    error_message = "model_url is required with platform = \"cloud-run\", unless the model runs beside the service (model_container)."
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
  description = "Makes a Memorystore for Redis that all instances share (LEDGER_URL), so that no two of them call the model for one message. It is reached by TLS and a password, which is in the Terraform state. snapshots (ONE_HOUR, SIX_HOURS, TWELVE_HOURS or TWENTY_FOUR_HOURS) keeps them for a restart. connect_mode PRIVATE_SERVICE_ACCESS is for a shared VPC."
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
      "ACK_DEADLINE_SECONDS", "CONCURRENCY", "GRACE_SECONDS", "LEDGER_URL", "MARGIN_SECONDS", "MAX_AGE_SECONDS",
      "MAX_ATTEMPTS", "MAX_WAITING", "MAX_WAITING_MB", "MODEL_API_KEY", "MODEL_CA_FILE", "MODEL_SLOTS",
      "MODEL_TIMEOUT_SECONDS", "MODEL_URL", "PORT", "PUBLISH_TIMEOUT_SECONDS", "PUBSUB_EMULATOR_HOST", "PUSH_AUDIENCE",
      "PUSH_AUTH", "PUSH_SERVICE_ACCOUNT", "RESPONSE_TOPIC",
    ])) == 0
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
    condition     = var.model_timeout_seconds + var.publish_timeout_seconds + var.margin_seconds <= var.ack_deadline_seconds
    error_message = "model_timeout_seconds + publish_timeout_seconds + margin_seconds come to ${var.model_timeout_seconds + var.publish_timeout_seconds + var.margin_seconds}, more than ack_deadline_seconds = ${var.ack_deadline_seconds}: Pub/Sub would deliver again while the model still works. Shorten the first two."
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

variable "margin_seconds" {
  description = "How long a push may have been under way before the service gets it (MARGIN_SECONDS), which counts against the ack deadline. Cloud Run lets one wait for an instance for 10 s or 3.5 times what a start takes: with min_instances = 0 and a network give 3.5 times that."
  type        = number
  default     = 10
  nullable    = false

  validation {
    condition     = var.margin_seconds >= 1
    error_message = "margin_seconds is 1 or more."
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
    condition     = length(var.response_subscriptions) > 0 || var.topics.responses != null
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
