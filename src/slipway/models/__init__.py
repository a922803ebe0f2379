"""Which model, at what price, called how patiently."""
