"""What stands in the files: requests on their lines, answers on theirs, and where files are."""
