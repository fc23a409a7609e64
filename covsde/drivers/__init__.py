"""One file per question: what a user asks of an architecture, in the limit and in finite networks."""
