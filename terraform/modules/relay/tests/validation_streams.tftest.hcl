# Each wrong value of streams stops the plan, at the variable that says why.

mock_provider "google" {}

variables {
  project     = "my-project"
  region      = "europe-west4"
  image       = "registry.example/my-project/relay/inference-relay@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  model_url   = "https://model.example.com/openai"
  model_slots = 80
}

run "stream_name" {
  command = plan
  variables {
    streams = { Urgent = {} }
  }
  expect_failures = [var.streams]
}

run "stream_without_a_model" {
  command = plan
  variables {
    platform  = "knative"
    image     = null
    knative   = { endpoint = "https://relay.example.com" }
    model_url = null
    streams   = { urgent = {} }
  }
  expect_failures = [var.streams]
}

run "stream_push_filter" {
  command = plan
  variables {
    streams = { push = { filter = "attributes:a" } }
  }
  expect_failures = [var.streams]
}

run "stream_push_topic" {
  command = plan
  variables {
    streams = { push = { request_topic = "projects/p/topics/asked" } }
  }
  expect_failures = [var.streams]
}

run "stream_push_requesters" {
  command = plan
  variables {
    streams = { push = { requesters = ["user:ann@example.com"] } }
  }
  expect_failures = [var.streams]
}

run "stream_request_topic" {
  command = plan
  variables {
    streams = { urgent = { request_topic = "asked" } }
  }
  expect_failures = [var.streams]
}

run "stream_response_topic" {
  command = plan
  variables {
    streams = { urgent = { response_topic = "answered" } }
  }
  expect_failures = [var.streams]
}

run "stream_filter" {
  command = plan
  variables {
    filter  = "NOT attributes:a"
    streams = { urgent = { filter = "attributes.é:*" } }
  }
  expect_failures = [var.streams]
}

run "stream_reader_filter" {
  command = plan
  variables {
    streams = { urgent = { response_subscriptions = { a = { filter = "attributes.é:*" } } } }
  }
  expect_failures = [var.streams]
}

run "stream_requesters_of_the_relays_topic" {
  command = plan
  variables {
    filter  = "NOT attributes:a"
    streams = { nightly = { filter = "attributes:a", requesters = ["user:ann@example.com"] } }
  }
  expect_failures = [var.streams]
}

run "stream_requesters_everybody" {
  command = plan
  variables {
    streams = { urgent = { requesters = ["allUsers"] } }
  }
  expect_failures = [var.streams]
}

run "stream_members_everybody" {
  command = plan
  variables {
    streams = { urgent = { response_subscriptions = { a = { members = ["allAuthenticatedUsers"] } } } }
  }
  expect_failures = [var.streams]
}

run "stream_reader_name" {
  command = plan
  variables {
    streams = { urgent = { response_subscriptions = { Team_A = {} } } }
  }
  expect_failures = [var.streams]
}

run "stream_priority" {
  command = plan
  variables {
    streams = { urgent = { priority = "urgent" } }
  }
  expect_failures = [var.streams]
}

run "stream_share_none" {
  command = plan
  variables {
    streams = { urgent = { max_share = 0 } }
  }
  expect_failures = [var.streams]
}

run "stream_share_many" {
  command = plan
  variables {
    streams = { urgent = { max_share = 1.5 } }
  }
  expect_failures = [var.streams]
}

run "stream_models_none" {
  command = plan
  variables {
    streams = { urgent = { models = [] } }
  }
  expect_failures = [var.streams]
}

run "stream_models_star_inside" {
  command = plan
  variables {
    streams = { urgent = { models = ["a*b"] } }
  }
  expect_failures = [var.streams]
}

run "stream_paths" {
  command = plan
  variables {
    streams = { urgent = { allowed_paths = ["v1"] } }
  }
  expect_failures = [var.streams]
}

run "stream_attempts" {
  command = plan
  variables {
    streams = { urgent = { max_attempts = 100 } }
  }
  expect_failures = [var.streams]
}

run "stream_attempts_none" {
  command = plan
  variables {
    streams = { urgent = { max_attempts = 0 } }
  }
  expect_failures = [var.streams]
}

run "stream_attempts_half" {
  command = plan
  variables {
    streams = { urgent = { max_attempts = 2.5 } }
  }
  expect_failures = [var.streams]
}

run "response_topics_short" {
  command = plan
  variables {
    response_topics = ["answers"]
  }
  expect_failures = [var.response_topics]
}

run "attribute_with_a_blank" {
  command = plan
  variables {
    attribute_headers = { "a b" = "x-a" }
  }
  expect_failures = [var.attribute_headers]
}

run "attribute_header_with_a_blank" {
  command = plan
  variables {
    attribute_headers = { a = "x a" }
  }
  expect_failures = [var.attribute_headers]
}

run "attribute_header_authorization" {
  command = plan
  variables {
    attribute_headers = { a = "Authorization" }
  }
  expect_failures = [var.attribute_headers]
}

run "attribute_header_proxy" {
  command = plan
  variables {
    attribute_headers = { a = "Proxy-Authorization" }
  }
  expect_failures = [var.attribute_headers]
}

run "environment_routes_file" {
  command = plan
  variables {
    environment = { ROUTES_FILE = "/tmp/routes.yaml" }
  }
  expect_failures = [var.environment]
}

run "environment_route_key" {
  command = plan
  variables {
    environment = { MODEL_API_KEY_CHAT = "sk" }
  }
  expect_failures = [var.environment]
}

# And what is just right does not.

run "streams_just_right" {
  command = plan
  variables {
    streams = {
      a          = { max_share = 1, max_attempts = 99, models = ["*"], response_subscriptions = { answers = {} } }
      push-later = { max_share = 0.01, max_attempts = 1, priority = "normal" }
    }
  }
}
