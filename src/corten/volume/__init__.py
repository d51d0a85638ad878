"""Volumes: directories that outlive containers."""
