"""What a model's reply means, and what becomes of the message. Pure."""
