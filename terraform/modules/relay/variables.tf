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
    condition     = can(regex("^[a-z][a-z0-9-]{0,20}[a-z0-9]$", var.name)) && !startswith(var.name, "goog")
    error_message = "name is 2 to 22 lower-case letters, digits and dashes; it starts with a letter, but not with goog, and ends in a letter or digit."
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
  description = "Regions that the secrets made here are kept in: the ledger's, the file of routes and the Prometheus sidecar's. Empty: wherever Secret Manager keeps them, which an organisation's policy on resource locations forbids."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for one in var.secret_regions : can(regex("^[a-z]+-[a-z]+[0-9]+$", one))])
    error_message = "secret_regions has regions such as europe-west4."
  }
}

variable "kms_key" {
  description = "Cloud KMS key of the region that topics, service, bucket, ledger and the secrets made here are encrypted with: projects/PROJECT/locations/REGION/keyRings/RING/cryptoKeys/KEY. Their service agents need roles/cloudkms.cryptoKeyEncrypterDecrypter on it first (docs/deploy-cloud-run.md)."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key == null || can(regex("^projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+$", var.kms_key))
    error_message = "kms_key is a key's full name: projects/PROJECT/locations/REGION/keyRings/RING/cryptoKeys/KEY."
  }

  validation {
    condition     = var.kms_key == null || var.ledger == null && var.prometheus_sidecar == null && (var.platform == "knative" || length(var.routes) + length(var.streams) == 0) || length(var.secret_regions) > 0
    error_message = "kms_key with a ledger, prometheus_sidecar, routes or streams wants secret_regions, those of the key: a key of one region cannot encrypt a secret that is kept everywhere."
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
  description = "How many requests the model service takes at once, over all of its replicas (vLLM: max-num-seqs x replicas; Ollama: OLLAMA_NUM_PARALLEL x replicas). All else follows: the number of instances, and each one's slots (MODEL_SLOTS) and line (MAX_WAITING). Required, unless there are routes, which have slots of their own."
  type        = number
  default     = null

  validation {
    condition     = var.model_slots == null || try(var.model_slots >= 1 && floor(var.model_slots) == var.model_slots, false)
    error_message = "model_slots is a whole number, 1 or more."
  }

  validation {
    condition     = (var.model_slots == null) == (length(var.routes) > 0)
    error_message = "model_slots is required where there are no routes, and left out where there are: each route has slots."
  }
}

variable "max_instances" {
  description = "Instances of the service, which share model_slots between them. Left out: on Cloud Run as many as hold what Pub/Sub sends at once (3 of 1,000) and 500 slots each at most, on Knative two; fewer where model_slots (or some route's slots) cannot be shared out between them."
  type        = number
  default     = null

  validation {
    condition     = var.max_instances == null || try(var.max_instances >= 1 && floor(var.max_instances) == var.max_instances && var.max_instances <= min(values(local.wanted)...), false)
    error_message = "max_instances is a whole number from 1 to model_slots, or to the fewest slots of a route: an instance without a slot answers nothing."
  }

  validation {
    # A tenth more keeps a slot from waiting for an answer to be published: docs/performance.md.
    condition     = var.max_instances == null || try(alltrue([for one in values(local.wanted) : ceil(one / var.max_instances) * var.max_instances <= ceil(1.1 * one)]), true)
    error_message = "max_instances = ${coalesce(var.max_instances, 1)} does not share out the slots (${join(", ", [for name, one in local.wanted : "${name}: ${one}"])}): rounded up in each instance, more than a tenth too many would be asked of a model. Give a number that divides them."
  }

  validation {
    condition     = var.platform != "cloud-run" || try(sum([for one in values(local.wanted) : ceil(one / var.max_instances)]) <= local.most_used, true)
    error_message = "max_instances leaves more than 900 slots to each: Cloud Run gives an instance no more than 1,000 pushes at once, of which some have to wait in its line. Give more instances."
  }
}

variable "min_instances" {
  description = "Instances that are kept while nothing is to do. Left out: all of them, so that every slot can be used from the first message on. 0 costs nothing while idle; the first messages then wait for a start, and another instance is started only when 60 % of what one takes (its slots and max_waiting) has come."
  type        = number
  default     = null

  validation {
    condition     = var.min_instances == null || try(var.min_instances >= 0 && floor(var.min_instances) == var.min_instances && var.min_instances <= local.instances, false)
    error_message = "min_instances is a whole number from 0 to max_instances, here ${local.instances}."
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
