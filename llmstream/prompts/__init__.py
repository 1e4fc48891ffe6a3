"""What a request looks like: templates, and the body that would go to the API. Pure."""
