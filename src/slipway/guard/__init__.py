"""Guard: rails that check text before and after the model, on streams too."""
