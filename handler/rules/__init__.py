"""The rules: pure, tabled, no I/O. What is a request, what does a reply mean, what becomes of the message."""
