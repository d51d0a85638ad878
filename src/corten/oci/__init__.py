"""The OCI specifications as data and pure functions. No input or output."""
