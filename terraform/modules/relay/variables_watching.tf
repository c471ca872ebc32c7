# Who watches it, and what is told

variable "monitoring" {
  description = "Whether metrics of the log lines, a dashboard and alerts are made (docs/monitoring.md)."
  type        = bool
  default     = true
  nullable    = false
}

variable "notification_channels" {
  description = "Monitoring channels that the alerts tell: projects/PROJECT/notificationChannels/ID. None: the alerts are in the console, and nobody is told."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for one in var.notification_channels : can(regex("^projects/[^/]+/notificationChannels/[0-9]+$", one))])
    error_message = "notification_channels has full names: projects/PROJECT/notificationChannels/ID."
  }

  validation {
    condition     = var.monitoring || length(var.notification_channels) == 0
    error_message = "notification_channels are told by alerts, and monitoring = false makes none: leave them out, or have it made."
  }
}

variable "alerts" {
  description = "When alerts are raised: the age of the oldest request in seconds (left out, half of max_age_seconds), the shares of error answers among answers, of refused and of late pushes among pushes, and of the slots that are used at least while more requests wait than there are slots; and which alerts are off, by their names in docs/monitoring.md."
  type = object({
    oldest_seconds = optional(number)
    error_share    = optional(number, 0.05)
    refused_share  = optional(number, 0.01)
    late_share     = optional(number, 0.01)
    slots_share    = optional(number, 0.5)
    off            = optional(set(string), [])
  })
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for one in [var.alerts.error_share, var.alerts.refused_share, var.alerts.late_share, var.alerts.slots_share] : try(one >= 0 && one <= 1, false)])
    error_message = "alerts has shares of 0 to 1: 0.05 is 5 %."
  }

  validation {
    condition     = try(var.alerts.oldest_seconds, null) == null || try(var.alerts.oldest_seconds >= 60 && var.alerts.oldest_seconds < var.message_retention_seconds, false)
    error_message = "alerts has oldest_seconds of 60 or more, less than message_retention_seconds, after which requests are gone."
  }

  validation {
    condition     = length(setsubtract(try(coalesce(var.alerts.off, []), []), ["bug", "dead-letter", "error-answers", "ledger-away", "near-deadline", "operator-errors", "pushes-refused", "slots-unused", "stalled", "tokens-refused", "waiting"])) == 0
    error_message = "alerts.off has names of alerts: bug, dead-letter, error-answers, ledger-away, near-deadline, operator-errors, pushes-refused, slots-unused, stalled, tokens-refused, waiting."
  }
}

variable "runbook_url" {
  description = "Where your copy of docs/runbook.md can be read, for the links in alerts, such as https://git.example.com/inference-relay/blob/main/docs/runbook.md. Left out, alerts name the file."
  type        = string
  default     = null

  validation {
    condition     = var.runbook_url == null || can(regex("^https?://[!-~]+$", var.runbook_url)) && !strcontains(coalesce(var.runbook_url, "-"), "#")
    error_message = "runbook_url is an http:// or https:// URL, without the # of a section, which each alert adds."
  }
}

variable "prometheus_sidecar" {
  description = "Runs Google's managed Prometheus beside the service, in each instance, which takes GET /metrics to Cloud Monitoring: its image by digest, the port of the metrics (METRICS_PORT), how many seconds apart they are taken, and what it needs. It bills instances for all of their time, whether they work or not (docs/monitoring.md)."
  type = object({
    image            = string
    port             = optional(number, 9464)
    interval_seconds = optional(number, 60)
    cpu              = optional(number, 1)
    memory           = optional(string, "512Mi")
  })
  default = null

  validation {
    condition     = var.prometheus_sidecar == null || can(regex("^[a-z0-9][a-z0-9./:_-]*@sha256:[0-9a-f]{64}$", var.prometheus_sidecar.image))
    error_message = "prometheus_sidecar has an image that names a digest: ...@sha256: and 64 hexadecimal digits, not a tag."
  }

  validation {
    condition     = var.prometheus_sidecar == null || try(var.prometheus_sidecar.port >= 1024 && var.prometheus_sidecar.port < 65536 && !contains([8080, 13133, try(var.model_container.port, 8080)], var.prometheus_sidecar.port), false)
    error_message = "prometheus_sidecar has a port of 1024 to 65535 that is nobody else's: neither the service's (8080) nor the model's nor the sidecar's own (13133)."
  }

  validation {
    condition     = var.prometheus_sidecar == null || try(var.prometheus_sidecar.interval_seconds >= 10 && var.prometheus_sidecar.interval_seconds <= 300 && floor(var.prometheus_sidecar.interval_seconds) == var.prometheus_sidecar.interval_seconds, false)
    error_message = "prometheus_sidecar has interval_seconds of 10 to 300: Cloud Monitoring's PromQL forgets a series after five minutes."
  }

  validation {
    condition     = var.prometheus_sidecar == null || try(var.prometheus_sidecar.cpu > 0 && var.prometheus_sidecar.cpu + var.cpu + try(var.model_container.cpu, 0) <= 8, false)
    error_message = "prometheus_sidecar has a cpu that comes with the other containers' to 8 at most: an instance of Cloud Run has no more."
  }

  validation {
    condition     = var.prometheus_sidecar == null || try(can(regex("^(12[89]|1[3-9][0-9]|[2-9][0-9]{2}|[1-9][0-9]{3})Mi$|^[1-4]Gi$", var.prometheus_sidecar.memory)), false)
    error_message = "prometheus_sidecar has a memory of 128Mi to 4Gi."
  }

  validation {
    condition     = var.platform == "cloud-run" || var.prometheus_sidecar == null
    error_message = "prometheus_sidecar is for platform = \"cloud-run\": in a cluster take knative/monitoring/."
  }
}
