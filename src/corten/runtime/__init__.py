"""A bundle becomes a container: what runc does, in named steps."""
