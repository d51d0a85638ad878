"""The command line: docker's verbs and flags, spoken over the daemon's socket."""
