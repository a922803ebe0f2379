"""What the attributes and events of a span mean, in every convention in use: one mapping table a dialect."""
