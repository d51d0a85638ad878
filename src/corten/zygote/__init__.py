"""The process that forks every container, holds its stdio and records its exit."""
