"""Networks: bridges, addresses, ports, names, as pure decisions and kernel objects."""
