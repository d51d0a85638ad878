"""`corten build` over BuildKit's protocol: what the flags ask for, what the engine may ask back, what is shown."""
