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

variable "topics" {
  description = "Topics that are there already, as projects/PROJECT/topics/TOPIC: where requests are read, and where responses are published. What is left out is made. Whoever applies has to be able to give rights on them."
  type = object({
    requests  = optional(string)
    responses = optional(string)
  })
  default  = {}
  nullable = false
}

variable "accounts" {
  description = "Service accounts that are there already, by email: the one that pushes come from, and the one that the service runs as. What is left out is made."
  type = object({
    push  = optional(string)
    relay = optional(string)
  })
  default  = {}
  nullable = false
}

variable "storage_regions" {
  description = "Regions that messages may be stored in. Left out: region alone. An empty list leaves it to Google and to the organisation's policy."
  type        = set(string)
  default     = null
}

variable "secret_regions" {
  description = "Regions that the secrets made here are kept in: the ledger's, the file of routes and the Prometheus sidecar's. Empty: wherever Secret Manager keeps them, which an organisation's policy on resource locations forbids."
  type        = set(string)
  default     = []
  nullable    = false
}

variable "kms_key" {
  description = "Cloud KMS key of the region that topics, service, bucket, ledger and the secrets made here are encrypted with: projects/PROJECT/locations/REGION/keyRings/RING/cryptoKeys/KEY. Their service agents need roles/cloudkms.cryptoKeyEncrypterDecrypter on it first (docs/deploy-cloud-run.md)."
  type        = string
  default     = null
}

variable "platform" {
  description = "Where the service runs. cloud-run: this module runs it. knative: it runs in a cluster, and this module makes the Pub/Sub side and its accounts."
  type        = string
  default     = "cloud-run"
  nullable    = false
}

# How much at once

variable "model_slots" {
  description = "How many requests the model service takes at once, over all of its replicas (vLLM: max-num-seqs x replicas; Ollama: OLLAMA_NUM_PARALLEL x replicas). All else follows: the number of instances, and each one's slots (MODEL_SLOTS) and line (MAX_WAITING). Required, unless there are routes, which have slots of their own."
  type        = number
  default     = null
}

variable "max_instances" {
  description = "Instances of the service, which share model_slots between them. Left out: on Cloud Run as many as hold what Pub/Sub sends at once (3 of 1,000) and 500 slots each at most, on Knative two; fewer where model_slots (or some route's slots) cannot be shared out between them."
  type        = number
  default     = null
}

variable "min_instances" {
  description = "Instances that are kept while nothing is to do. Left out: all of them, so that every slot can be used from the first message on. 0 costs nothing while idle; the first messages then wait for a start, and another instance is started only when 60 % of what one takes (its slots and max_waiting) has come."
  type        = number
  default     = null
}

variable "max_waiting" {
  description = "Pushes that one instance holds while they wait for a slot (MAX_WAITING). Left out: on Cloud Run what its limit of 1,000 at once leaves, on Knative 3,000, which is what Pub/Sub sends at once. The bytes that they may have (MAX_WAITING_MB) follow from memory."
  type        = number
  default     = null
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

variable "margin_seconds" {
  description = "How long a push may have been under way before the service gets it (MARGIN_SECONDS), which counts against the ack deadline. Cloud Run lets one wait for an instance for 10 s or 3.5 times what a start takes: with min_instances = 0 and a network that may be minutes: rather keep an instance."
  type        = number
  default     = 10
  nullable    = false
}

variable "max_attempts" {
  description = "Attempts after which a failing request is answered with its error (MAX_ATTEMPTS): failures where there is a ledger, else deliveries."
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

variable "control_messages" {
  description = "Whether requesters may cancel requests and ask where they stand, by messages with the attribute relay_control (CONTROL_MESSAGES; docs/security.md). Whoever may publish may then cancel everybody's. Needs a ledger. Control messages get a subscription of their own, so that they need not wait behind the requests; other subscriptions of the request topic get them, too."
  type        = bool
  default     = false
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

variable "request_buckets" {
  description = "Cloud Storage buckets that requests may refer to (REQUEST_BUCKETS), by name. They are yours; the service gets the right to read them. Whoever may publish requests may have the model read any object in them."
  type        = set(string)
  default     = []
  nullable    = false
}

variable "response_bucket" {
  description = "Makes a bucket for responses over Pub/Sub's 10 MB (RESPONSE_BUCKET): its name, which nobody else in Google Cloud may have (left out, PROJECT-NAME-responses), the days after which a response is deleted (left out, 31 days and one more than message_retention_seconds: a request waits for that, and the message that names its response for up to 31 days), and who may read, such as group:team@example.com."
  type = object({
    name    = optional(string)
    days    = optional(number)
    readers = optional(set(string), [])
  })
  default = null
}

# As whom the model is called; several models; several subscriptions: docs/routes.md

variable "model_auth" {
  description = "As whom the model service is called (MODEL_AUTH): none, with a key (model_api_key_secret), with a google-id-token (a private Cloud Run service, IAP) or a google-access-token (Vertex AI). Left out: key where there is one, else none."
  type        = string
  default     = null
}

variable "model_audience" {
  description = "Audience of the ID token with model_auth = \"google-id-token\" (MODEL_AUDIENCE). Left out: scheme and host of model_url, which a Cloud Run service expects."
  type        = string
  default     = null
}

variable "model_cloud_run" {
  description = "The Cloud Run service that the model is, where it takes only who may invoke it: the service's account gets roles/run.invoker on it. location and project are the relay's where they are left out."
  type = object({
    service  = string
    location = optional(string)
    project  = optional(string)
  })
  default = null
}

variable "model_vertex_project" {
  description = "The project whose Vertex AI endpoint model_url is: the service's account gets roles/aiplatform.user in it."
  type        = string
  default     = null
}

variable "routes" {
  description = "Several model services in place of model_url and model_slots, each with the models whose requests it gets (exact names, the start of a name with a * behind it, or * for all others), its url, and slots: how many requests it takes at once, over all of its replicas. With auto the slots are the most that it gets, and follow its refusals. Keys and authorities are secrets (on Knative api_key_env, an environment variable, and ca_file); cloud_run and vertex_project are as model_cloud_run and model_vertex_project. The rest is described in docs/routes.md."
  type = list(object({
    name            = string
    models          = list(string)
    url             = string
    slots           = number
    auto            = optional(bool, false)
    model           = optional(string)
    auth            = optional(string)
    audience        = optional(string)
    api_key_secret  = optional(object({ secret = string, version = optional(string, "latest") }))
    api_key_env     = optional(string)
    ca_secret       = optional(object({ secret = string, version = optional(string, "latest") }))
    ca_file         = optional(string)
    timeout_seconds = optional(number)
    allowed_paths   = optional(list(string))
    cloud_run       = optional(object({ service = string, location = optional(string), project = optional(string) }))
    vertex_project  = optional(string)
  }))
  default  = []
  nullable = false
}

variable "streams" {
  description = "Further push subscriptions, by name. What each one reads: a topic of its own, NAME-STREAM-requests, where nothing is said, to which requesters may publish; or with a filter those of the relay's own request topic; or a request_topic that is there. Where its responses go: the relay's response topic; a response_topic that is there; or, with response_subscriptions, one that is made with them. The rest is described in docs/routes.md. The relay's own subscription goes on, with filter; what it may is said under the name push."
  type = map(object({
    filter         = optional(string, "")
    request_topic  = optional(string)
    requesters     = optional(set(string), [])
    response_topic = optional(string)
    response_subscriptions = optional(map(object({
      filter  = optional(string, "")
      members = optional(set(string), [])
    })), {})
    priority      = optional(string)
    max_share     = optional(number, 1)
    models        = optional(list(string))
    allowed_paths = optional(list(string))
    max_attempts  = optional(number)
  }))
  default  = {}
  nullable = false
}

variable "response_topics" {
  description = "Topics that are there already, as projects/PROJECT/topics/TOPIC, which a request may name for its response in the attribute response_topic (RESPONSE_TOPICS). The service's account may publish to them."
  type        = set(string)
  default     = []
  nullable    = false
}

variable "attribute_headers" {
  description = "Attributes of a request that the model service gets as headers (ATTRIBUTE_HEADERS), such as { tenant = \"x-llm-d-inference-fairness-id\" }; priority and deadline are the request's own where they are no attributes."
  type        = map(string)
  default     = {}
  nullable    = false
}

# The service on Cloud Run

# The service on Cloud Run
variable "image" {
  description = "The service's image by digest (HOST/PROJECT/REPOSITORY/inference-relay@sha256:...), so that what was tested is what runs. Required on cloud-run, and only for it."
  type        = string
  default     = null
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
}

variable "memory" {
  description = "Memory of an instance. An idle one takes about 110 MB; each call adds several copies of its request and response, which may be 10 MB each. Half of what is above 256 MiB is for requests that wait (MAX_WAITING_MB)."
  type        = string
  default     = "1Gi"
  nullable    = false
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

variable "model_ca_secret" {
  description = "Secret Manager secret with the PEM file of the authorities that an https model_url is checked with, instead of the public ones (MODEL_CA_FILE), and its version."
  type = object({
    secret  = string
    version = optional(string, "latest")
  })
  default = null
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
  description = "Further settings of the service (docs/settings.md), such as { ALLOWED_PATHS = \"/v1/embeddings\", LOG_LEVEL = \"DEBUG\" }."
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
