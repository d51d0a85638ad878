"""BuildKit's protocol: gRPC over hijacked connections, by which buildx, bake and compose have images built."""
