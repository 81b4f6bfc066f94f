"""Ray: the session, the nodes, where work is placed, tasks, and the lease of a run's folder."""
