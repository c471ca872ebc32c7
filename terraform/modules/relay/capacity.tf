# How many instances, and what each of them does at once. model_slots (or a route's slots) is the model service's, and all of it
# is shared out: an instance more is slots more, so that their number is a matter of the model and never of how long the line is.

locals {
  on_cloud_run = var.platform == "cloud-run"

  # Pub/Sub has at most about so many pushes outstanding with a slow endpoint. What is not held waits in Pub/Sub as well, but
  # each refusal slows the whole subscription down.
  window = 3000
  # Cloud Run gives an instance no more at once. Of these some are in its slots, and the others in its line.
  most_at_once = 1000
  # So that there is a line: half of what an instance holds.
  most_slots = local.most_at_once / 2
  # A single instance's, of which some have to be left for the line.
  most_used = 0.9 * local.most_at_once

  # What each model service takes at once, by route.
  wanted    = length(var.routes) > 0 ? { for one in var.routes : one.name => one.slots } : { default = var.model_slots }
  all_slots = sum(values(local.wanted))

  # As many instances as hold the window or have the slots, but never so many that rounding up asks a model for more than a
  # tenth beyond what it takes. In a cluster one instance holds the window, and the second is there for the loss of one.
  wished    = local.on_cloud_run ? max(ceil(local.window / local.most_at_once), ceil(local.all_slots / local.most_slots)) : 2
  fitting   = [for n in reverse(range(1, local.wished + 1)) : n if alltrue([for one in values(local.wanted) : n <= one && ceil(one / n) * n <= ceil(1.1 * one)])]
  instances = var.max_instances != null ? var.max_instances : try(local.fitting[0], 1)
  kept      = var.min_instances != null ? var.min_instances : local.instances

  # An instance's, of each route and of all together.
  share       = { for name, slots in local.wanted : name => ceil(slots / local.instances) }
  slots       = sum(values(local.share))
  line        = var.max_waiting != null ? var.max_waiting : local.on_cloud_run ? max(local.most_at_once - local.slots, 0) : local.window
  concurrency = min(local.most_at_once, local.slots + local.line)

  # Half of what the process itself leaves is for requests that wait; the calls in the slots need the other half.
  memory_mb  = try(1024 * tonumber(trimsuffix(var.memory, "Gi")), tonumber(trimsuffix(var.memory, "Mi")), 1024)
  waiting_mb = floor((local.memory_mb - 256) / 2)
}

# What works, but not as well as it could: a warning of the plan.
check "cold_starts" {
  assert {
    condition     = !local.on_cloud_run || var.network == null || local.kept > 0 || var.margin_seconds >= 60
    error_message = "No instance is kept, and a new one may need more than a minute before its way into the network is open. Pushes wait for it in front of the service, where their deadline runs: keep one (min_instances = 1), or give margin_seconds of 60 or more."
  }
}
