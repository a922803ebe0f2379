"""Vector stores: backends that keep the chunks and vectors of index versions and search them."""
