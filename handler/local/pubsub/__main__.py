"""`python -m handler.local.pubsub`."""

from handler.local.pubsub.cli import command

if __name__ == "__main__":
    command(prog_name="python -m handler.local.pubsub")
