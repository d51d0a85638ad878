"""The only place that decides: containers, images, networks and volumes as one engine."""
