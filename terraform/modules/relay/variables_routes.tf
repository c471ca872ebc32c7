# As whom the model is called; several models; several subscriptions: docs/routes.md

variable "model_auth" {
  description = "As whom the model service is called (MODEL_AUTH): none, with a key (model_api_key_secret), with a google-id-token (a private Cloud Run service, IAP) or a google-access-token (Vertex AI). Left out: key where there is one, else none."
  type        = string
  default     = null

  validation {
    condition     = var.model_auth == null || contains(["none", "key", "google-id-token", "google-access-token"], coalesce(var.model_auth, "-"))
    error_message = "model_auth is none, key, google-id-token or google-access-token."
  }

  validation {
    condition     = var.platform != "cloud-run" || var.model_auth == null || (var.model_auth == "key") == (var.model_api_key_secret != null)
    error_message = "model_auth = \"key\" wants model_api_key_secret, and no other value has a use for it."
  }
}

variable "model_audience" {
  description = "Audience of the ID token with model_auth = \"google-id-token\" (MODEL_AUDIENCE). Left out: scheme and host of model_url, which a Cloud Run service expects."
  type        = string
  default     = null

  validation {
    condition     = var.model_audience == null || var.model_auth == "google-id-token" && can(regex("^[!-~]+$", var.model_audience))
    error_message = "model_audience is a text without blanks, and goes with model_auth = \"google-id-token\"."
  }
}

variable "model_cloud_run" {
  description = "The Cloud Run service that the model is, where it takes only who may invoke it: the service's account gets roles/run.invoker on it. location and project are the relay's where they are left out."
  type = object({
    service  = string
    location = optional(string)
    project  = optional(string)
  })
  default = null

  validation {
    condition     = var.model_cloud_run == null || var.model_auth == "google-id-token" && can(regex("^[a-z][a-z0-9-]{0,48}$", var.model_cloud_run.service))
    error_message = "model_cloud_run names a service (not its URL), and goes with model_auth = \"google-id-token\"."
  }
}

variable "model_vertex_project" {
  description = "The project whose Vertex AI endpoint model_url is: the service's account gets roles/aiplatform.user in it."
  type        = string
  default     = null

  validation {
    condition     = var.model_vertex_project == null || var.model_auth == "google-access-token" && can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.model_vertex_project))
    error_message = "model_vertex_project is a project's id, and goes with model_auth = \"google-access-token\"."
  }
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

  validation {
    condition     = alltrue([for one in var.routes : can(regex("^[a-z][a-z0-9-]{0,39}$", one.name))]) && length(distinct(var.routes[*].name)) == length(var.routes)
    error_message = "routes have names of lower-case letters, digits and dashes, 40 at most, which start with a letter; each stands there once."
  }

  validation {
    condition     = alltrue([for one in var.routes : length(one.models) > 0 && one.model != "" && alltrue([for model in one.models : can(regex("^[^*\\s]([^*]*[^*\\s])?[*]?$|^[*]$", model))])])
    error_message = "routes have models, at least one each: a name, the start of a name with a * at its end, or *; and a model that is left out or a name."
  }

  validation {
    condition     = length(distinct(flatten(var.routes[*].models))) == length(flatten(var.routes[*].models))
    error_message = "routes name a model twice: ${join(", ", [for model, named in { for one in flatten(var.routes[*].models) : one => one... } : model if length(named) > 1])}."
  }

  validation {
    condition     = alltrue([for one in var.routes : can(regex("^https?://([A-Za-z0-9.-]+|\\[[0-9A-Fa-f:]+\\])(:[0-9]{1,5})?(/[!-~]*)?$", replace(one.url, "{model}", "model"))) && !can(regex("[@?#{}]|/v1/*$", replace(one.url, "{model}", "model")))])
    error_message = "routes have URLs, http:// or https://, of a host and perhaps a port and path, with neither user name nor query nor fragment, and without the /v1 that the request's path brings along; {model} may stand in one."
  }

  validation {
    condition     = var.platform != "cloud-run" || var.network != null || alltrue([for one in var.routes : !startswith(one.url, "http://")])
    error_message = "routes have an http:// URL and no network is given: prompts would cross the internet in the clear. Give the network, or an https:// URL."
  }

  validation {
    condition     = alltrue([for one in var.routes : one.slots >= 1 && one.slots <= 2000 && floor(one.slots) == one.slots])
    error_message = "routes have slots, whole, 1 to 2000."
  }

  validation {
    condition     = alltrue([for one in var.routes : contains(["-", "none", "key", "google-id-token", "google-access-token"], coalesce(one.auth, "-"))])
    error_message = "routes have an auth of none, key, google-id-token or google-access-token."
  }

  validation {
    condition     = alltrue([for one in var.routes : (coalesce(one.auth, one.api_key_secret != null || one.api_key_env != null ? "key" : "-") == "key") == (one.api_key_secret != null || one.api_key_env != null)])
    error_message = "routes with auth = \"key\" want a key (api_key_secret, on Knative api_key_env), and others have no use for one."
  }

  validation {
    condition     = alltrue([for one in var.routes : (one.audience == null && one.cloud_run == null || one.auth == "google-id-token") && (one.vertex_project == null || one.auth == "google-access-token")])
    error_message = "routes have audience and cloud_run with auth = \"google-id-token\", and vertex_project with \"google-access-token\"."
  }

  validation {
    condition     = alltrue([for one in var.routes : one.auth != "google-id-token" || one.audience != null || !can(regex("^https?://[^/]*[{]model[}]", one.url))])
    error_message = "routes with auth = \"google-id-token\" and {model} in the host of their URL want an audience, which all of these services have to accept: a token is for one."
  }

  validation {
    condition     = alltrue([for one in var.routes : can(regex("^[!-~]+$", coalesce(one.audience, "-"))) && can(regex("^[a-z][a-z0-9-]{0,48}$", try(one.cloud_run.service, "a"))) && can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", coalesce(one.vertex_project, "my-project")))])
    error_message = "routes have an audience without blanks, the name of a Cloud Run service (not its URL), and a project's id."
  }

  validation {
    condition     = alltrue([for one in var.routes : var.platform == "cloud-run" ? one.api_key_env == null && one.ca_file == null : one.api_key_secret == null && one.ca_secret == null])
    error_message = "routes have api_key_secret and ca_secret with platform = \"cloud-run\", and api_key_env and ca_file on Knative, where secrets are Kubernetes'."
  }

  validation {
    condition     = alltrue([for one in flatten([for route in var.routes : [for secret in [route.api_key_secret, route.ca_secret] : secret if secret != null]]) : can(regex("^(projects/[^/]+/secrets/)?[A-Za-z0-9_-]{1,255}$", one.secret)) && can(regex("^(latest|[1-9][0-9]*)$", one.version))])
    error_message = "routes have secrets, NAME or projects/PROJECT/secrets/NAME, with a version, latest or a number. They are never the key itself."
  }

  validation {
    condition     = alltrue([for one in var.routes : can(regex("^[A-Za-z_][A-Za-z0-9_]*$", coalesce(one.api_key_env, "A"))) && !contains(["MODEL_API_KEY", "LEDGER_URL"], coalesce(one.api_key_env, "A")) && startswith(coalesce(one.ca_file, "/"), "/")])
    error_message = "routes have an api_key_env that is a variable of their own, such as CHAT_API_KEY, and a ca_file that is a full path."
  }

  validation {
    condition     = alltrue([for one in var.routes : coalesce(one.timeout_seconds, 1) > 0 && coalesce(one.timeout_seconds, 1) + var.publish_timeout_seconds + var.margin_seconds <= var.ack_deadline_seconds])
    error_message = "routes have timeout_seconds that with publish_timeout_seconds and margin_seconds come to no more than ack_deadline_seconds = ${var.ack_deadline_seconds}."
  }

  validation {
    condition     = alltrue([for one in var.routes : one.allowed_paths == null || try(length(one.allowed_paths) > 0 && alltrue([for path in one.allowed_paths : can(regex("^(/[A-Za-z0-9._~-]+)+$", path)) && !can(regex("/[.]{1,2}(/|$)", path))]), false)])
    error_message = "routes have allowed_paths that are plain paths such as /v1/completions, one at least."
  }

  validation {
    condition     = length(var.routes) == 0 || var.model_auth == null && var.model_audience == null && var.model_api_key_secret == null && var.model_cloud_run == null && var.model_vertex_project == null
    error_message = "routes say it for each model: leave out model_auth, model_audience, model_api_key_secret, model_cloud_run and model_vertex_project."
  }
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

  validation {
    condition     = alltrue([for name in keys(var.streams) : can(regex("^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$", name))])
    error_message = "streams have names of lower-case letters, digits and dashes, 40 at most, which start with a letter."
  }

  validation {
    condition     = length(var.streams) == 0 || var.model_url != null || var.model_container != null || length(var.routes) > 0
    error_message = "streams are in a file with the model service: give model_url or routes on Knative too."
  }

  validation {
    condition     = try(var.streams["push"].request_topic == null && var.streams["push"].filter == "" && length(var.streams["push"].requesters) == 0, true)
    error_message = "streams has push, the relay's own: its topic, filter and requesters are topics.requests, filter and requesters."
  }

  validation {
    condition     = alltrue([for one in values(var.streams) : alltrue([for topic in [one.request_topic, one.response_topic] : topic == null || can(regex("^projects/[^/]+/topics/[A-Za-z][A-Za-z0-9._~+%-]{2,254}$", topic))])])
    error_message = "streams have a request_topic and a response_topic by full name: projects/PROJECT/topics/TOPIC."
  }

  validation {
    condition     = alltrue([for one in values(var.streams) : alltrue([for filter in concat([one.filter], values(one.response_subscriptions)[*].filter) : length(filter) <= 256 && can(regex("^([ -~]*)$", filter))])])
    error_message = "streams have filters of at most 256 characters, in ASCII."
  }

  validation {
    condition     = alltrue([for one in values(var.streams) : one.filter == "" || one.request_topic != null || length(one.requesters) == 0])
    error_message = "streams with a filter alone read the relay's own request topic: name their requesters in the variable requesters."
  }

  validation {
    condition = alltrue(flatten([for one in values(var.streams) : [
      for member in concat(tolist(one.requesters), flatten([for reader in values(one.response_subscriptions) : tolist(reader.members)])) : can(regex("^(user|group|serviceAccount|domain|principal|principalSet):[^\\s]+$", member))
    ]]))
    error_message = "streams have requesters and members that are user:, group:, serviceAccount:, domain:, principal: or principalSet: and who it is, never everybody."
  }

  validation {
    condition     = alltrue(flatten([for one in values(var.streams) : [for reader in keys(one.response_subscriptions) : can(regex("^[a-z]([a-z0-9-]{0,60}[a-z0-9])?$", reader))]]))
    error_message = "streams have response_subscriptions with names of lower-case letters, digits and dashes that start with a letter."
  }

  validation {
    condition     = alltrue([for one in values(var.streams) : contains(["high", "normal", "low"], coalesce(one.priority, "normal"))])
    error_message = "streams have a priority of high, normal or low, or none: then each request says it."
  }

  validation {
    condition     = alltrue([for one in values(var.streams) : try(one.max_share > 0 && one.max_share <= 1, false)])
    error_message = "streams have a max_share above 0, and 1 at most: the part of each route's slots that theirs may have at once."
  }

  validation {
    condition     = alltrue([for one in values(var.streams) : one.models == null || try(length(one.models) > 0 && alltrue([for model in one.models : can(regex("^[^*\\s]([^*]*[^*\\s])?[*]?$|^[*]$", model))]), false)])
    error_message = "streams have models, at least one: a name, the start of a name with a * at its end, or *; or none is said."
  }

  validation {
    condition     = alltrue([for one in values(var.streams) : one.allowed_paths == null || try(length(one.allowed_paths) > 0 && alltrue([for path in one.allowed_paths : can(regex("^(/[A-Za-z0-9._~-]+)+$", path)) && !can(regex("/[.]{1,2}(/|$)", path))]), false)])
    error_message = "streams have allowed_paths that are plain paths such as /v1/completions, one at least."
  }

  validation {
    condition     = alltrue([for one in values(var.streams) : coalesce(one.max_attempts, 1) >= 1 && floor(coalesce(one.max_attempts, 1)) == coalesce(one.max_attempts, 1) && coalesce(one.max_attempts, 1) < var.max_delivery_attempts])
    error_message = "streams have max_attempts, whole, from 1 to below max_delivery_attempts = ${var.max_delivery_attempts}: else failing requests would go to the dead letters, unanswered."
  }
}

variable "response_topics" {
  description = "Topics that are there already, as projects/PROJECT/topics/TOPIC, which a request may name for its response in the attribute response_topic (RESPONSE_TOPICS). The service's account may publish to them."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for one in var.response_topics : can(regex("^projects/[^/]+/topics/[A-Za-z][A-Za-z0-9._~+%-]{2,254}$", one))])
    error_message = "response_topics has full names: projects/PROJECT/topics/TOPIC."
  }
}

variable "attribute_headers" {
  description = "Attributes of a request that the model service gets as headers (ATTRIBUTE_HEADERS), such as { tenant = \"x-llm-d-inference-fairness-id\" }; priority and deadline are the request's own where they are no attributes."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for attribute, header in var.attribute_headers : can(regex("^[^=,\\s]+$", attribute)) && can(regex("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$", header))])
    error_message = "attribute_headers has attributes without blanks, commas and equals signs, and names of headers."
  }

  validation {
    condition = alltrue([for header in values(var.attribute_headers) : !can(regex("^(proxy-|sec-)", lower(header))) && !contains([
      "accept", "accept-encoding", "authorization", "connection", "content-encoding", "content-length", "content-type", "cookie",
      "expect", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "user-agent",
    ], lower(header))])
    error_message = "attribute_headers has a header that belongs to the connection or says who the relay is, which is not a requester's to set."
  }
}
