"""MLPs of finite width: real weights, and samplers exact in law; no equation of the limit is known here."""
