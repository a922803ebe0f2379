"""From a requirement to a plan, and from the plan to files that a machine, compose, Kubernetes or vLLM understands."""
