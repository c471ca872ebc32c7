# What no message can hold, in Cloud Storage.

mock_provider "google" {
  mock_resource "google_service_account" {
    defaults = { email = "inference-relay-run@my-project.iam.gserviceaccount.com", name = "projects/my-project/serviceAccounts/inference-relay-run@my-project.iam.gserviceaccount.com" }
  }
}

variables {
  project     = "my-project"
  region      = "europe-west4"
  image       = "registry.example/my-project/relay/inference-relay@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  model_url   = "https://model.example.com/openai"
  model_slots = 80
}

run "none" {
  assert {
    condition     = length(google_storage_bucket.responses) + length(google_storage_bucket_iam_member.relay_writes) + length(google_storage_bucket_iam_member.relay_reads) + length(google_storage_bucket_iam_member.response_readers) == 0 && output.response_bucket == null
    error_message = "There is no bucket unless asked for."
  }

  assert {
    condition     = length([for one in google_cloud_run_v2_service.relay[0].template[0].containers[0].env : one if contains(["REQUEST_BUCKETS", "RESPONSE_BUCKET"], one.name)]) == 0
    error_message = "The service knows of no bucket unless asked for."
  }
}

run "defaults" {
  variables {
    response_bucket = {}
    labels          = { team = "search" }
  }

  assert {
    condition     = google_storage_bucket.responses[0].name == "my-project-inference-relay-responses" && google_storage_bucket.responses[0].project == "my-project" && google_storage_bucket.responses[0].location == "EUROPE-WEST4" && google_storage_bucket.responses[0].labels == tomap({ team = "search" }) && output.response_bucket == "my-project-inference-relay-responses"
    error_message = "The bucket is in the service's region, and has a name that others hardly have."
  }

  assert {
    condition     = google_storage_bucket.responses[0].uniform_bucket_level_access && google_storage_bucket.responses[0].public_access_prevention == "enforced" && !google_storage_bucket.responses[0].force_destroy
    error_message = "Nobody reads it by an object's own rights, and it is not destroyed with what is in it."
  }

  assert {
    condition     = google_storage_bucket.responses[0].lifecycle_rule[0].condition[0].age == 39 && google_storage_bucket.responses[0].lifecycle_rule[0].action[0].type == "Delete" && google_storage_bucket.responses[0].soft_delete_policy[0].retention_duration_seconds == 0 && length(google_storage_bucket.responses[0].encryption) == 0
    error_message = "A response outlives the request's retention and the longest one of its message, and is then gone."
  }

  assert {
    condition     = google_storage_bucket_iam_member.relay_writes[0].bucket == google_storage_bucket.responses[0].name && google_storage_bucket_iam_member.relay_writes[0].role == "roles/storage.objectUser" && google_storage_bucket_iam_member.relay_writes[0].member == "serviceAccount:inference-relay-run@my-project.iam.gserviceaccount.com"
    error_message = "The relay writes there, and has no right on the bucket itself."
  }

  assert {
    condition     = [for one in google_cloud_run_v2_service.relay[0].template[0].containers[0].env : one.value if one.name == "RESPONSE_BUCKET"] == ["my-project-inference-relay-responses"]
    error_message = "The service is told."
  }
}

run "everything" {
  variables {
    request_buckets           = ["our-inputs", "audio.example.com"]
    response_bucket           = { name = "our-responses", days = 90, readers = ["group:team@example.com"] }
    message_retention_seconds = 3888000 / 2
    deletion_protection       = false
    kms_key                   = "projects/p/locations/europe-west4/keyRings/r/cryptoKeys/k"
  }

  assert {
    condition     = google_storage_bucket.responses[0].name == "our-responses" && google_storage_bucket.responses[0].lifecycle_rule[0].condition[0].age == 90 && google_storage_bucket.responses[0].force_destroy && google_storage_bucket.responses[0].encryption[0].default_kms_key_name == "projects/p/locations/europe-west4/keyRings/r/cryptoKeys/k"
    error_message = "What was chosen counts."
  }

  assert {
    condition     = { for name, one in google_storage_bucket_iam_member.relay_reads : name => "${one.bucket} ${one.role} ${one.member}" } == { for name in ["audio.example.com", "our-inputs"] : name => "${name} roles/storage.objectViewer serviceAccount:inference-relay-run@my-project.iam.gserviceaccount.com" }
    error_message = "The relay may read, and list, what requests may refer to."
  }

  assert {
    condition     = google_storage_bucket_iam_member.response_readers["group:team@example.com"].role == "roles/storage.objectViewer" && google_storage_bucket_iam_member.response_readers["group:team@example.com"].bucket == "our-responses" && google_storage_bucket_iam_member.response_readers["group:team@example.com"].member == "group:team@example.com"
    error_message = "Readers may read responses."
  }

  assert {
    condition     = { for one in google_cloud_run_v2_service.relay[0].template[0].containers[0].env : one.name => one.value if contains(["REQUEST_BUCKETS", "RESPONSE_BUCKET"], one.name) } == { REQUEST_BUCKETS = "audio.example.com,our-inputs", RESPONSE_BUCKET = "our-responses" }
    error_message = "The service is told."
  }
}

run "knative" {
  variables {
    platform        = "knative"
    image           = null
    model_url       = null
    knative         = { endpoint = "https://relay.example.com" }
    request_buckets = ["our-inputs"]
    response_bucket = {}
  }

  assert {
    condition     = output.knative_settings.REQUEST_BUCKETS == "our-inputs" && output.knative_settings.RESPONSE_BUCKET == "my-project-inference-relay-responses"
    error_message = "The settings that were made here are printed for the cluster."
  }
}
