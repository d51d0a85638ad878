"""Words every layer uses: errors, ids, paths, units. No policy and no kernel."""
