"""What do people say? The queue of answers, agreement between reviewers, and sign-offs by role."""
