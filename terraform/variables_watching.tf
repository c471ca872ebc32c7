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
}

variable "runbook_url" {
  description = "Where your copy of docs/runbook.md can be read, for the links in alerts, such as https://git.example.com/inference-relay/blob/main/docs/runbook.md. Left out, alerts name the file."
  type        = string
  default     = null
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
}
