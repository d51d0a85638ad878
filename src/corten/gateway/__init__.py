"""The API gateway: what users register, as a model; Envoy's resources from it; Envoy's process."""
