# What follows from model_slots: instances, and the slots and the line of each.

mock_provider "google" {}

variables {
  project   = "my-project"
  region    = "europe-west4"
  image     = "registry.example/my-project/relay/inference-relay@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  model_url = "https://model.example.com/openai"
}

run "slots_1" {
  command = plan
  variables {
    model_slots = 1
  }

  assert {
    condition     = output.slots == { used = 1, of = 1, instances = 1, an_instance = 1, held = 1000 }
    error_message = "1 slots are shared out between 1 instance."
  }

  assert {
    condition     = { for one in google_cloud_run_v2_service.relay[0].template[0].containers[0].env : one.name => one.value if contains(["MODEL_SLOTS", "MAX_WAITING"], one.name) } == { MODEL_SLOTS = "1", MAX_WAITING = "999" } && google_cloud_run_v2_service.relay[0].template[0].max_instance_request_concurrency == 1000
    error_message = "Slots and line are what Cloud Run lets in."
  }

  assert {
    condition     = google_cloud_run_v2_service.relay[0].scaling[0].min_instance_count == 1 && google_cloud_run_v2_service.relay[0].scaling[0].max_instance_count == 1 && google_cloud_run_v2_service.relay[0].template[0].scaling[0].max_instance_count == 1
    error_message = "As many are kept as there may be."
  }
}

run "slots_2" {
  command = plan
  variables {
    model_slots = 2
  }

  assert {
    condition     = output.slots == { used = 2, of = 2, instances = 2, an_instance = 1, held = 2000 }
    error_message = "2 slots are shared out between 2 instances."
  }

  assert {
    condition     = { for one in google_cloud_run_v2_service.relay[0].template[0].containers[0].env : one.name => one.value if contains(["MODEL_SLOTS", "MAX_WAITING"], one.name) } == { MODEL_SLOTS = "1", MAX_WAITING = "999" } && google_cloud_run_v2_service.relay[0].template[0].max_instance_request_concurrency == 1000
    error_message = "Slots and line are what Cloud Run lets in."
  }

  assert {
    condition     = google_cloud_run_v2_service.relay[0].scaling[0].min_instance_count == 2 && google_cloud_run_v2_service.relay[0].scaling[0].max_instance_count == 2 && google_cloud_run_v2_service.relay[0].template[0].scaling[0].max_instance_count == 2
    error_message = "As many are kept as there may be."
  }
}

run "slots_3" {
  command = plan
  variables {
    model_slots = 3
  }

  assert {
    condition     = output.slots == { used = 3, of = 3, instances = 3, an_instance = 1, held = 3000 }
    error_message = "3 slots are shared out between 3 instances."
  }

  assert {
    condition     = { for one in google_cloud_run_v2_service.relay[0].template[0].containers[0].env : one.name => one.value if contains(["MODEL_SLOTS", "MAX_WAITING"], one.name) } == { MODEL_SLOTS = "1", MAX_WAITING = "999" } && google_cloud_run_v2_service.relay[0].template[0].max_instance_request_concurrency == 1000
    error_message = "Slots and line are what Cloud Run lets in."
  }

  assert {
    condition     = google_cloud_run_v2_service.relay[0].scaling[0].min_instance_count == 3 && google_cloud_run_v2_service.relay[0].scaling[0].max_instance_count == 3 && google_cloud_run_v2_service.relay[0].template[0].scaling[0].max_instance_count == 3
    error_message = "As many are kept as there may be."
  }
}

run "slots_4" {
  command = plan
  variables {
    model_slots = 4
  }

  assert {
    condition     = output.slots == { used = 4, of = 4, instances = 2, an_instance = 2, held = 2000 }
    error_message = "4 slots are shared out between 2 instances."
  }

  assert {
    condition     = { for one in google_cloud_run_v2_service.relay[0].template[0].containers[0].env : one.name => one.value if contains(["MODEL_SLOTS", "MAX_WAITING"], one.name) } == { MODEL_SLOTS = "2", MAX_WAITING = "998" } && google_cloud_run_v2_service.relay[0].template[0].max_instance_request_concurrency == 1000
    error_message = "Slots and line are what Cloud Run lets in."
  }

  assert {
    condition     = google_cloud_run_v2_service.relay[0].scaling[0].min_instance_count == 2 && google_cloud_run_v2_service.relay[0].scaling[0].max_instance_count == 2 && google_cloud_run_v2_service.relay[0].template[0].scaling[0].max_instance_count == 2
    error_message = "As many are kept as there may be."
  }
}

run "slots_5" {
  command = plan
  variables {
    model_slots = 5
  }

  assert {
    condition     = output.slots == { used = 6, of = 5, instances = 3, an_instance = 2, held = 3000 }
    error_message = "5 slots are shared out between 3 instances."
  }

  assert {
    condition     = { for one in google_cloud_run_v2_service.relay[0].template[0].containers[0].env : one.name => one.value if contains(["MODEL_SLOTS", "MAX_WAITING"], one.name) } == { MODEL_SLOTS = "2", MAX_WAITING = "998" } && google_cloud_run_v2_service.relay[0].template[0].max_instance_request_concurrency == 1000
    error_message = "Slots and line are what Cloud Run lets in."
  }

  assert {
    condition     = google_cloud_run_v2_service.relay[0].scaling[0].min_instance_count == 3 && google_cloud_run_v2_service.relay[0].scaling[0].max_instance_count == 3 && google_cloud_run_v2_service.relay[0].template[0].scaling[0].max_instance_count == 3
    error_message = "As many are kept as there may be."
  }
}

run "slots_7" {
  command = plan
  variables {
    model_slots = 7
  }

  assert {
    condition     = output.slots == { used = 8, of = 7, instances = 2, an_instance = 4, held = 2000 }
    error_message = "7 slots are shared out between 2 instances."
  }

  assert {
    condition     = { for one in google_cloud_run_v2_service.relay[0].template[0].containers[0].env : one.name => one.value if contains(["MODEL_SLOTS", "MAX_WAITING"], one.name) } == { MODEL_SLOTS = "4", MAX_WAITING = "996" } && google_cloud_run_v2_service.relay[0].template[0].max_instance_request_concurrency == 1000
    error_message = "Slots and line are what Cloud Run lets in."
  }

  assert {
    condition     = google_cloud_run_v2_service.relay[0].scaling[0].min_instance_count == 2 && google_cloud_run_v2_service.relay[0].scaling[0].max_instance_count == 2 && google_cloud_run_v2_service.relay[0].template[0].scaling[0].max_instance_count == 2
    error_message = "As many are kept as there may be."
  }
}

run "slots_64" {
  command = plan
  variables {
    model_slots = 64
  }

  assert {
    condition     = output.slots == { used = 66, of = 64, instances = 3, an_instance = 22, held = 3000 }
    error_message = "64 slots are shared out between 3 instances."
  }

  assert {
    condition     = { for one in google_cloud_run_v2_service.relay[0].template[0].containers[0].env : one.name => one.value if contains(["MODEL_SLOTS", "MAX_WAITING"], one.name) } == { MODEL_SLOTS = "22", MAX_WAITING = "978" } && google_cloud_run_v2_service.relay[0].template[0].max_instance_request_concurrency == 1000
    error_message = "Slots and line are what Cloud Run lets in."
  }

  assert {
    condition     = google_cloud_run_v2_service.relay[0].scaling[0].min_instance_count == 3 && google_cloud_run_v2_service.relay[0].scaling[0].max_instance_count == 3 && google_cloud_run_v2_service.relay[0].template[0].scaling[0].max_instance_count == 3
    error_message = "As many are kept as there may be."
  }
}

run "slots_256" {
  command = plan
  variables {
    model_slots = 256
  }

  assert {
    condition     = output.slots == { used = 258, of = 256, instances = 3, an_instance = 86, held = 3000 }
    error_message = "256 slots are shared out between 3 instances."
  }

  assert {
    condition     = { for one in google_cloud_run_v2_service.relay[0].template[0].containers[0].env : one.name => one.value if contains(["MODEL_SLOTS", "MAX_WAITING"], one.name) } == { MODEL_SLOTS = "86", MAX_WAITING = "914" } && google_cloud_run_v2_service.relay[0].template[0].max_instance_request_concurrency == 1000
    error_message = "Slots and line are what Cloud Run lets in."
  }

  assert {
    condition     = google_cloud_run_v2_service.relay[0].scaling[0].min_instance_count == 3 && google_cloud_run_v2_service.relay[0].scaling[0].max_instance_count == 3 && google_cloud_run_v2_service.relay[0].template[0].scaling[0].max_instance_count == 3
    error_message = "As many are kept as there may be."
  }
}

run "slots_1000" {
  command = plan
  variables {
    model_slots = 1000
  }

  assert {
    condition     = output.slots == { used = 1002, of = 1000, instances = 3, an_instance = 334, held = 3000 }
    error_message = "1000 slots are shared out between 3 instances."
  }

  assert {
    condition     = { for one in google_cloud_run_v2_service.relay[0].template[0].containers[0].env : one.name => one.value if contains(["MODEL_SLOTS", "MAX_WAITING"], one.name) } == { MODEL_SLOTS = "334", MAX_WAITING = "666" } && google_cloud_run_v2_service.relay[0].template[0].max_instance_request_concurrency == 1000
    error_message = "Slots and line are what Cloud Run lets in."
  }

  assert {
    condition     = google_cloud_run_v2_service.relay[0].scaling[0].min_instance_count == 3 && google_cloud_run_v2_service.relay[0].scaling[0].max_instance_count == 3 && google_cloud_run_v2_service.relay[0].template[0].scaling[0].max_instance_count == 3
    error_message = "As many are kept as there may be."
  }
}

run "slots_1500" {
  command = plan
  variables {
    model_slots = 1500
  }

  assert {
    condition     = output.slots == { used = 1500, of = 1500, instances = 3, an_instance = 500, held = 3000 }
    error_message = "1500 slots are shared out between 3 instances."
  }

  assert {
    condition     = { for one in google_cloud_run_v2_service.relay[0].template[0].containers[0].env : one.name => one.value if contains(["MODEL_SLOTS", "MAX_WAITING"], one.name) } == { MODEL_SLOTS = "500", MAX_WAITING = "500" } && google_cloud_run_v2_service.relay[0].template[0].max_instance_request_concurrency == 1000
    error_message = "Slots and line are what Cloud Run lets in."
  }

  assert {
    condition     = google_cloud_run_v2_service.relay[0].scaling[0].min_instance_count == 3 && google_cloud_run_v2_service.relay[0].scaling[0].max_instance_count == 3 && google_cloud_run_v2_service.relay[0].template[0].scaling[0].max_instance_count == 3
    error_message = "As many are kept as there may be."
  }
}

run "slots_1501" {
  command = plan
  variables {
    model_slots = 1501
  }

  assert {
    condition     = output.slots == { used = 1504, of = 1501, instances = 4, an_instance = 376, held = 4000 }
    error_message = "1501 slots are shared out between 4 instances."
  }

  assert {
    condition     = { for one in google_cloud_run_v2_service.relay[0].template[0].containers[0].env : one.name => one.value if contains(["MODEL_SLOTS", "MAX_WAITING"], one.name) } == { MODEL_SLOTS = "376", MAX_WAITING = "624" } && google_cloud_run_v2_service.relay[0].template[0].max_instance_request_concurrency == 1000
    error_message = "Slots and line are what Cloud Run lets in."
  }

  assert {
    condition     = google_cloud_run_v2_service.relay[0].scaling[0].min_instance_count == 4 && google_cloud_run_v2_service.relay[0].scaling[0].max_instance_count == 4 && google_cloud_run_v2_service.relay[0].template[0].scaling[0].max_instance_count == 4
    error_message = "As many are kept as there may be."
  }
}

run "slots_6000" {
  command = plan
  variables {
    model_slots = 6000
  }

  assert {
    condition     = output.slots == { used = 6000, of = 6000, instances = 12, an_instance = 500, held = 12000 }
    error_message = "6000 slots are shared out between 12 instances."
  }

  assert {
    condition     = { for one in google_cloud_run_v2_service.relay[0].template[0].containers[0].env : one.name => one.value if contains(["MODEL_SLOTS", "MAX_WAITING"], one.name) } == { MODEL_SLOTS = "500", MAX_WAITING = "500" } && google_cloud_run_v2_service.relay[0].template[0].max_instance_request_concurrency == 1000
    error_message = "Slots and line are what Cloud Run lets in."
  }

  assert {
    condition     = google_cloud_run_v2_service.relay[0].scaling[0].min_instance_count == 12 && google_cloud_run_v2_service.relay[0].scaling[0].max_instance_count == 12 && google_cloud_run_v2_service.relay[0].template[0].scaling[0].max_instance_count == 12
    error_message = "As many are kept as there may be."
  }
}

run "scaled_to_zero" {
  command = plan
  variables {
    model_slots   = 64
    max_instances = 1
    min_instances = 0
  }

  assert {
    condition     = output.slots == { used = 64, of = 64, instances = 1, an_instance = 64, held = 1000 } && google_cloud_run_v2_service.relay[0].scaling[0].min_instance_count == 0
    error_message = "One instance, paid while it works, has all slots."
  }
}

run "line_longer_than_cloud_run_allows" {
  command = plan
  variables {
    model_slots = 66
    max_waiting = 3000
  }

  assert {
    condition     = google_cloud_run_v2_service.relay[0].template[0].max_instance_request_concurrency == 1000 && output.slots.held == 3000
    error_message = "Cloud Run gives an instance no more than 1,000."
  }
}

run "no_line" {
  command = plan
  variables {
    model_slots = 66
    max_waiting = 0
  }

  assert {
    condition     = google_cloud_run_v2_service.relay[0].template[0].max_instance_request_concurrency == 22
    error_message = "Without a line an instance takes what it has slots for."
  }
}

run "on_knative" {
  command = plan
  variables {
    platform    = "knative"
    image       = null
    model_url   = null
    model_slots = 256
    knative     = { endpoint = "https://relay.example.com" }
  }

  assert {
    condition     = output.slots == { used = 256, of = 256, instances = 2, an_instance = 128, held = 6256 } && output.knative_settings.MODEL_SLOTS == "128" && output.knative_settings.MAX_WAITING == "3000"
    error_message = "In a cluster one instance holds all that Pub/Sub sends at once."
  }
}

run "one_slot_on_knative" {
  command = plan
  variables {
    platform    = "knative"
    image       = null
    model_url   = null
    model_slots = 1
    knative     = { endpoint = "https://relay.example.com" }
  }

  assert {
    condition     = output.slots.instances == 1 && output.slots.an_instance == 1
    error_message = "No instance is without a slot."
  }
}

run "cold_starts" {
  command = plan
  variables {
    model_slots   = 64
    min_instances = 0
    network       = { network = "n", subnetwork = "s" }
  }
  expect_failures = [check.cold_starts]
}

run "cold_starts_with_a_margin" {
  command = plan
  variables {
    model_slots           = 64
    min_instances         = 0
    margin_seconds        = 60
    model_timeout_seconds = 500
    network               = { network = "n", subnetwork = "s" }
  }
}

run "one_kept" {
  command = plan
  variables {
    model_slots   = 64
    min_instances = 1
    network       = { network = "n", subnetwork = "s" }
  }
}
