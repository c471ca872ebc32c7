"""What comes in: a push becomes a message; who may push."""
