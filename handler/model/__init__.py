"""The model service: what is sent to it, as whom, and what comes back."""
