"""ResNets of finite width and depth; no equation of the limit is known here."""
