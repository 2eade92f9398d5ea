"""Which intervention for which failure: profiles, the training-free rule, honest evaluation."""
