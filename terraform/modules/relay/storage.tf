# Where content lies that no message can hold: the claim check. The message says where, so the object has to outlive it.

locals {
  # A request waits for its retention at most; the response that was stored for it may be published only then, and waits for
  # up to the longest retention there is, 31 days, which the subscription of a batch's own has.
  outlived_days   = ceil((var.message_retention_seconds + 2678400) / 86400)
  response_bucket = var.response_bucket == null ? null : coalesce(var.response_bucket.name, "${var.project}-${var.name}-responses")
}

resource "google_storage_bucket" "responses" {
  count = var.response_bucket == null ? 0 : 1

  project                     = var.project
  name                        = local.response_bucket
  location                    = upper(var.region)
  labels                      = var.labels
  storage_class               = "STANDARD"
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = !var.deletion_protection

  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      age = coalesce(var.response_bucket.days, local.outlived_days + 1)
    }
  }

  # What has expired is not to be paid for any longer.
  soft_delete_policy {
    retention_duration_seconds = 0
  }

  dynamic "encryption" {
    for_each = var.kms_key == null ? [] : [var.kms_key]
    content {
      default_kms_key_name = encryption.value
    }
  }
}

# The relay writes responses, and its check the same object twice, which takes the right to delete: objectCreator would not do.
resource "google_storage_bucket_iam_member" "relay_writes" {
  count = var.response_bucket == null ? 0 : 1

  bucket = google_storage_bucket.responses[0].name
  role   = "roles/storage.objectUser"
  member = local.relay_member

  lifecycle {
    replace_triggered_by = [google_storage_bucket.responses[0].id]
  }
}

# With the right to list, without which Google says "denied" of an object that is not there.
resource "google_storage_bucket_iam_member" "relay_reads" {
  for_each = var.request_buckets

  bucket = each.value
  role   = "roles/storage.objectViewer"
  member = local.relay_member
}

resource "google_storage_bucket_iam_member" "response_readers" {
  for_each = var.response_bucket == null ? toset([]) : var.response_bucket.readers

  bucket = google_storage_bucket.responses[0].name
  role   = "roles/storage.objectViewer"
  member = each.value

  lifecycle {
    replace_triggered_by = [google_storage_bucket.responses[0].id]
  }
}
