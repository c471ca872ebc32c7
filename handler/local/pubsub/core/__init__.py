"""What a broker holds and by which rules: topics, subscriptions, filters, limits. No network here."""
