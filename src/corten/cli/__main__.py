"""`python -m corten.cli`: the command line as the bootstrap script starts it."""

from corten.cli.main import start

start()
