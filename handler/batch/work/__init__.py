"""The work on a batch: begin, send, collect, and note in the journal what became of every line."""
