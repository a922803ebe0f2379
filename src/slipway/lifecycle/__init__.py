"""An application through all its stages: start one, bring it up, show a whole life."""
