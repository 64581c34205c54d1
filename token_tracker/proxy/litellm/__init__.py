"""The LiteLLM child: started by `launcher`, heard through `evidence`; the only room that knows LiteLLM's shapes."""
