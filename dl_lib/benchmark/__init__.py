"""How fast the routed network is, and how much memory it takes, on this machine."""
