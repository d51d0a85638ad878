"""BuildKit's protocol as both sides of it need it: messages, and gRPC on a connection taken over from HTTP."""
