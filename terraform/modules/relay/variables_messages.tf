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
  description = "How long a push may have been under way before the service gets it (MARGIN_SECONDS), which counts against the ack deadline. Cloud Run lets one wait for an instance for 10 s or 3.5 times what a start takes: with min_instances = 0 and a network that may be minutes: rather keep an instance."
  type        = number
  default     = 10
  nullable    = false

  validation {
    condition     = var.margin_seconds >= 1
    error_message = "margin_seconds is 1 or more."
  }
}

variable "max_attempts" {
  description = "Attempts after which a failing request is answered with its error (MAX_ATTEMPTS): failures where there is a ledger, else deliveries."
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

variable "control_messages" {
  description = "Whether requesters may cancel requests and ask where they stand, by messages with the attribute relay_control (CONTROL_MESSAGES; docs/security.md). Whoever may publish may then cancel everybody's. Needs a ledger. Control messages get a subscription of their own, so that they need not wait behind the requests; other subscriptions of the request topic get them, too."
  type        = bool
  default     = false
  nullable    = false

  validation {
    condition     = !var.control_messages || var.platform != "cloud-run" || var.ledger != null || var.ledger_url_secret != null
    error_message = "control_messages needs a ledger, or one instance would not know what another was told: give ledger, or ledger_url_secret."
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

variable "request_buckets" {
  description = "Cloud Storage buckets that requests may refer to (REQUEST_BUCKETS), by name. They are yours; the service gets the right to read them. Whoever may publish requests may have the model read any object in them."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for one in var.request_buckets : can(regex("^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$", one))])
    error_message = "request_buckets has names of buckets, such as my-inputs, without gs://."
  }
}

variable "response_bucket" {
  description = "Makes a bucket for responses over Pub/Sub's 10 MB (RESPONSE_BUCKET): its name, which nobody else in Google Cloud may have (left out, PROJECT-NAME-responses), the days after which a response is deleted (left out, 31 days and one more than message_retention_seconds: a request waits for that, and the message that names its response for up to 31 days), and who may read, such as group:team@example.com."
  type = object({
    name    = optional(string)
    days    = optional(number)
    readers = optional(set(string), [])
  })
  default = null

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9_-]{1,61}[a-z0-9]$", try(coalesce(var.response_bucket.name), "a-name")))
    error_message = "response_bucket has a name of 3 to 63 small letters, digits, - and _, without gs://."
  }

  validation {
    condition     = try(coalesce(var.response_bucket.days) >= ceil((var.message_retention_seconds + 2678400) / 86400) && floor(var.response_bucket.days) == var.response_bucket.days, true)
    error_message = "response_bucket has whole days, 31 more at least than message_retention_seconds come to: a request waits for that, and its response for up to 31 days, whose message would name an object that is gone."
  }

  validation {
    condition     = try(alltrue([for one in var.response_bucket.readers : can(regex("^(user|group|serviceAccount|domain|principal|principalSet):[^\\s]+$", one))]), true)
    error_message = "response_bucket has readers such as user:, group:, serviceAccount: or domain: with what they are called."
  }
}
