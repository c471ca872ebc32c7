"""What a requester publishes and what it gets back: the wire contract, and how mistakes in it are told. Pure."""
