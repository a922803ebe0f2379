"""Which road: an API, open weights hosted by us, or an own model; what each costs, and when the answer flips."""
