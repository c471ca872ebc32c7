# Each wrong value stops the plan, at the variable that says why: those of variables_watching.tf.

mock_provider "google" {}

variables {
  project     = "my-project"
  region      = "europe-west4"
  image       = "registry.example/my-project/relay/inference-relay@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  model_url   = "https://model.example.com/openai"
  model_slots = 80
}

run "notification_channel_mail" {
  command = plan
  variables {
    notification_channels = ["ann@example.com"]
  }
  expect_failures = [var.notification_channels]
}

run "channels_without_alerts" {
  command = plan
  variables {
    monitoring            = false
    notification_channels = ["projects/my-project/notificationChannels/42"]
  }
  expect_failures = [var.notification_channels]
}

run "alerts_share_percent" {
  command = plan
  variables {
    alerts = { error_share = 5 }
  }
  expect_failures = [var.alerts]
}

run "alerts_oldest_never" {
  command = plan
  variables {
    alerts = { oldest_seconds = 604800 }
  }
  expect_failures = [var.alerts]
}

run "alerts_off_unknown" {
  command = plan
  variables {
    alerts = { off = ["warnings"] }
  }
  expect_failures = [var.alerts]
}

run "runbook_url_path" {
  command = plan
  variables {
    runbook_url = "docs/runbook.md"
  }
  expect_failures = [var.runbook_url]
}

run "sidecar_tag" {
  command = plan
  variables {
    prometheus_sidecar = { image = "registry.example/sidecar:1.9.2" }
  }
  expect_failures = [var.prometheus_sidecar]
}

run "sidecar_port" {
  command = plan
  variables {
    prometheus_sidecar = { image = "registry.example/sidecar@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", port = 8080 }
  }
  expect_failures = [var.prometheus_sidecar]
}

run "sidecar_interval" {
  command = plan
  variables {
    prometheus_sidecar = { image = "registry.example/sidecar@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", interval_seconds = 600 }
  }
  expect_failures = [var.prometheus_sidecar]
}

run "sidecar_cpu" {
  command = plan
  variables {
    prometheus_sidecar = { image = "registry.example/sidecar@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", cpu = 8 }
  }
  expect_failures = [var.prometheus_sidecar]
}

run "sidecar_memory" {
  command = plan
  variables {
    prometheus_sidecar = { image = "registry.example/sidecar@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", memory = "64Mi" }
  }
  expect_failures = [var.prometheus_sidecar]
}

run "sidecar_knative" {
  command = plan
  variables {
    platform           = "knative"
    image              = null
    model_url          = null
    knative            = { endpoint = "https://relay.example.com" }
    prometheus_sidecar = { image = "registry.example/sidecar@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" }
  }
  expect_failures = [var.prometheus_sidecar]
}
