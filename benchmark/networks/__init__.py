"""Networks: parse their names and build them."""
