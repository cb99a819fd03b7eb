"""What several processes at one store share: nodes, leases, notifications, login failures, shares of limits."""
