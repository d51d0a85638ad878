"""The kernel as functions: a wrapper has its system call's name, its man page, and no policy."""
