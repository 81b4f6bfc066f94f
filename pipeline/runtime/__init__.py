"""Ray: the session, the nodes, the placement of work, tasks, devices, and the lease of a run's folder."""
