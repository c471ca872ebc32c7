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
