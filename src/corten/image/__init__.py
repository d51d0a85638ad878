"""Images on this machine: content, snapshots, unpacking, archives, pull and push."""
