"""Mean-field networks of finite width; no equation of the limit is known here."""
