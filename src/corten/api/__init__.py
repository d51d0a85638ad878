"""The Engine HTTP API: requests are decoded here and answers encoded; nothing is decided."""
