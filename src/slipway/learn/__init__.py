"""What was learnt after launch goes back: findings, drafts of the change, and whether it closed."""
