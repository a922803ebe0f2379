"""The door for clients: /v1 in the shape of the OpenAI API, tied to channels and releases."""
