# What whoever looks wants to know in a minute: is it answered, how fast, and what goes wrong.

locals {
  run_labels = "project_id=\"${var.project}\",monitored_resource=\"cloud_run_revision\",service_name=\"${var.name}\""
  # What the sidecar reads has the service's name as its namespace.
  scraped = "cluster=\"__run__\",namespace=\"${var.name}\""
  seconds = "sum by (le) (rate(${local.logged}_push_seconds_bucket{${local.logged_on}}[5m]))"

  # The numbers on top: title, query, unit, and from where on it is bad.
  numbers = [
    { title = "Requests that wait", query = local.waiting, unit = "1", bad = null },
    { title = "Oldest request", query = "max(pubsub_googleapis_com:subscription_oldest_unacked_message_age{${local.push_subscription}})", unit = "s", bad = coalesce(var.alerts.oldest_seconds, floor(var.max_age_seconds / 2)) },
    { title = "Answers a minute", query = "60 * sum(rate(${local.pushes},response_class=\"ack\"}[5m]))", unit = "1", bad = null },
    { title = "Dead letters", query = "sum(pubsub_googleapis_com:subscription_num_undelivered_messages{${local.dead_letter_subscription}})", unit = "1", bad = 0.5 },
  ]

  # The charts, two in a row: title, unit, whether the lines are stacked, and the queries by what they show; and a line to compare with.
  charts_of_pushes = [
    {
      title   = "Waiting, and under way"
      unit    = "1", stacked = false, line = { says = "the model's slots", at = local.instances * local.slots }
      queries = { "waiting, unanswered" = local.waiting, "pushed, and not answered yet" = local.outstanding }
    },
    {
      title   = "Age of the oldest request"
      unit    = "s", stacked = false, line = { says = "answered with its error from here on", at = var.max_age_seconds }
      queries = { age = "max(pubsub_googleapis_com:subscription_oldest_unacked_message_age{${local.push_subscription}})" }
    },
    {
      title   = "How pushes ended, by reason"
      unit    = "1/s", stacked = true, line = null
      queries = { "by label" = "sum by (reason) (rate(${local.logged}_pushes{${local.logged_on}}[5m]))" }
    },
    {
      title   = "What Pub/Sub got for its pushes"
      unit    = "1/s", stacked = true, line = null
      queries = { "by label" = "sum by (response_class) (rate(${local.pushes}}[5m]))" }
    },
    {
      title = "How long a push takes, its wait in the line included"
      unit  = "s", stacked = false, line = { says = "Pub/Sub gives up", at = var.ack_deadline_seconds }
      queries = {
        "half are faster"        = "histogram_quantile(0.5, ${local.seconds})"
        "19 of 20 are faster"    = "histogram_quantile(0.95, ${local.seconds})"
        "99 of a 100 are faster" = "histogram_quantile(0.99, ${local.seconds})"
      }
    },
    {
      title = "Shares that alerts look at"
      unit  = "10^2.%", stacked = false, line = null
      # clamp_min: nothing by nothing is no share.
      queries = { for name, one in local.shares : name => "(${one.of}) / clamp_min(${one.among}, 1)" }
    },
    {
      title = "Requests published, and responses"
      unit  = "1/s", stacked = false, line = null
      queries = {
        requests  = "sum(rate(pubsub_googleapis_com:topic_message_sizes_count{project_id=\"${local.requests.project}\",topic_id=\"${local.requests.name}\"}[5m]))"
        responses = "sum(rate(pubsub_googleapis_com:topic_message_sizes_count{project_id=\"${local.responses.project}\",topic_id=\"${local.responses.name}\"}[5m]))"
      }
    },
    {
      title   = "The ledger's troubles, and refused tokens"
      unit    = "1", stacked = false, line = null
      queries = { for name in ["ledger_troubles", "tokens_refused"] : replace(name, "_", " ") => "sum(increase(${local.logged}_${name}{${local.logged_on}}[5m]))" }
    },
  ]
  charts_of_cloud_run = [
    {
      title   = "Instances"
      unit    = "1", stacked = true, line = { says = "as many as there shall be", at = local.instances }
      queries = { "by label" = "sum by (state) (run_googleapis_com:container_instance_count{${local.run_labels}})" }
    },
    {
      title = "Processor and memory of the busiest instances"
      unit  = "10^2.%", stacked = false, line = null
      queries = {
        processor = "histogram_quantile(0.99, sum by (le) (rate(run_googleapis_com:container_cpu_utilizations_bucket{${local.run_labels}}[5m])))"
        memory    = "histogram_quantile(0.99, sum by (le) (rate(run_googleapis_com:container_memory_utilizations_bucket{${local.run_labels}}[5m])))"
      }
    },
  ]
  # The service's own metrics, where the sidecar takes them here.
  charts_of_the_service = [
    {
      title   = "Slots in use"
      unit    = "1", stacked = false, line = null
      queries = { "in use" = "sum(inference_relay_slots_in_use{${local.scraped}})", "there are" = "sum(inference_relay_slots{${local.scraped}})", "in the line" = "sum(inference_relay_waiting{${local.scraped}})" }
    },
    {
      title   = "How long the model takes (19 of 20), by route"
      unit    = "s", stacked = false, line = { says = "cut off", at = var.model_timeout_seconds }
      queries = { "by label" = "histogram_quantile(0.95, sum by (le, route) (rate(inference_relay_model_call_duration_seconds_bucket{${local.scraped}}[5m])))" }
    },
    {
      title   = "The model's calls, by status"
      unit    = "1/s", stacked = true, line = null
      queries = { "by label" = "sum by (status) (rate(inference_relay_model_call_duration_seconds_count{${local.scraped}}[5m]))" }
    },
    {
      title   = "Tokens, by type"
      unit    = "1/s", stacked = true, line = null
      queries = { "by label" = "sum by (type) (rate(inference_relay_tokens_total{${local.scraped}}[5m]))" }
    },
  ]
  charts = concat(
    local.charts_of_pushes,
    [for one in local.charts_of_cloud_run : one if local.on_cloud_run],
    [for one in local.charts_of_the_service : one if var.prometheus_sidecar != null],
  )

  number_tiles = [for at, one in local.numbers : {
    place = { xPos = 12 * at, yPos = 0, width = 12, height = 8 }
    widget = {
      title = one.title
      scorecard = merge(
        { timeSeriesQuery = { prometheusQuery = one.query, unitOverride = one.unit }, sparkChartView = { sparkChartType = "SPARK_LINE" } },
        one.bad == null ? {} : { thresholds = [{ value = one.bad, color = "RED", direction = "ABOVE" }] },
      )
    }
  }]
  chart_tiles = [for at, one in local.charts : {
    place = { xPos = 24 * (at % 2), yPos = 8 + 16 * floor(at / 2), width = 24, height = 16 }
    widget = {
      title = one.title
      xyChart = merge({
        # Without a legend of its own a line shows its labels.
        dataSets = [for legend, query in one.queries : merge(
          { plotType = one.stacked ? "STACKED_AREA" : "LINE", timeSeriesQuery = { prometheusQuery = query, unitOverride = one.unit } },
          legend == "by label" ? {} : { legendTemplate = legend },
        )]
        yAxis = { scale = "LINEAR" }
      }, one.line == null ? {} : { thresholds = [{ label = one.line.says, value = one.line.at }] })
    }
  }]
  below = 8 + 16 * ceil(length(local.charts) / 2)
  list_tiles = [
    { place = { xPos = 0, yPos = local.below, width = 16, height = 20 }, widget = { title = "Alerts that are open", incidentList = { policyNames = [for one in google_monitoring_alert_policy.relay : one.name] } } },
    { place = { xPos = 16, yPos = local.below, width = 32, height = 20 }, widget = { title = "What went wrong", logsPanel = { filter = "${local.own_lines} AND ${local.in_trouble}", resourceNames = ["projects/${var.project}"] } } },
  ]
  # Google leaves noughts and empty lists out of what it gives back, and each plan would want to add them again.
  tiles = [for one in concat(local.number_tiles, local.chart_tiles, local.list_tiles) : merge({ for at, cells in one.place : at => cells if cells > 0 }, { widget = one.widget })]
}

resource "google_monitoring_dashboard" "relay" {
  count = var.monitoring ? 1 : 0

  project = var.project
  dashboard_json = jsonencode({
    displayName  = var.name
    mosaicLayout = { columns = 48, tiles = local.tiles }
  })
}
