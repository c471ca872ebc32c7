"""The page that shows what happens to messages on this machine, and lets one break things and see nothing lost."""
