"""The distribution protocol's client side: requests, credentials, nothing about what is stored here."""
